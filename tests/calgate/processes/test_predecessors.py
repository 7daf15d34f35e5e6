"""Workers of a replaced program: their reports are read until they end."""

import asyncio
import os
import socket

import pytest

from calgate.processes.predecessors import Predecessors, remember


async def test_reports_of_a_replaced_program_are_read_so_that_its_workers_do_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CALGATE_WORKERS", "")
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        remember([f"{os.getpid()}:{ours.fileno()}", f"{os.getpid()}:-1"])
        predecessors = Predecessors()
        assert predecessors
        assert "CALGATE_WORKERS" not in os.environ
        predecessors.listen()
        async with asyncio.timeout(10):
            for _ in range(100):
                await asyncio.get_running_loop().sock_sendall(theirs, b"x" * 65_536)
        asyncio.get_running_loop().remove_reader(ours.fileno())
