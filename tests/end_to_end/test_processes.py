"""Workers, signals, reloads and upgrades: a running service loses no request."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from support.certificates import Authority
from support.gateway_process import (
    DocumentServer,
    Exchange,
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
from support.plugins import install
from support.ports import free_port
from support.waiting import until


@dataclass
class Load:
    """Counts the requests of clients that send one after the other, each on a new connection."""

    succeeded: int = 0
    failed: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def load(gate: Gateway, cookie: str, clients: int = 8, *, pause: float = 0.01) -> AsyncIterator[Load]:
    counted = Load()
    stop = asyncio.Event()

    async def client() -> None:
        request = f"GET /portal HTTP/1.1\r\nHost: g\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n".encode()
        while not stop.is_set():
            try:
                answer = await raw(gate.port, request, within=20)
            except OSError as error:
                counted.failed.append(str(error))
                continue
            if answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"</h1>"):
                counted.succeeded += 1
            else:
                counted.failed.append(answer[:60].decode("latin-1") or "an empty response")
            await asyncio.sleep(pause)

    clients_ = [asyncio.create_task(client()) for _ in range(clients)]
    try:
        yield counted
    finally:
        stop.set()
        await asyncio.gather(*clients_)


def listening_on(port: int) -> int:
    """Returns how many sockets listen on a port of 127.0.0.1; processes that share a socket count once."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1] == f"0100007F:{port:04X}" and row[3] == "0A" for row in rows)


