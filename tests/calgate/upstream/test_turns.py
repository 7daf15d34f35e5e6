"""Whose turn it is to use a connection, without any network."""

from typing import cast

from calgate.upstream.connection import UpstreamConnection
from calgate.upstream.turns import Turn, Turns


class Connection:
    """As much of a connection as turns look at."""

    reusable = True
    user: str | None = None


def take(turns: Turns, *users: str) -> list[Turn]:
    return [turns.take(user, lambda turn: granted.append(turn)) for user in users]


def open_for(turns: Turns, turn: Turn) -> UpstreamConnection:
    assert turn.is_granted
    connection = cast(UpstreamConnection, Connection())
    turns.opened(connection, turn.user)
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
