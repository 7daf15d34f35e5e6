"""A running `calgate demo`, and a function that runs the commands it prints."""

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
    """A running demonstration, with its output until it was ready."""

    process: asyncio.subprocess.Process
    said: str
    url: str

    async def stop(self, sent: int) -> float:
        """Sends a signal and returns the seconds until the process had ended."""
        began = time.monotonic()
        self.process.send_signal(sent)
        await asyncio.wait_for(self.process.wait(), 10)
        return time.monotonic() - began


@contextlib.asynccontextmanager
async def demonstration(folder: Path, port: int, *options: str) -> AsyncIterator[Demo]:
    """Starts a demonstration and yields it when it is ready; stops it at the end."""
    bind = f"127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "calgate", "demo", "--bind", bind, "--folder", str(folder), *options),
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
    """Runs a command that the demonstration printed, unchanged, and returns its output."""
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    out, _ = await process.communicate()
    return out.decode()
