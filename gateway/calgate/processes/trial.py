"""The program on disk, tried before it replaces the running one: from then on, a fault would end the gateway.

The running program starts `calgate trial` of the program on disk. It reads the settings file, tries the addresses that
are new, starts every part of a gateway, and stops again: it serves nobody and changes nothing that gateways share.
"""

import asyncio
import json
import sys
from collections.abc import Collection
from pathlib import Path

from calgate.app import open_gateway
from calgate.config.model import Settings
from calgate.processes.sockets import try_addresses

_WITHIN = 60.0  # seconds, as long as a worker may take to start


async def start_and_stop(settings: Settings, listening: Collection[str]) -> None:
    """Starts every part of a gateway. `listening`: addresses of the running program. Raises ConfigError."""
    try_addresses(settings.core, listening)
    async with open_gateway(settings):
        return


async def faults_of_program_on_disk(file: Path, listening: Collection[str]) -> list[str]:
    """Returns why the program on disk could not serve with the settings file as it is now; empty if it could."""
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "calgate", "trial"),
            *("-c", str(file), "--listening", json.dumps(sorted(listening))),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        return [f"{sys.executable} cannot be started: {error.strerror}"]
    try:
        async with asyncio.timeout(_WITHIN):
            _, errors = await process.communicate()
    except TimeoutError:
        return [f"the program on disk does not start within {_WITHIN:g} s"]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = [line.removeprefix("calgate: ") for line in errors.decode("utf-8", "replace").splitlines()]
    return (lines or [f"calgate trial ended with exit code {process.returncode}"]) if process.returncode else []
