"""Shares the machine between the processes in which pytest-xdist runs tests.

Tests of one group run one after the other in one process: the tests of a module, because they share its fixtures, and
all tests in the lab, because there is one. A test with the mark `alone` measures time, CPU or memory: nothing else runs
at the same time.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
LAB = TESTS / "active_directory"
ALONE = "alone"


def is_worker(config: pytest.Config) -> bool:
    """Returns whether this process is one of several that run tests."""
    return hasattr(config, "workerinput")


def arrange(items: list[pytest.Item]) -> None:
    """Gives each test its group and sorts the groups: the longest first, the tests that must run alone last."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group_of(item)))
    items.sort(key=_rank)


def _group_of(item: pytest.Item) -> str:
    if LAB in item.path.parents:
        return LAB.name
    if item.get_closest_marker(ALONE):
        return ALONE
    return str(item.path.relative_to(TESTS))


def _rank(item: pytest.Item) -> int:
    if item.get_closest_marker(ALONE) and LAB not in item.path.parents:
        return 3
    return {LAB.name: 0, "end_to_end": 1}.get(item.path.relative_to(TESTS).parts[0], 2)


class Machine:
    """A lock that tests share, and that an `alone` test has for itself; the files are locked and not written."""

    def __init__(self, turnstile: Path, machine: Path) -> None:
        self._turnstile = turnstile  # locked while a test waits, so that others cannot overtake an `alone` test
        self._machine = machine  # locked while a test runs

    @contextlib.contextmanager
    def held(self, *, alone: bool) -> Iterator[None]:
        """Waits for the machine, and holds it until the block ends."""
        how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        with self._machine.open() as machine:
            with self._turnstile.open() as turnstile:
                fcntl.flock(turnstile, how)
                fcntl.flock(machine, how)
            yield


MACHINE = Machine(Path(__file__), TESTS / "conftest.py")  # two files that exist anyway: no lock file is left behind
