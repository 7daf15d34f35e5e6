"""A Kerberos sign-in, the whole path: calgate beside Apache with mod_auth_gssapi on the same domain."""

import os
import statistics
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from bench import fleet, load
from bench.fleet import Side
from bench.results import Result, knob

ROUNDS = knob("ROUNDS", 5)
SIGN_INS = 200  # a round and side
AT_ONCE = 4


def measure() -> Iterator[Result]:
    """Each request is a sign-in of its own: ticket accepted, groups from the cache, a session made, a CAL claimed."""
    with fleet.ground() as ground, fleet.apache(ground) as apache, fleet.calgate(ground) as calgate:
        rounds = [(_round(apache, ground.ticket), _round(calgate, ground.ticket)) for _ in range(ROUNDS)]
    yield Result("Kerberos sign-in: Apache: CPU", statistics.median(a for a, _ in rounds), "µs")
    yield Result("Kerberos sign-in: calgate: CPU", statistics.median(c for _, c in rounds), "µs")
    ratio = statistics.median(c / a for a, c in rounds)
    yield Result("Kerberos sign-in: calgate / Apache: CPU", ratio, "x", goal=1.3)


def _round(side: Side, ticket: dict[str, str]) -> float:
    """Microseconds of the side's CPU time, each sign-in."""
    before = load.cpu_of(side.pids)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        codes = list(pool.map(lambda number: _sign_in(side.origin, ticket, number), range(SIGN_INS)))
    assert codes == ["200"] * SIGN_INS, codes
    return (load.cpu_of(side.pids) - before) * 1e6 / SIGN_INS


def _sign_in(origin: str, ticket: dict[str, str], number: int) -> str:
    """From an address of its own, as another machine: so that each makes a session and takes a CAL."""
    words = ["taskset", "-c", "0", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--negotiate", "-u", ":"]
    words += ["--interface", f"127.1.{number // 250}.{number % 250 + 1}"]
    said = subprocess.run(
        [*words, f"{origin}/1k"], capture_output=True, text=True, check=False, env={**os.environ, **ticket}
    )
    return said.stdout
