"""Sessions whose cookie has not come back: few for one user and address, and none for long."""

from calgate.authentication.unconfirmed import LIFE, MOST, UnconfirmedSessions

ALICE = ("S-1", "192.0.2.1")
BOB = ("S-2", "192.0.2.1")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_oldest_session_of_an_owner_is_in_excess_when_there_are_too_many() -> None:
    sessions = UnconfirmedSessions(Clock())
    assert [sessions.add(ALICE, f"a{number}") for number in range(MOST)] == [None] * MOST
    assert sessions.add(BOB, "b0") is None
    assert sessions.add(ALICE, "one more") == "a0"
    assert (sessions.take_excess(), sessions.take_excess()) == (["a0"], [])


def test_confirmed_session_makes_room() -> None:
    sessions = UnconfirmedSessions(Clock())
    for number in range(MOST):
        sessions.add(ALICE, f"a{number}")
    sessions.remove(ALICE, "a3")
    assert sessions.add(ALICE, "one more") is None
    sessions.remove(BOB, "unknown")


def test_expired_sessions_are_forgotten() -> None:
    clock = Clock()
    sessions = UnconfirmedSessions(clock)
    for number in range(MOST):
        sessions.add(ALICE, f"a{number}")
    clock.now = LIFE + 1
    assert sessions.take_excess() == []
    assert sessions.add(ALICE, "new") is None
