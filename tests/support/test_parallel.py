"""The distribution of tests to processes."""

import threading
from pathlib import Path

import pytest

from support.parallel import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    files = tmp_path / "turnstile", tmp_path / "machine"
    for file in files:
        file.touch()
    return Machine(*files)


class Test:
    """A test that holds the machine in a thread until it is released."""

    __test__ = False

    def __init__(self, machine: Machine, *, alone: bool) -> None:
        self._machine = machine
        self._alone = alone
        self.has_begun = threading.Event()
        self._may_end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._machine.held(alone=self._alone):
            self.has_begun.set()
            self._may_end.wait(10)

    def end(self) -> None:
        self._may_end.set()
        self._thread.join(10)


def test_tests_share_the_machine(machine: Machine) -> None:
    tests = [Test(machine, alone=False) for _ in range(3)]
    assert all(test.has_begun.wait(5) for test in tests)
    for test in tests:
        test.end()


def test_alone_test_waits_for_others_and_is_not_overtaken(machine: Machine) -> None:
    first = Test(machine, alone=False)
    assert first.has_begun.wait(5)
    alone = Test(machine, alone=True)
    assert not alone.has_begun.wait(0.2)
    later = Test(machine, alone=False)
    assert not later.has_begun.wait(0.2)
    first.end()
    assert alone.has_begun.wait(5)
    assert not later.has_begun.wait(0.2)
    alone.end()
    assert later.has_begun.wait(5)
    later.end()
