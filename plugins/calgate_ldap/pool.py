"""The connections to a domain's controllers: a few threads with one each, which move on when a server fails."""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from calgate.plugin import Refusal, Unavailable
from calgate_ldap.connection import BindError, BrokenError, Connection
from calgate_ldap.settings import Config, ServerAddress

logger = logging.getLogger(__name__)
T = TypeVar("T")
Query = Callable[[Connection], T]

THREADS = 4
REST = 30.0
"""Seconds for which a server that failed is tried last."""
LIFETIME = 900.0
"""Seconds after which a connection is replaced (up to a third less, so that not all are replaced at once). This returns
to the preferred server, and is shorter than the idle time after which a domain controller closes a connection."""
DEADLINE = 10.0
"""Seconds for one query, over all servers."""
PAUSE = 2.0
"""After every server has failed, queries fail at once for this many seconds, so that queued ones do not wait out the
timeouts one after the other."""
BIND_PAUSE = 600.0
"""Seconds without another bind after ldap.bind was refused: more could lock the account (windows are 10-30 min)."""


class Pool:
    """Runs queries on a server that responds. `clock`: monotonic seconds."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ValueError if the CA file or the password cannot be used."""
        self._config = config
        self._clock = clock
        self._resting: dict[ServerAddress, float] = {}
        self._bind_refused: tuple[str, float, str] | None = None  # password, until, why
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ldap")
        self._mine = threading.local()
        self._binding = threading.Lock()
        self._connections: set[Connection] = set()
        self._is_down = False
        self._last_failure, self._pause_until = "", 0.0
        _demand_usable(config)

    async def query(self, query: Query[T]) -> T:
        """Returns the query's result from one server. Raises Unavailable (directory-unavailable)."""
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._run, query)
        try:
            result = await asyncio.wait_for(work, DEADLINE)
        except (BrokenError, BindError, TimeoutError) as error:
            detail = str(error) or f"no domain controller responded within {DEADLINE:.0f} s"
            if not self._is_down:
                self._is_down = True
                logger.error("ldap: no domain controller responds; users who are not in the cache get 503: %s", detail)
            raise Unavailable(f"ldap: {detail}", code="directory-unavailable") from error
        if self._is_down:
            self._is_down = False
            logger.warning("ldap: a domain controller responds again")
        return result

    def close(self) -> None:
        """Closes all connections; a query in progress fails."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for connection in list(self._connections):
            self._drop(connection)

    # ------------------------------------------------------------ in a thread

    def _run(self, query: Query[T]) -> T:
        if self._clock() < self._pause_until:
            raise BrokenError(self._last_failure)
        kept = self._kept()
        if kept is not None:
            try:
                return query(kept)
            except BrokenError as error:
                self._drop(kept)
                if not error.is_hang_up:
                    self._rest(kept.address, error)
        failures = []
        for address in self._order():
            try:
                return self._run_on_new_connection(address, query)
            except BrokenError as error:
                self._rest(address, error)
                failures.append(str(error))
        self._last_failure, self._pause_until = "; ".join(failures), self._clock() + PAUSE
        raise BrokenError(self._last_failure)

    def _kept(self) -> Connection | None:
        """Returns this thread's connection, or None if it has none or an old one."""
        connection: Connection | None = getattr(self._mine, "connection", None)
        if connection is not None and self._clock() >= self._mine.until:
            self._drop(connection)
            return None
        return connection

    def _run_on_new_connection(self, address: ServerAddress, query: Query[T]) -> T:
        """Runs the query on a new connection, which this thread keeps unless it failed."""
        connection = Connection(address, self._config.ca)
        self._connections.add(connection)
        try:
            with self._binding:
                self._bind(connection)
            result = query(connection)
        except Refusal:  # of a user's account: the connection is fine
            self._keep(connection)
            raise
        except BaseException:
            self._drop(connection)
            raise
        self._keep(connection)
        return result

    def _keep(self, connection: Connection) -> None:
        if self._resting.pop(connection.address, None) is not None:
            logger.warning("ldap: %s responds again", connection.address)
        self._mine.connection = connection
        self._mine.until = self._clock() + LIFETIME * random.uniform(0.67, 1)  # noqa: S311 - spreads load

    def _drop(self, connection: Connection) -> None:
        self._mine.connection = None
        self._connections.discard(connection)
        connection.close()

    def _bind(self, connection: Connection) -> None:
        """Binds. One thread at a time, so that a wrong password is tried once and not by every thread."""
        password = _reveal(self._config)
        if self._bind_refused is not None:
            refused, until, why = self._bind_refused
            if password == refused and self._clock() < until:
                pause = f"{BIND_PAUSE / 60:.0f} minutes"
                raise BindError(f"{why}; not tried again for {pause}, or until the password changes")
        try:
            connection.bind(self._config.bind.user, password)
        except BindError as error:
            self._bind_refused = (password, self._clock() + BIND_PAUSE, str(error))
            raise
        self._bind_refused = None

    def _order(self) -> list[ServerAddress]:
        """Returns the servers in the configured order, those that failed recently last."""
        now = self._clock()
        return sorted(self._config.servers, key=lambda address: self._resting.get(address, now) > now)

    def _rest(self, address: ServerAddress, error: BrokenError) -> None:
        if address not in self._resting:
            logger.warning("ldap: %s", error)
        self._resting[address] = self._clock() + REST


def _reveal(config: Config) -> str:
    try:
        return config.bind.password.reveal()
    except (OSError, KeyError) as error:
        raise BindError(f"ldap.bind.password cannot be read any more: {error}") from error


def _demand_usable(config: Config) -> None:
    if not config.bind.password.reveal():
        raise ValueError(
            "ldap.bind.password is empty: the server would treat it as an anonymous bind, which always succeeds"
        )
    if config.ca is not None:
        Connection.check_ca(config.ca)
