"""How connections reach a gateway: unix sockets and IPv6, sockets from systemd, the PROXY protocol."""

import asyncio
import contextlib
import re
import signal
import socket
import struct
import sys
from pathlib import Path

import pytest

from support.gateway_process import (
    DocumentServer,
    curl,
    gateway,
    raw,
    write_settings,
)
from support.ports import free_port
from support.waiting import until


async def test_gateway_serves_on_a_unix_socket_and_ipv6(server: DocumentServer, tmp_path: Path) -> None:
    settings = write_settings(tmp_path, server.port)
    port = free_port()
    text = settings.read_text()
    bind = re.search(r'bind = ("[^"]*")', text)[1]  # type: ignore[index]
    settings.write_text(text.replace(f"bind = {bind}", f'bind = [{bind}, "[::1]:{port}", "unix:{tmp_path}/gate.sock"]'))
    settings.write_text(settings.read_text())
    async with gateway(settings) as gate:
        assert (await curl(f"http://[::1]:{port}/portal", user="alice")).status == 200
        health = await curl("http://gate/_calgate/health", "--unix-socket", f"{tmp_path}/gate.sock")
        assert health.status == 200
        assert gate.process.returncode is None


async def test_systemd_is_notified_of_ready_reloading_and_stopping(server: DocumentServer, tmp_path: Path) -> None:
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.bind(str(tmp_path / "notify"))
    heard.setblocking(False)
    states: list[str] = []

    def listen_in() -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:
                states.extend(heard.recv(4096).decode().split("\n"))
        return True

    settings = write_settings(tmp_path, server.port)
    async with gateway(settings, prefix=("env", f"NOTIFY_SOCKET={tmp_path}/notify")) as gate:
        await until(lambda: listen_in() and "READY=1" in states)
        gate.process.send_signal(signal.SIGHUP)
        await until(lambda: listen_in() and states.count("READY=1") == 2)
        assert "RELOADING=1" in states
        assert any(state.startswith("MONOTONIC_USEC=") for state in states)
        assert await gate.stop() == 0
    listen_in()
    assert "STOPPING=1" in states
    heard.close()


async def test_sockets_from_systemd_are_served(server: DocumentServer, tmp_path: Path) -> None:
    """Socket activation: the descriptor is handed over as number 3, with LISTEN_FDS and LISTEN_PID set."""
    settings = write_settings(tmp_path, server.port)
    port = int(re.search(r'bind = "127.0.0.1:(\d+)"', settings.read_text())[1])  # type: ignore[index]
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
        script = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True);"
            "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
            "os.execv(sys.executable, [sys.executable, '-m', 'calgate', 'run', '-c', sys.argv[2]])"
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script, str(listening.fileno()), str(settings)),
            pass_fds=[listening.fileno()],
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            assert (await curl(f"http://127.0.0.1:{port}/_calgate/health", "--retry", "9")).status == 200
        finally:
            process.terminate()
            assert await process.wait() == 0


def proxy_2(client: str, command: int = 0x21) -> bytes:
    """Returns a PROXY header of version 2 for a client over IPv4."""
    addresses = socket.inet_aton(client) + socket.inet_aton("127.0.0.1") + struct.pack(">HH", 4711, 80)
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack(">BBH", command, 0x11, len(addresses)) + addresses


async def test_proxy_header_of_both_versions_gives_the_client_address(server: DocumentServer, tmp_path: Path) -> None:
    listen = 'proxy_protocol = true\ntrusted_proxies = ["127.0.0.1/32"]'
    settings = write_settings(tmp_path, server.port, listen=listen)
    settings.write_text(
        settings.read_text().replace('name = "app users"', 'name = "app users"\nnetworks = ["198.51.100.0/24"]')
    )
    async with gateway(settings) as gate:
        request = b"GET /_calgate/health HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n"
        for header in (
            b"PROXY TCP4 198.51.100.7 127.0.0.1 4711 80\r\n",
            proxy_2("198.51.100.7"),
            proxy_2("0.0.0.0", 0x20),
        ):
            for split in (0, 5, len(header) - 1):
                answer = await raw(gate.port, header[:split] + header[split:] + request)
                assert answer.startswith(b"HTTP/1.1 200 "), header
        for header in (
            b"",
            b"PROXY TCP4 nonsense 127.0.0.1 1 2\r\n",
            b"PROXY " + b"x" * 200,
            b"\r\n\r\n\0\r\nQUIT\n" + b"\x11" * 20,
        ):
            assert await raw(gate.port, header + request) == b"", header
        through = await curl(f"{gate.url}/portal", "--haproxy-protocol", user="alice")
        assert through.status in (401, 403)


async def test_slow_proxy_header_is_waited_for(server: DocumentServer, tmp_path: Path) -> None:
    listen = 'proxy_protocol = true\ntrusted_proxies = ["127.0.0.1/32"]'
    async with gateway(write_settings(tmp_path, server.port, listen=listen)) as gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        for piece in (
            b"PROXY TCP4 198.51",
            b".100.7 127.0.0.1 47",
            b"11 80\r\nGET /_calgate/health HTTP/1.1\r\nHost: g\r\n\r\n",
        ):
            writer.write(piece)
            await asyncio.sleep(0.1)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.alone
async def test_proxy_header_that_arrives_during_a_reload_is_waited_for(server: DocumentServer, tmp_path: Path) -> None:
    listen = 'proxy_protocol = true\ntrusted_proxies = ["127.0.0.1/32"]\nworkers = 1'
    async with gateway(write_settings(tmp_path, server.port, listen=listen)) as gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writer.write(b"PROXY TCP4 198.51")
        await asyncio.sleep(0.2)
        gate.process.send_signal(signal.SIGHUP)
        await until(lambda: "settings reloaded" in gate.log.read_text())
        await asyncio.sleep(0.3)  # until the old worker knows that it must finish
        writer.write(b".100.7 127.0.0.1 4711 80\r\nGET /_calgate/health HTTP/1.1\r\nHost: g\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()
