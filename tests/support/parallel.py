"""Shares the machine between the processes in which pytest-xdist runs tests.

Tests of one group run one after the other in one process: the tests of a module, because they share its fixtures, and
all tests in the lab, because there is one. A test with the mark `alone` measures time, CPU or memory: nothing else runs
meanwhile.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
LAB = TESTS / "active_directory"
ALONE = "alone"

# two files that exist anyway, so that no lock file is left behind
_turnstile = Path(__file__)  # locked while a test waits for the machine, so that others cannot overtake an `alone` test
_machine = TESTS / "conftest.py"  # locked while a test runs


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


@contextlib.contextmanager
def machine(item: pytest.Item) -> Iterator[None]:
    """Holds the machine while the test runs: exclusively for an `alone` test, else together with other tests."""
    how = fcntl.LOCK_EX if item.get_closest_marker(ALONE) else fcntl.LOCK_SH
    with _machine.open() as held:
        with _turnstile.open() as entry:
            fcntl.flock(entry, how)
            fcntl.flock(held, how)
        yield
