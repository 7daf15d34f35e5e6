"""Decides which request may use a connection to a document server next. Never waits itself.

First come, first served, within two limits: `limit` connections in all, and `per_user` requests of one user, so that
nobody can keep the others out by slow uploads, slow reading or long polls. A connection that has an owner is given to
requests of that owner only.
"""

from collections import deque
from collections.abc import Callable

from calgate.upstream.connection import UpstreamConnection

Granted = Callable[["Turn"], None]


class Turn:
    """The place of one request in the queue; `on_granted` is called once, possibly before `take` returns."""

    __slots__ = ("connection", "is_granted", "is_over_share", "on_granted", "owner", "user")

    def __init__(self, user: str, on_granted: Granted, owner: str) -> None:
        self.user = user
        self.owner = owner
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

    def counts(self) -> tuple[int, int, int]:
        """Returns how many connections are in use and idle, and how many requests wait for one."""
        idle = sum(connection.reusable for connection in self.idle)
        waiting = len(self._waiting) + sum(map(len, self._over_share.values()))
        return len(self.connections) + self._opening - idle, idle, waiting

    def take_idle(self, user: str, owner: str = "") -> UpstreamConnection | None:
        """Takes an idle connection of this owner, if there is one that the user may have at once."""
        idle, held = self.idle, self._held.get(user, 0)
        if not idle or self._waiting or held >= self.per_user:
            return None
        connection = idle.pop() if idle[-1].owner == owner else self._pop_idle(owner)
        if connection is not None:
            self._held[user] = held + 1
        return connection

    def _pop_idle(self, owner: str) -> UpstreamConnection | None:
        """Takes the owner's connection that was used last: it is the most likely to be open still."""
        if self.idle and self.idle[-1].owner == owner:
            return self.idle.pop()
        connection = next((one for one in reversed(self.idle) if one.owner == owner), None)
        if connection is not None:
            self.idle.remove(connection)
        return connection

    def take(self, user: str, on_granted: Granted, owner: str = "") -> Turn:
        """Queues for a connection of this owner, or for room to open one."""
        turn = Turn(user, on_granted, owner)
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
        while self._waiting:
            turn = self._waiting[0]
            turn.connection = self._pop_idle(turn.owner)
            if turn.connection is None:
                if not self._make_room():
                    return
                self._opening += 1
            self._waiting.popleft()
            turn.is_granted = True
            turn.on_granted(turn)

    def _make_room(self) -> bool:
        """Closes the connections that have been idle longest until there is room; whether there is.

        They belong to other owners, so their slots can be passed on, but never the connections.
        """
        while not self._has_room and self.idle:
            connection = self.idle.popleft()
            self.connections.discard(connection)
            connection.close()
        return self._has_room

    @property
    def _has_room(self) -> bool:
        return len(self.connections) + self._opening < self.limit

    def give_up(self, turn: Turn) -> None:
        """Gives up a request's turn, whether or not it was granted."""
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
        """Notes that a request of the user has ended, or got no connection."""
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

    def opened(self, connection: UpstreamConnection, user: str, owner: str = "") -> None:
        """Uses the reserved room for this connection, which belongs to `owner` as long as it is open."""
        self._opening -= 1
        connection.owner = owner
        connection.user = user
        self.connections.add(connection)

    def not_opened(self, user: str) -> None:
        """Frees the reserved room."""
        self._opening -= 1
        self.end_use(user)

    def release(self, connection: UpstreamConnection) -> None:
        """Notes that the connection is idle again."""
        user, connection.user = connection.user, None
        self.idle.append(connection)
        if user is not None:
            self.end_use(user)

    def discard(self, connection: UpstreamConnection) -> None:
        """Notes that the connection has ended, or belongs to another protocol."""
        self.connections.discard(connection)
        user, connection.user = connection.user, None
        if user is not None:
            self.end_use(user)
        elif self._waiting:
            self._grant()
