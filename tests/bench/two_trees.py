"""This checkout against another one: both gateways run at once and take turns, and the least of the rounds counts.

Noise only ever adds CPU time, so the least of several rounds is the steadiest value. The order changes from round to
round, because what runs second finds warmer caches. The other checkout needs its own virtual environment (`make
packages` there).
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.results import Result, knob

ROUNDS = knob("ROUNDS", 6)
HERE, THERE = "this checkout", "the other"


def other_checkout() -> Path | None:
    """Returns the checkout to compare with: make bench NAME=sign_in AGAINST=/path/to/checkout."""
    text = os.environ.get("CALGATE_BENCH_AGAINST")
    return Path(text) if text else None


def python_of(checkout: Path) -> str:
    """Returns the interpreter that has the checkout's own calgate."""
    python = checkout / ".venv" / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"{checkout}: no .venv; run make packages there")
    return str(python)


def compare(name: str, here: Callable[[], float], there: Callable[[], float], *, goal: float) -> Iterator[Result]:
    """Measures both in turn, in microseconds of CPU time; `goal` is the largest ratio that holds."""
    ours, theirs = [], []
    for number in range(ROUNDS):
        if number % 2:
            theirs.append(there())
            ours.append(here())
        else:
            ours.append(here())
            theirs.append(there())
    yield Result(f"{name}: {HERE}: CPU", min(ours), "µs")
    yield Result(f"{name}: {THERE}: CPU", min(theirs), "µs")
    yield Result(f"{name}: {HERE} / {THERE}: CPU", min(ours) / min(theirs), "x", goal=goal)
