"""Reloads: a running service takes new settings without losing a request, and keeps the old ones if they are faulty."""

import asyncio
import contextlib
import json
import re
import signal
import ssl
from pathlib import Path

import pytest

from support.certificates import Authority
from support.gateway_process import (
    DocumentServer,
    Gateway,
    NtlmClient,
    calgate,
    cookie_of,
    curl,
    gateway,
    raw,
    workers_of,
    write_settings,
)
from support.load import load
from support.plugins import install
from support.waiting import until


def listening_on(port: int) -> int:
    """Returns how many sockets listen on a port of 127.0.0.1; processes that share a socket count once."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1] == f"0100007F:{port:04X}" and row[3] == "0A" for row in rows)


async def test_sighup_reloads_the_settings_without_failing_a_request(server: DocumentServer, tmp_path: Path) -> None:
    settings = write_settings(tmp_path, server.port)
    async with gateway(settings) as gate:
        cookie = await cookie_of(gate, "alice")
        async with load(gate, cookie) as counted:
            await until(lambda: counted.succeeded > 20)
            settings.write_text(
                settings.read_text().replace('groups = ["DEMO\\\\app-users"]', 'groups = ["DEMO\\\\others"]')
            )
            old = workers_of(gate)
            gate.process.send_signal(signal.SIGHUP)
            await until(lambda: workers_of(gate) and not set(old) & set(workers_of(gate)))
        refused = [line for line in counted.failed if "403" in line]
        assert len(refused) == len(counted.failed), counted.failed
        assert (await curl(f"{gate.url}/portal", user="mallory")).status == 200


async def test_sighup_with_a_faulty_file_changes_nothing_and_logs_the_faults(
    server: DocumentServer, tmp_path: Path
) -> None:
    settings = write_settings(tmp_path, server.port)
    async with gateway(settings) as gate:
        old = workers_of(gate)
        settings.write_text(settings.read_text().replace("[listen]", "[listen]\nworkrs = 2"))
        gate.process.send_signal(signal.SIGHUP)
        await until(lambda: "did you mean 'workers'" in gate.log.read_text())
        assert workers_of(gate) == old
        assert (await curl(f"{gate.url}/portal", user="alice")).status == 200


@pytest.mark.parametrize(
    ("given", "instead", "fault"),
    [
        ('license = "demo"', 'license = ["demo"]', "routes[1].license: must be a valid string"),
        ("[session]", "[broken]\n[session]", "broken: the plugin broken_plugin cannot be imported: ZeroDivisionError"),
        ("[session]", "x = " + "[" * 3000 + "]" * 3000 + "\n[session]", "is not TOML"),
        ("[session]", "x = " + "9" * 5000 + "\n[session]", "is not TOML"),
        ("drain", "drain", ""),
    ],
)
async def test_reload_with_a_hostile_file_keeps_the_gateway_running(
    server: DocumentServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, instead: str, fault: str
) -> None:
    site = install(tmp_path / "site", {"broken": "broken_plugin"}, {"broken_plugin": "1 / 0"})
    monkeypatch.setenv("PYTHONPATH", str(site))
    settings = write_settings(tmp_path, server.port)
    async with gateway(settings) as gate:
        settings.write_text(settings.read_text().replace(given, instead, 1))
        gate.process.send_signal(signal.SIGHUP)
        if fault:
            await until(lambda: "reload failed, keeping the current settings" in gate.log.read_text())
            assert fault in gate.log.read_text().replace('\\"', '"')
            assert "Traceback" not in gate.log.read_text()
        else:
            await until(lambda: "settings reloaded" in gate.log.read_text())
        assert (await curl(f"{gate.url}/portal", user="alice")).status == 200


async def test_reload_that_fails_in_a_worker_changes_no_license_and_logs_the_reason(
    server: DocumentServer, tmp_path: Path
) -> None:
    settings = write_settings(tmp_path, server.port, listen="workers = 2")

    async def limit() -> str:
        _, out, _ = await calgate("cals", "list", "-c", str(settings), "--json")
        return str(next(pool for pool in json.loads(out)["pools"] if pool["kind"] == "session")["limit"])

    async with gateway(settings) as gate:
        assert (await curl(f"{gate.url}/docs/sales", user="alice")).status == 200
        assert await limit() == "2"
        good = settings.read_text()
        faulty = good.replace("session = { in_license = 2", "session = { in_license = 7")
        keytab = f'[negotiate]\nkeytab = "{tmp_path}/none.keytab"'
        settings.write_text(faulty.replace("[negotiate]", keytab))
        gate.process.send_signal(signal.SIGHUP)
        await until(lambda: "reload failed, keeping the current settings" in gate.log.read_text())
        assert "none.keytab" in gate.last_line("reload failed")
        assert await limit() == "2"
        assert (await curl(f"{gate.url}/docs/sales", user="alice")).status == 200
        settings.write_text(faulty)
        gate.process.send_signal(signal.SIGHUP)
        await until(lambda: "settings reloaded" in gate.log.read_text())
        assert await limit() == "7"


async def test_failed_reload_to_more_workers_leaves_no_socket_without_a_worker(
    server: DocumentServer, tmp_path: Path
) -> None:
    settings = write_settings(tmp_path, server.port, listen="workers = 1")
    async with gateway(settings) as gate:
        text = settings.read_text().replace("workers = 1", "workers = 4")
        settings.write_text(text.replace("users.toml", "nowhere.toml"))
        gate.process.send_signal(signal.SIGHUP)
        await until(lambda: "nowhere.toml cannot be read" in gate.log.read_text())
        await until(lambda: listening_on(gate.port) == 1)
        request = b"GET /_calgate/health HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n"
        answers = await asyncio.gather(*(raw(gate.port, request) for _ in range(40)))
        assert [answer[:15] for answer in answers] == [b"HTTP/1.1 200 OK"] * 40


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGHUP, b"200"), (signal.SIGTERM, b"503")])
async def test_health_on_a_kept_connection_is_ready_at_a_reload_and_not_when_the_service_stops(
    server: DocumentServer, tmp_path: Path, sent: int, status: bytes
) -> None:
    async with gateway(write_settings(tmp_path, server.port, listen="workers = 1")) as gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        request = b"GET /_calgate/health HTTP/1.1\r\nHost: g\r\n\r\n"
        writer.write(request)
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len('{"status": "ready", "degraded": []}\n'))
        gate.process.send_signal(sent)
        if sent == signal.SIGHUP:
            await until(lambda: "settings reloaded" in gate.log.read_text())
        await asyncio.sleep(0.2)  # until the worker knows
        writer.write(request)
        assert b" %b " % status in await reader.readuntil(b"\r\n\r\n")
        writer.close()


async def test_kept_connection_gets_connection_close_at_a_reload(server: DocumentServer, tmp_path: Path) -> None:
    async with gateway(write_settings(tmp_path, server.port)) as gate:
        await until_drained(gate, await cookie_of(gate, "alice"))


async def test_sign_in_completes_on_its_connection_while_the_worker_is_replaced(
    server: DocumentServer, tmp_path: Path
) -> None:
    """With `Connection: close` on the challenge, the client's token would arrive on another connection."""
    async with gateway(write_settings(tmp_path, server.port)) as gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)

        async def ask(*fields: str) -> str:
            writer.write("\r\n".join(["GET /portal HTTP/1.1", "Host: g", *fields, "", ""]).encode())
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode("latin-1")
            await reader.readexactly(int(re.search(r"(?i)content-length: (\d+)", head)[1]))  # type: ignore[index]
            return head

        cookie = await cookie_of(gate, "alice")
        assert (await ask(f"Cookie: {cookie}")).startswith("HTTP/1.1 200 ")
        await until_drained(gate, cookie)
        client = NtlmClient("bob")
        challenge = await ask(f"Authorization: NTLM {client.first()}")
        assert challenge.startswith("HTTP/1.1 401 ")
        assert "Connection: close" not in challenge
        answer = await ask(f"Authorization: NTLM {client.second(challenge)}")
        assert answer.startswith("HTTP/1.1 200 ")
        assert "Connection: close" in answer
        writer.close()


