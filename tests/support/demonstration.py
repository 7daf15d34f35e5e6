"""A running `calgate demo`, and the way to run the lines that it prints."""

import asyncio
import contextlib
import os
import shlex
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path


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
