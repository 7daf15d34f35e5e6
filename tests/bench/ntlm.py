"""NTLM sign-ins with a domain, by winbindd: how many per second, and how long they block the event loop."""

import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop

from bench.results import Result
from calgate.plugin.identity import Authenticated, Continue
from calgate_negotiate.handshake import Mechanisms, NegotiateAuthenticator, NegotiateHandshake
from calgate_negotiate.winbind import Winbind
from support import domain as labs
from support.handshakes import PEER, ntlm_client

AT_ONCE = 30
ROUNDS = 20
TICK = 0.001  # seconds
LATEST = 100.0  # milliseconds: the limit that the tests set

Answer = tuple[NegotiateHandshake, bytes]


def measure() -> Iterator[Result]:
    """Measures rounds in which thirty clients respond to their challenges at once: the gateway's work, not theirs."""
    reason = labs.missing()
    if reason:
        raise SystemExit(f"this benchmark needs the lab's domain: {reason}")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        lab = labs.start(Path(folder) / "lab")
        stack.callback(lab.do, "down")
        stack.enter_context(lab.entered())
        os.environ["KRB5_CONFIG"] = str(lab.folder / "krb5.conf")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            rounds = runner.run(_rounds())
    yield Result(f"NTLM: sign-ins, {AT_ONCE} at once", AT_ONCE / statistics.median(took for took, _ in rounds), "1/s")
    worst = max(late for _, late in rounds) * 1000
    yield Result(f"NTLM: event loop late at worst, {AT_ONCE} at once", worst, "ms", goal=LATEST)


async def _rounds() -> list[tuple[float, float]]:
    """Returns for each round the seconds until all are signed in, and the largest delay of a tick."""
    winbind = Winbind()
    gateway = NegotiateAuthenticator(Mechanisms(ntlm_verifier=winbind))
    try:
        await _round(await _challenged(gateway))  # makes threads and winbindd's connections
        return [await _round(await _challenged(gateway)) for _ in range(ROUNDS)]
    finally:
        winbind.close()


async def _challenged(gateway: NegotiateAuthenticator) -> list[Answer]:
    answers: list[Answer] = []
    for number in range(AT_ONCE):
        client = ntlm_client(f"CORP\\{('alice', 'bob', 'carol')[number % 3]}", labs.PASSWORD)
        handshake = gateway.begin(PEER)
        challenge = await handshake.step_token("NTLM", client.step() or b"")
        assert isinstance(challenge, Continue)
        answers.append((handshake, client.step(challenge.token) or b""))
    return answers


async def _round(answers: list[Answer]) -> tuple[float, float]:
    late = 0.0

    async def tick() -> None:
        nonlocal late
        while True:
            began = time.perf_counter()
            await asyncio.sleep(TICK)
            late = max(late, time.perf_counter() - began - TICK)

    ticking = asyncio.create_task(tick())
    began = time.perf_counter()
    outcomes = await asyncio.gather(*(handshake.step_token("NTLM", answer) for handshake, answer in answers))
    took = time.perf_counter() - began
    ticking.cancel()
    assert all(isinstance(outcome, Authenticated) for outcome in outcomes)
    return took, late
