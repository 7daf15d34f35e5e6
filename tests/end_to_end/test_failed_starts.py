"""Reloads and upgrades that fail late: what served before goes on as it was."""

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.gateway_process import DocumentServer, Gateway, calgate, curl, gateway, workers_of, write_settings
from support.plugins import install
from support.ports import free_port
from support.waiting import until

FRAGILE = """
from contextlib import asynccontextmanager
from pathlib import Path
from calgate.plugin import Section

role = "authenticator"

class Config(Section):
    fails: Path

class Fragile:
    schemes = ()

    def __init__(self, fails):
        self.fails = fails

    def begin(self, peer):
        raise NotImplementedError

    async def activate(self):  # called after the allocator's, once every worker has started
        if self.fails.exists():
            os._exit(3)

@asynccontextmanager
async def start(config, services):
    yield Fragile(config.fails)
"""


@pytest.fixture
def fragile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A plugin that ends a worker after it was let go, as long as the file `fails` is there; returns its section."""
    site = install(tmp_path / "site", {"fragile": "fragile_plugin"}, {"fragile_plugin": FRAGILE})
    monkeypatch.setenv("PYTHONPATH", str(site))
    return f'[fragile]\nfails = "{tmp_path}/fails"'


async def limit(settings: Path) -> int:
    _, out, _ = await calgate("cals", "list", "-c", str(settings), "--json")
    return int(next(pool["limit"] for pool in json.loads(out)["pools"] if pool["kind"] == "session"))


def said(gate: Gateway, text: str) -> int:
    return gate.log.read_text().count(text)


def children_of(gate: Gateway) -> list[bytes]:
    """Returns the command lines of the processes that the gateway's parent started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"\nPPid:\t{gate.process.pid}\n" in (folder / "status").read_text():
                found.append((folder / "cmdline").read_bytes())
    return found


@pytest.mark.parametrize("workers", [1, 2])
async def test_reload_whose_workers_end_after_they_were_let_go_leaves_the_license_as_it_was(
    server: DocumentServer, tmp_path: Path, fragile: str, workers: int
) -> None:
    settings = write_settings(tmp_path, server.port, listen=f"workers = {workers}", more=fragile)
    async with gateway(settings) as gate:
        old = workers_of(gate)
        settings.write_text(settings.read_text().replace("session = { in_license = 2", "session = { in_license = 7"))
        (tmp_path / "fails").touch()
        gate.process.send_signal(signal.SIGHUP)
        await until(lambda: said(gate, "reload failed, keeping the current settings"))
        async with asyncio.timeout(30):
            while await limit(settings) != 2:
                pass
        assert workers_of(gate) == old
        (tmp_path / "fails").unlink()
        gate.process.send_signal(signal.SIGHUP)
        await until(lambda: said(gate, "settings reloaded"))
        assert await limit(settings) == 7


@contextmanager
def faulty(settings: Path, given: str, instead: str) -> Iterator[None]:
    good = settings.read_text()
    assert given in good
    settings.write_text(good.replace(given, instead, 1))
    yield
    settings.write_text(good)


async def test_sigusr2_with_a_part_that_cannot_start_keeps_the_running_program(
    server: DocumentServer, tmp_path: Path
) -> None:
    settings = write_settings(tmp_path, server.port)
    async with gateway(settings) as gate:
        before = workers_of(gate)
        bind = re.search(r'bind = "[^"]+"', settings.read_text())
        assert bind is not None
        faults = (
            ("[negotiate]", f'[negotiate]\nkeytab = "{tmp_path}/none.keytab"', "none.keytab"),
            (bind[0], f'{bind[0]}\nadmin = "127.0.0.1:{server.port}"', "listen.admin: cannot listen on"),
            (bind[0], f'{bind[0]}\ntls = {{ certificate = "/none.pem", key = "/none.key" }}', "/none.key"),
        )
        for number, (given, instead, fault) in enumerate(faults, 1):
            with faulty(settings, given, instead):
                gate.process.send_signal(signal.SIGUSR2)
                await until(lambda: said(gate, "upgrade failed, keeping the running program") >= number)  # noqa: B023
                assert fault in gate.last_line("upgrade failed")
                assert workers_of(gate) == before
        assert (await curl(f"{gate.url}/portal", user="alice")).status == 200
        assert "Traceback" not in gate.log.read_text()