@pytest.mark.alone
async def test_tls_handshake_completes_during_a_reload(server: DocumentServer, tmp_path: Path) -> None:
    signed = Authority(tmp_path).sign("127.0.0.1")
    listen = f'tls = {{ certificate = "{signed.certificate}", key = "{signed.key}" }}\nworkers = 1'
    async with gateway(write_settings(tmp_path, server.port, listen=listen)) as gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        context = ssl.create_default_context(cafile=tmp_path / "Test-CA.pem")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        writer.write(outgoing.read())
        incoming.write(await reader.read(65536))
        gate.process.send_signal(signal.SIGHUP)
        await until(lambda: "settings reloaded" in gate.log.read_text())
        await asyncio.sleep(0.3)  # until the old worker knows that it must finish
        answer = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        tls.write(b"GET /_calgate/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        writer.write(outgoing.read())
        while b"\r\n\r\n" not in answer and (piece := await reader.read(65536)):
            incoming.write(piece)
            with contextlib.suppress(ssl.SSLWantReadError):
                answer += tls.read(65536)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()


async def until_drained(gate: Gateway, cookie: str) -> None:
    """Reloads the settings, and waits until the old worker sends `Connection: close` with a response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    head = b""
    while b"Connection: close\r\n" not in head:
        writer.write(f"GET /portal HTTP/1.1\r\nHost: g\r\nCookie: {cookie}\r\n\r\n".encode())
        if not head:
            gate.process.send_signal(signal.SIGHUP)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert head.startswith(b"HTTP/1.1 200 ")
        await reader.readuntil(b"</h1>")
        await asyncio.sleep(0.1)  # a busy connection that is idle now and then
    assert await reader.read() == b""
    writer.close()
