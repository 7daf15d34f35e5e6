"""`calgate demo` as a first user sees it."""

import asyncio
import json
import re
import signal
from pathlib import Path

import pytest

from support.demonstration import demonstration, run
from support.gateway_process import calgate
from support.ports import free_port


async def test_six_printed_commands_show_what_they_promise(tmp_path: Path) -> None:
    async with demonstration(tmp_path / "demo", free_port()) as demo:
        lines = re.findall(r"^  (curl .*)$", demo.said, re.MULTILINE)
        assert len(lines) == 6
        portal, alice, bob, carol, dave, mallory = [await run(line) for line in lines]
        assert "Sales.qvw" in portal
        for who, said in (("alice", alice), ("bob", bob), ("carol", carol)):
            assert f"DEMO\\{who}" in said
        assert json.loads(dave)["code"] == "no-cal"
        assert json.loads(mallory)["code"] == "forbidden"
        (listing,) = re.findall(r"^  (\S*calgate cals list .*)$", demo.said, re.MULTILINE)
        state = json.loads(await run(f"{listing} --json"))
        assert {pool["kind"]: (pool["in_license"], pool["occupied"]) for pool in state["pools"]}["named"] == (2, 1)
        assert sorted((h["kind"], h["name"]) for h in state["holders"]) == [
            ("named", "DEMO\\alice"),
            ("session", "DEMO\\bob"),
            ("session", "DEMO\\carol"),
        ]
        assert f"ready {demo.url}/" in demo.said


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
async def test_demo_stops_within_five_seconds_during_a_download(tmp_path: Path, sent: signal.Signals) -> None:
    folder = tmp_path / "demo"
    async with demonstration(folder, free_port()) as demo:
        download = await asyncio.create_subprocess_exec(
            *("curl", "-sN", "--ntlm", "-u", "alice:demo", f"{demo.url}/export.csv"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert download.stdout is not None
        assert await download.stdout.read(10)
        server = int((folder / "state" / "store" / "server.pid").read_text())
        assert await demo.stop(sent) < 9  # seconds; the download would take ten
        assert demo.process.returncode == 0
        assert not Path(f"/proc/{server}").exists()
        await download.communicate()


async def test_demo_starts_again_after_kill_9_and_misses_nothing_of_the_one_before(tmp_path: Path) -> None:
    folder, port = tmp_path / "demo", free_port()
    async with demonstration(folder, port) as demo:
        await demo.stop(signal.SIGKILL)
    (folder / "state" / "licenses.json").write_text('{"demo": 1}')  # as written a few seconds after the start
    async with demonstration(folder, port) as demo:
        assert "warning" not in demo.said
        lines = re.findall(r"^  (curl .*)$", demo.said, re.MULTILINE)
        assert "DEMO\\bob" in await run(lines[2])
        assert await demo.stop(signal.SIGTERM) < 9


async def test_busy_morning_has_people_who_read_wait_and_are_let_in_within_a_minute(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    async with demonstration(folder, free_port(), "--busy") as demo, asyncio.timeout(60):
        assert "administrators' console" in demo.said
        seen: set[str] = set()
        while not {"granted", "denied", "waits", "offered", "signed-out"} <= seen:
            await asyncio.sleep(1)
            _, out, _ = await calgate("cals", "log", "-c", str(folder / "calgate.toml"), "--json")
            seen = {record["what"] for record in json.loads(out or "[]")}
        assert await demo.stop(signal.SIGTERM) < 9
