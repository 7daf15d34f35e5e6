"""Decides which request may use a connection to a document server next. Never waits itself.

First come, first served, within two limits: `limit` connections in all, and `per_user` requests of one user, so that
nobody can keep the others out by slow uploads, slow reading or long polls.
"""

from collections import deque
from collections.abc import Callable

from calgate.upstream.connection import UpstreamConnection

Granted = Callable[["Turn"], None]


class Turn:
    """The place of one request in the queue; `on_granted` is called once, possibly before `take` returns."""

    __slots__ = ("connection", "is_granted", "is_over_share", "on_granted", "user")

    def __init__(self, user: str, on_granted: Granted) -> None:
        self.user = user
        self.on_granted = on_granted
        self.connection: UpstreamConnection | None = None  # once granted; None: room for a new one is reserved
        self.is_granted = False
        self.is_over_share = False


class Turns:
    """The connections of one document server, and the requests that wait for one."""

    def __init__(self, limit: int, per_user: int) -> None:
        self.limit = limit
        self.per_user = per_user
        self.connections: set[UpstreamConnection] = set()
        self.idle: deque[UpstreamConnection] = deque()  # may hold connections that have ended: see `reusable`
        self._opening = 0
        self._waiting: deque[Turn] = deque()
        self._over_share: dict[str, deque[Turn]] = {}  # by user
        self._held: dict[str, int] = {}  # by user: requests that have a connection, or wait for any connection

    def take_idle(self, user: str) -> UpstreamConnection | None:
        """Takes an idle connection, if there is one that the user may have at once."""
        held = self._held.get(user, 0)
        if not self.idle or self._waiting or held >= self.per_user:
            return None
        self._held[user] = held + 1
        return self.idle.pop()  # the last used is the most likely to be open still

    def take(self, user: str, on_granted: Granted) -> Turn:
        """Queues for a connection, or for room to open one."""
        turn = Turn(user, on_granted)
        if self._held.get(user, 0) < self.per_user:
            self._queue(turn)
        else:
            turn.is_over_share = True
            self._over_share.setdefault(user, deque()).append(turn)
        return turn

    def _queue(self, turn: Turn) -> None:
        self._held[turn.user] = self._held.get(turn.user, 0) + 1
        turn.is_over_share = False
        self._waiting.append(turn)
        self._grant()

    def _grant(self) -> None:
        """Grants the turns of the requests that have waited longest, as far as connections and room go."""
        while self._waiting and (self.idle or self._has_room):
            turn = self._waiting.popleft()
            if self.idle:
                turn.connection = self.idle.pop()
            else:
                self._opening += 1
            turn.is_granted = True
            turn.on_granted(turn)

    @property
    def _has_room(self) -> bool:
        return len(self.connections) + self._opening < self.limit

    def give_up(self, turn: Turn) -> None:
        """The request does not need its turn any more, whether or not it was granted."""
        if turn.is_granted:
            if turn.connection is None:
                self._opening -= 1
            elif turn.connection.reusable:
                self.idle.append(turn.connection)
            self.end_use(turn.user)
        elif turn.is_over_share:
            self._forget_over_share(turn)
        else:
            self._waiting.remove(turn)
            self.end_use(turn.user)

    def _forget_over_share(self, turn: Turn) -> None:
        turns = self._over_share[turn.user]
        turns.remove(turn)
        if not turns:
            del self._over_share[turn.user]

    def end_use(self, user: str) -> None:
        """A request of the user has ended, or has not got its connection."""
        held = self._held[user] - 1
        if held:
            self._held[user] = held
        else:
            del self._held[user]
        over_share = self._over_share.get(user)
        if over_share:
            turn = over_share[0]
            self._forget_over_share(turn)
            self._queue(turn)
        elif self._waiting:
            self._grant()

    def opened(self, connection: UpstreamConnection, user: str) -> None:
        """The room that was reserved is used by this connection."""
        self._opening -= 1
        connection.user = user
        self.connections.add(connection)

    def not_opened(self, user: str) -> None:
        """The room that was reserved is free again."""
        self._opening -= 1
        self.end_use(user)

    def release(self, connection: UpstreamConnection) -> None:
        """The connection is idle again."""
        user, connection.user = connection.user, None
        self.idle.append(connection)
        if user is not None:
            self.end_use(user)

    def discard(self, connection: UpstreamConnection) -> None:
        """The connection has ended, or belongs to another protocol."""
        self.connections.discard(connection)
        user, connection.user = connection.user, None
        if user is not None:
            self.end_use(user)
        elif self._waiting:
            self._grant()