async def test_workers_of_a_replaced_program_serve_until_the_new_ones_start(
    server: DocumentServer, tmp_path: Path, fragile: str
) -> None:
    """A fault that no trial foresees: it shows only when a worker is let go."""
    settings = write_settings(tmp_path, server.port, more=fragile)
    async with gateway(settings) as gate:
        old = workers_of(gate)
        (tmp_path / "fails").touch()
        gate.process.send_signal(signal.SIGUSR2)
        await until(lambda: said(gate, "upgrade failed; the old workers serve while the new program tries again"))
        assert (await curl(f"{gate.url}/portal", user="alice")).status == 200
        assert set(old) <= set(workers_of(gate))
        gate.process.send_signal(signal.SIGUSR2)  # as after the old package is back
        await until(lambda: said(gate, "replacing the program") == 2)
        (tmp_path / "fails").unlink()
        await until(lambda: said(gate, "listening on") == 2, 20)
        await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in old))
        assert (await curl(f"{gate.url}/portal", user="alice")).status == 200


async def test_stop_while_a_new_program_cannot_start_ends_everything(
    server: DocumentServer, tmp_path: Path, fragile: str
) -> None:
    settings = write_settings(tmp_path, server.port, more=fragile)
    async with gateway(settings) as gate:
        old = workers_of(gate)
        (tmp_path / "fails").touch()
        gate.process.send_signal(signal.SIGUSR2)
        await until(lambda: said(gate, "upgrade failed; the old workers serve"))
        assert await gate.stop() == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in old)


async def test_sigusr2_takes_changed_addresses_and_numbers_of_workers(server: DocumentServer, tmp_path: Path) -> None:
    """No socket stays open without a worker: the kernel would give it a share of the connections."""
    settings = write_settings(tmp_path, server.port, listen=f'workers = 1\nadmin = "127.0.0.1:{free_port()}"')
    async with gateway(settings) as gate:
        for workers in (2, 1):
            admin = free_port()
            text = re.sub(r"workers = \d", f"workers = {workers}", settings.read_text())
            settings.write_text(re.sub(r'admin = ".*"', f'admin = "127.0.0.1:{admin}"', text))
            before, old = said(gate, "listening on"), workers_of(gate)
            gate.process.send_signal(signal.SIGUSR2)
            await until(lambda: said(gate, "listening on") == before + 1)  # noqa: B023 - called at once
            await until(lambda: len({*workers_of(gate)} - {*old}) == workers)  # noqa: B023
            await until(lambda: not {*workers_of(gate)} & {*old})  # noqa: B023
            assert (await curl(f"http://127.0.0.1:{admin}/healthz")).status == 200
            for _ in range(8):  # half of them would wait for ever
                assert (await curl(f"{gate.url}/_calgate/health", "-m", "5")).status == 200


async def test_signals_during_an_upgrade_reach_the_new_program(server: DocumentServer, tmp_path: Path) -> None:
    """While a program starts, each of them would end it."""
    settings = write_settings(tmp_path, server.port)
    async with gateway(settings) as gate:
        gate.process.send_signal(signal.SIGUSR2)
        await until(lambda: said(gate, "replacing the program"))
        for _ in range(5):
            gate.process.send_signal(signal.SIGHUP)
        await until(lambda: said(gate, "listening on") == 2 or gate.process.returncode is not None)
        assert (await curl(f"{gate.url}/portal", user="alice")).status == 200
        gate.process.send_signal(signal.SIGUSR2)
        await until(lambda: said(gate, "replacing the program") == 2)
        assert await gate.stop() == 0


async def test_stop_while_the_program_on_disk_is_tried_ends_the_gateway(server: DocumentServer, tmp_path: Path) -> None:
    settings = write_settings(tmp_path, server.port)
    async with gateway(settings) as gate:
        gate.process.send_signal(signal.SIGUSR2)
        await until(lambda: any(b"trial" in line for line in children_of(gate)))
        assert await gate.stop() == 0
        assert not said(gate, "replacing the program")
        assert not said(gate, "upgrade failed")