async def test_two_workers_share_a_port_and_a_session(server: DocumentServer, tmp_path: Path) -> None:
    async with gateway(write_settings(tmp_path, server.port, listen="workers = 2")) as gate:
        assert len(workers_of(gate)) == 2
        cookie = await cookie_of(gate, "alice")
        for _ in range(20):
            assert (await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")).status == 200


async def test_crashed_worker_is_replaced_and_only_its_connections_fail(server: DocumentServer, tmp_path: Path) -> None:
    async with gateway(write_settings(tmp_path, server.port, listen="workers = 2")) as gate:
        cookie = await cookie_of(gate, "alice")
        async with load(gate, cookie) as counted:
            await until(lambda: counted.succeeded > 50)
            victim, other = workers_of(gate)
            os.kill(victim, signal.SIGKILL)
            await until(lambda: len(workers_of(gate)) == 2 and victim not in workers_of(gate))
            before = counted.succeeded
            await until(lambda: counted.succeeded > before + 50)
        assert other in workers_of(gate)
        assert len(counted.failed) <= 8, "more requests failed than the killed worker was serving"
        assert any("worker 0 ended (signal SIGKILL)" in str(line["event"]) for line in gate.decisions())


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


PLUGIN = """
from contextlib import asynccontextmanager
from calgate.plugin import Section

role = "sign-on"

class Config(Section):
    word: str

class Talkative:
    owned = frozenset()
    per_person = False

    async def headers(self, person, grant, lease):
        print("a line that is not JSON")
        print('{"this": "is", "no": "report"}')
        print("x" * 5_000_000, flush=True)
        return {}

@asynccontextmanager
async def start(config, services):
    yield Talkative()
"""


async def test_killed_worker_is_replaced_after_a_plugin_printed_to_standard_output(
    server: DocumentServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(install(tmp_path / "site", {"talk": "talkative"}, {"talkative": PLUGIN})))
    settings = write_settings(tmp_path, server.port, listen="workers = 1")
    settings.write_text(
        re.sub(r"(?m)^sign_on = .*\n", 'sign_on = { plugin = "talk", word = "x" }\n', settings.read_text())
    )
    async with gateway(settings) as gate:
        assert (await curl(f"{gate.url}/portal", user="alice")).status == 200
        assert "a line that is not JSON" in gate.log.read_text()
        (old,) = workers_of(gate)
        os.kill(old, signal.SIGKILL)
        await until(lambda: workers_of(gate) not in ([], [old]))
        assert (await curl(f"{gate.url}/portal", "--retry", "9", "--retry-connrefused", user="alice")).status == 200


async def test_modules_of_the_current_folder_are_not_imported(
    server: DocumentServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "current"
    folder.mkdir()
    for name in ("json", "uvloop", "calgate_users"):
        (folder / f"{name}.py").write_text("raise SystemExit('imported from the current folder')", encoding="utf-8")
    settings = write_settings(tmp_path, server.port)
    monkeypatch.chdir(folder)
    script = Path(sys.executable).with_name("calgate")
    async with gateway(settings, prefix=("sh", "-c", f'shift 3; exec {script} "$@"', "sh")) as gate:
        assert (await curl(f"{gate.url}/portal", user="alice")).status == 200
        gate.process.send_signal(signal.SIGUSR2)
        await until(lambda: gate.log.read_text().count("listening on") == 2)
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
        assert "none.keytab" in str(gate.decisions()[-1]["event"])
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


async def test_sigusr2_replaces_the_program_without_failing_a_request(server: DocumentServer, tmp_path: Path) -> None:
    async with gateway(write_settings(tmp_path, server.port)) as gate:
        cookie = await cookie_of(gate, "alice")
        async with load(gate, cookie) as counted:
            await until(lambda: counted.succeeded > 20)
            old = workers_of(gate)
            gate.process.send_signal(signal.SIGUSR2)
            await until(lambda: workers_of(gate) and not set(old) & set(workers_of(gate)))
            before = counted.succeeded
            await until(lambda: counted.succeeded > before + 50)
        assert counted.failed == []
        assert (await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")).status == 200


@pytest.mark.alone
async def test_sigusr2_keeps_the_requests_of_workers_from_before_a_reload(
    server: DocumentServer, tmp_path: Path
) -> None:
    asked, let_go = asyncio.Event(), asyncio.Event()

    async def slowly(exchange: Exchange) -> None:
        if exchange.request_line.startswith("GET /portal/slow"):
            asked.set()
            await let_go.wait()
        await exchange.answer(b"whole")

    server.behaviour = slowly
    async with gateway(write_settings(tmp_path, server.port, listen='workers = 1\ndrain = "2m"')) as gate:
        cookie = await cookie_of(gate, "alice")
        asking = asyncio.create_task(curl(f"{gate.url}/portal/slow", "-H", f"Cookie: {cookie}"))
        await asked.wait()
        (first,) = workers_of(gate)

        def has_said(text: str, times: int) -> bool:
            return gate.log.read_text().count(text) >= times

        for number, said in ((signal.SIGHUP, "settings reloaded"), (signal.SIGUSR2, "ready on")) * 2:
            before = gate.log.read_text().count(said)
            gate.process.send_signal(number)
            await until(partial(has_said, said, before + 1))
        let_go.set()
        assert (await asking).body == b"whole"
        await until(lambda: not Path(f"/proc/{first}").exists())  # not even a zombie process


async def test_workers_end_when_their_parent_is_killed(server: DocumentServer, tmp_path: Path) -> None:
    async with gateway(write_settings(tmp_path, server.port, listen="workers = 2")) as gate:
        pids = workers_of(gate)
        await gate.stop(signal.SIGKILL)
        await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


async def test_metrics_and_readiness_have_their_own_listener(server: DocumentServer, tmp_path: Path) -> None:
    admin = free_port()
    listen = f'workers = 2\nadmin = "127.0.0.1:{admin}"'
    async with gateway(write_settings(tmp_path, server.port, listen=listen)) as gate:
        for _ in range(4):
            await curl(f"{gate.url}/docs/sales", user="alice")
        await curl(f"{gate.url}/portal", user="mallory")

        async def metrics() -> str:
            return (await curl(f"http://127.0.0.1:{admin}/metrics")).body.decode()

        for _ in range(300):
            text = await metrics()
            granted = re.findall(r'calgate_claims_total\{kind="session",worker="\d"\} (\d+)', text)
            if sum(map(int, granted)) == 4 and 'code="forbidden"' in text:  # each worker reports once a second
                break
            await asyncio.sleep(0.1)
        assert sum(map(int, granted)) == 4
        assert re.search(r'calgate_sign_ins_total\{mechanism="ntlm",worker="\d"\}', text)
        for stage in ("sign-in", "claim", "upstream", "whole"):
            assert re.search(rf'calgate_stage_seconds_bucket\{{le="\+Inf",stage="{stage}",worker="\d"\}}', text)
        assert (await curl(f"http://127.0.0.1:{admin}/healthz")).status == 200
        readyz = await curl(f"http://127.0.0.1:{admin}/readyz")
        assert (readyz.status, readyz.json["status"], readyz.json["degraded"]) == (200, "ready", [])
        assert (await curl(f"{gate.url}/metrics")).status == 401, "users must not reach the metrics"


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


@pytest.mark.alone
async def test_client_that_stops_reading_does_not_delay_the_stop(server: DocumentServer, tmp_path: Path) -> None:
    async def endless(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            exchange.writer.write(b"x" * 65536)
            await exchange.writer.drain()

    async with gateway(write_settings(tmp_path, server.port, listen='drain = "1s"')) as gate:
        cookie = await cookie_of(gate, "alice")
        server.behaviour = endless
        _, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writer.write(f"GET /endless HTTP/1.1\r\nHost: g\r\nCookie: {cookie}\r\n\r\n".encode())
        await until(lambda: any(exchange.path == "/endless" for exchange in server.seen))
        assert await asyncio.wait_for(gate.stop(), 6) == 0
        writer.close()


async def test_response_cut_short_by_the_stop_is_seen_as_incomplete(server: DocumentServer, tmp_path: Path) -> None:
    """Also in HTTP/1.0, which nginx uses by default and in which a body ends with its connection."""

    async def begin(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await exchange.reader.read()

    async with gateway(write_settings(tmp_path, server.port, listen='drain = "1s"')) as gate:
        cookie = await cookie_of(gate, "alice")
        server.behaviour = begin
        asking = asyncio.create_task(curl(f"{gate.url}/long", "--http1.0", "-b", cookie))
        await until(lambda: any(exchange.path == "/long" for exchange in server.seen))
        await asyncio.sleep(0.2)
        assert await gate.stop() == 0
        reply = await asking
        assert (reply.status, reply.body) == (200, b"hello")
        assert reply.exit != 0
