"""Workers, signals and upgrades: a running service loses no request."""

import asyncio
import os
import re
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from support.gateway_process import (
    DocumentServer,
    Exchange,
    cookie_of,
    curl,
    gateway,
    workers_of,
    write_settings,
)
from support.load import load
from support.plugins import install
from support.ports import free_port
from support.waiting import until


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


async def test_crashed_worker_is_replaced_with_the_settings_in_force_while_the_file_is_being_edited(
    server: DocumentServer, tmp_path: Path
) -> None:
    """Only a reload loads a file; until then its new text neither keeps a worker from starting nor reaches one."""
    settings = write_settings(tmp_path, server.port)
    async with gateway(settings) as gate:
        good = settings.read_text()
        denying = good.replace(
            "[[access]]", '[[access]]\nname = "no alice"\ndeny = true\nusers = ["DEMO\\\\alice"]\n[[access]]', 1
        )
        for edited in ("half a line = ", denying):
            settings.write_text(edited)
            old = workers_of(gate)
            for worker in old:
                os.kill(worker, signal.SIGKILL)
            await until(lambda: len({*workers_of(gate)} - {*old}) == len(old), 20)  # noqa: B023 - called at once
            assert (await curl(f"{gate.url}/portal", "--retry", "9", "--retry-connrefused", user="alice")).status == 200
        gate.process.send_signal(signal.SIGHUP)
        await until(lambda: "settings reloaded" in gate.log.read_text())
        assert (await curl(f"{gate.url}/portal", user="alice")).status == 403


async def test_sigusr2_with_a_faulty_file_keeps_the_running_program_and_logs_the_faults(
    server: DocumentServer, tmp_path: Path
) -> None:
    settings = write_settings(tmp_path, server.port)
    async with gateway(settings) as gate:
        before = workers_of(gate)
        settings.write_text(settings.read_text().replace("[session]", "[sesion]", 1))
        gate.process.send_signal(signal.SIGUSR2)
        await until(lambda: "upgrade failed, keeping the running program" in gate.log.read_text())
        assert "sesion: unknown key; did you mean" in gate.log.read_text()
        assert workers_of(gate) == before
        assert (await curl(f"{gate.url}/portal", user="alice")).status == 200
