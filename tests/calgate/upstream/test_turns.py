"""Whose turn it is to use a connection, without any network."""

from typing import cast

from calgate.upstream.connection import UpstreamConnection
from calgate.upstream.turns import Turn, Turns


class Connection:
    """As much of a connection as turns look at."""

    reusable = True
    user: str | None = None

    def __init__(self) -> None:
        self.owner = ""
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def take(turns: Turns, *users: str) -> list[Turn]:
    return [turns.take(user, lambda turn: granted.append(turn)) for user in users]


def open_for(turns: Turns, turn: Turn) -> UpstreamConnection:
    assert turn.is_granted
    connection = cast(UpstreamConnection, Connection())
    turns.opened(connection, turn.user, turn.owner)
    return connection


granted: list[Turn] = []


def test_turn_is_granted_at_once_while_there_is_room() -> None:
    granted.clear()
    turns = Turns(2, 2)
    first, second, third = take(turns, "a", "b", "c")
    assert (first.is_granted, second.is_granted, third.is_granted) == (True, True, False)
    assert granted == [first, second]
    assert first.connection is None


def test_released_connection_goes_to_the_request_that_waited_longest() -> None:
    turns = Turns(1, 1)
    first, second, third = take(turns, "a", "b", "c")
    connection = open_for(turns, first)
    turns.release(connection)
    assert second.connection is connection
    assert not third.is_granted
    assert turns.take_idle("d") is None


def test_idle_connection_is_not_taken_without_a_turn_by_a_user_who_has_their_share() -> None:
    turns = Turns(3, 1)
    first, second = take(turns, "a", "b")
    open_for(turns, first)
    idle = open_for(turns, second)
    turns.release(idle)
    assert turns.take_idle("a") is None
    assert turns.take_idle("c") is idle


def test_idle_connection_is_taken_without_a_turn() -> None:
    turns = Turns(1, 1)
    connection = open_for(turns, take(turns, "a")[0])
    turns.release(connection)
    assert turns.take_idle("b") is connection
    assert turns.take_idle("b") is None


def test_requests_beyond_the_share_of_their_user_wait_while_others_are_served() -> None:
    turns = Turns(4, 2)
    mine = take(turns, *["mallory"] * 6)
    assert [turn.is_granted for turn in mine] == [True, True, False, False, False, False]
    connection = open_for(turns, mine[0])
    other = take(turns, "alice")[0]
    assert other.is_granted
    turns.release(connection)
    assert [turn.is_granted for turn in mine[2:]] == [True, False, False, False]
    assert mine[2].connection is connection


def test_waiting_request_of_another_user_comes_before_one_beyond_the_share() -> None:
    turns = Turns(2, 1)
    first, over = take(turns, "mallory", "mallory")
    connection = open_for(turns, first)
    open_for(turns, take(turns, "alice")[0])
    waiting = take(turns, "bob")[0]
    turns.release(connection)
    assert waiting.connection is connection
    assert not over.is_granted


def test_share_is_free_again_however_a_request_ends() -> None:
    turns = Turns(4, 1)
    turns.not_opened(take(turns, "a")[0].user)
    turns.discard(open_for(turns, take(turns, "a")[0]))
    turns.give_up(take(turns, "a")[0])
    turns.release(open_for(turns, take(turns, "a")[0]))
    assert turns.take_idle("a") is not None
    turns.end_use("a")
    first, second, third = take(turns, "a", "a", "a")
    turns.give_up(second)
    turns.give_up(first)
    assert third.is_granted
    turns.give_up(third)
    assert (turns._held, turns._over_share, turns._opening) == ({}, {}, 0)


def test_turn_given_up_after_it_was_granted_goes_to_the_next() -> None:
    turns = Turns(1, 1)
    first, second, third = take(turns, "a", "b", "c")
    turns.give_up(first)
    assert second.is_granted
    turns.release(open_for(turns, second))
    assert third.connection is not None
    turns.give_up(third)
    assert turns.take_idle("d") is third.connection


def test_end_of_an_upgraded_connection_gives_room_to_the_next() -> None:
    turns = Turns(1, 1)
    first, second = take(turns, "a", "b")
    turns.discard(open_for(turns, first))
    assert second.is_granted
    assert second.connection is None


# ---------------------------------------------------------------- connections that belong to one person


def idle_of(turns: Turns, owner: str) -> UpstreamConnection:
    connection = open_for(turns, turns.take(owner, lambda turn: None, owner))
    turns.release(connection)
    return connection


def test_idle_connection_is_given_to_its_owner_only() -> None:
    turns = Turns(4, 4)
    opened = [open_for(turns, turns.take(owner, lambda turn: None, owner)) for owner in ("alice", "bob", "alice")]
    for connection in opened:
        turns.release(connection)
    of_alice, of_bob, later_of_alice = opened
    assert turns.take_idle("carol", "carol") is None
    assert turns.take_idle("nobody") is None
    assert turns.take_idle("bob", "bob") is of_bob
    assert [turns.take_idle("alice", "alice") for _ in range(3)] == [later_of_alice, of_alice, None]


def test_slot_of_a_released_connection_is_passed_on_and_never_the_connection() -> None:
    turns = Turns(1, 1)
    connection = open_for(turns, turns.take("alice", lambda turn: None, "alice"))
    waiting = turns.take("bob", lambda turn: None, "bob")
    assert not waiting.is_granted
    turns.release(connection)
    assert waiting.is_granted
    assert waiting.connection is None
    assert cast(Connection, connection).is_closed


def test_connection_that_was_idle_longest_is_closed_where_there_is_no_room() -> None:
    turns = Turns(2, 2)
    oldest, newer = idle_of(turns, "alice"), idle_of(turns, "bob")
    turn = turns.take("carol", lambda turn: None, "carol")
    assert (turn.is_granted, turn.connection) == (True, None)
    assert (cast(Connection, oldest).is_closed, cast(Connection, newer).is_closed) == (True, False)
    turns.discard(oldest)  # as the network reports it, later
    assert turns.take_idle("bob", "bob") is newer


def test_counts_are_of_connections_in_use_or_opening_of_idle_ones_and_of_requests_that_wait() -> None:
    turns = Turns(3, 2)
    assert turns.counts() == (0, 0, 0)
    first, second, third = take(turns, "a", "b", "c")
    used, idle = open_for(turns, first), open_for(turns, second)
    assert turns.counts() == (3, 0, 0)  # the third is being opened
    turns.not_opened(third.user)
    turns.release(idle)
    assert turns.counts() == (1, 1, 0)
    take(turns, "a", "a")  # the second is more than the user may have
    assert turns.counts() == (2, 0, 1)
    cast(Connection, used).reusable = False
    turns.discard(used)
    assert turns.counts() == (2, 0, 0)


def test_idle_connection_that_has_ended_is_not_counted() -> None:
    turns = Turns(2, 2)
    connection = open_for(turns, take(turns, "a")[0])
    turns.release(connection)
    cast(Connection, connection).reusable = False
    turns.discard(connection)
    assert turns.counts() == (0, 0, 0)
