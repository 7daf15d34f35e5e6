"""`calgate demo` as somebody meets it for the first time."""

import asyncio
import contextlib
import json
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from whole.rig import free_port


@dataclass
class Demo:
    """A running demonstration and what it printed before it was ready."""

    process: asyncio.subprocess.Process
    said: str
    url: str

    async def stop(self, sent: int) -> float:
        """Sends a signal; the seconds until it had ended."""
        began = time.monotonic()
        self.process.send_signal(sent)
        await asyncio.wait_for(self.process.wait(), 10)
        return time.monotonic() - began


@contextlib.asynccontextmanager
async def demonstration(folder: Path, port: int) -> AsyncIterator[Demo]:
    bind = f"127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "calgate", "demo", "--bind", bind, "--folder", str(folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = ""
    try:
        while "\nready " not in said:
            line = await asyncio.wait_for(process.stdout.readline(), 20)
            assert line, said
            said += line.decode()
        yield Demo(process, said, f"http://{bind}")
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def run(command: str) -> str:
    """Runs a line that the demonstration told us to try, to the letter."""
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    out, _ = await process.communicate()
    return out.decode()


async def test_the_six_lines_show_what_they_say(tmp_path: Path) -> None:
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
async def test_it_stops_everything_within_five_seconds_even_with_a_download_under_way(
    tmp_path: Path, sent: signal.Signals
) -> None:
    folder = tmp_path / "demo"
    async with demonstration(folder, free_port()) as demo:
        download = await asyncio.create_subprocess_exec(
            *("curl", "-s", "--ntlm", "-u", "alice:demo", f"{demo.url}/export.csv"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert download.stdout is not None
        assert await download.stdout.read(10)
        server = int((folder / "state" / "store" / "server.pid").read_text())
        assert await demo.stop(sent) < 5
        assert demo.process.returncode == 0
        assert not Path(f"/proc/{server}").exists()
        await download.communicate()


async def test_kill_9_leaves_nothing_that_the_next_start_cannot_clean_up(tmp_path: Path) -> None:
    folder, port = tmp_path / "demo", free_port()
    async with demonstration(folder, port) as demo:
        await demo.stop(signal.SIGKILL)
    async with demonstration(folder, port) as demo:
        lines = re.findall(r"^  (curl .*)$", demo.said, re.MULTILINE)
        assert "DEMO\\bob" in await run(lines[2])
        assert await demo.stop(signal.SIGTERM) < 5
