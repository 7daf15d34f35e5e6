"""A Kerberos sign-in from end to end: calgate compared with Apache with mod_auth_gssapi on the same domain."""

import os
import statistics
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from bench import load, proxies, two_trees
from bench.proxies import Proxy
from bench.results import Result, knob

ROUNDS = knob("ROUNDS", 5)
SIGN_INS = 200  # a round and proxy
AT_ONCE = 4
DEARER = 1.07  # at most 7 % dearer than another checkout


def measure() -> Iterator[Result]:
    """Measures sign-ins, one each request: ticket accepted, groups from the cache, a session made, a CAL claimed."""
    with proxies.testbed() as testbed, proxies.apache(testbed) as apache, proxies.calgate(testbed) as calgate:
        rounds = [(_round(apache, testbed.ticket), _round(calgate, testbed.ticket)) for _ in range(ROUNDS)]
    yield Result("Kerberos sign-in: Apache: CPU", statistics.median(a for a, _ in rounds), "µs")
    yield Result("Kerberos sign-in: calgate: CPU", statistics.median(c for _, c in rounds), "µs")
    ratio = statistics.median(c / a for a, c in rounds)
    yield Result("Kerberos sign-in: calgate / Apache: CPU", ratio, "x", goal=2.3)


def compare(checkout: Path) -> Iterator[Result]:
    """Compares sign-ins with another checkout's gateway."""
    python = two_trees.python_of(checkout)
    with (
        proxies.testbed() as testbed,
        proxies.calgate(testbed) as ours,
        proxies.calgate(testbed, "the other calgate", python=python) as theirs,
    ):
        here, there = (partial(_round, gateway, testbed.ticket) for gateway in (ours, theirs))
        yield from two_trees.compare("Kerberos sign-in", here, there, goal=DEARER)


def _round(proxy: Proxy, ticket: dict[str, str]) -> float:
    """Returns the microseconds of the proxy's CPU time for each sign-in."""
    before = load.cpu_of(proxy.pids)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        codes = list(pool.map(lambda number: _sign_in(proxy.origin, ticket, number), range(SIGN_INS)))
    assert codes == ["200"] * SIGN_INS, codes
    return (load.cpu_of(proxy.pids) - before) * 1e6 / SIGN_INS


def _sign_in(origin: str, ticket: dict[str, str], number: int) -> str:
    """Signs in from an address of its own, as another machine, so that each sign-in makes a session and takes a CAL."""
    words = ["taskset", "-c", "0", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--negotiate", "-u", ":"]
    words += ["--interface", f"127.1.{number // 250}.{number % 250 + 1}"]
    done = subprocess.run(
        [*words, f"{origin}/1k"], capture_output=True, text=True, check=False, env={**os.environ, **ticket}
    )
    return done.stdout
