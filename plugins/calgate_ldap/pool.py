"""Domain controllers as one: a few threads with a connection each, and the next server where one fails."""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from calgate.plugin import Unavailable
from calgate_ldap.connection import BindError, BrokenError, Connection
from calgate_ldap.settings import Config, ServerAddress

_log = logging.getLogger(__name__)
T = TypeVar("T")
Query = Callable[[Connection], T]

THREADS = 4
REST = 30.0
"""Seconds for which a server that failed is asked last."""
LIFETIME = 900.0
"""Seconds after which a connection is made anew (less up to a third, so that not all are at once): the way back to the
preferred server, and shorter than the idle time after which a domain controller hangs up."""
DEADLINE = 10.0
"""Seconds for one question, whatever its servers do."""
PAUSE = 2.0
"""Seconds in which nobody is asked after no server answered: else all who wait would wait for each other's timeouts."""
BIND_PAUSE = 600.0
"""Seconds without another attempt after our own account was refused: more would lock it (windows are 10-30 min)."""


class Pool:
    """Asks whichever server answers. `clock`: seconds that only go forward."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ValueError where the CA file or the password cannot be used."""
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

    async def ask(self, query: Query[T]) -> T:
        """The query's answer from one server; raises Unavailable (directory-unavailable)."""
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._ask, query)
        try:
            answer = await asyncio.wait_for(work, DEADLINE)
        except (BrokenError, BindError, TimeoutError) as error:
            detail = str(error) or f"no domain controller answered within {DEADLINE:.0f} s"
            if not self._is_down:
                self._is_down = True
                _log.error("ldap: nobody answers, people whose groups are not known get 503: %s", detail)
            raise Unavailable(f"ldap: {detail}", code="directory-unavailable") from error
        if self._is_down:
            self._is_down = False
            _log.warning("ldap: answers again")
        return answer

    def close(self) -> None:
        """Lets go of everything; a question that is still under way fails."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for connection in list(self._connections):
            self._drop(connection)

    # ------------------------------------------------------------ in a thread

    def _ask(self, query: Query[T]) -> T:
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
                return self._ask_anew(address, query)
            except BrokenError as error:
                self._rest(address, error)
                failures.append(str(error))
        self._last_failure, self._pause_until = "; ".join(failures), self._clock() + PAUSE
        raise BrokenError(self._last_failure)

    def _kept(self) -> Connection | None:
        """This thread's connection where it is still good for something."""
        connection: Connection | None = getattr(self._mine, "connection", None)
        if connection is not None and self._clock() >= self._mine.until:
            self._drop(connection)
            return None
        return connection

    def _ask_anew(self, address: ServerAddress, query: Query[T]) -> T:
        """Over a new connection, which this thread keeps where it served."""
        connection = Connection(address, self._config.ca)
        self._connections.add(connection)
        try:
            with self._binding:
                self._bind(connection)
            answer = query(connection)
        except BaseException:
            self._drop(connection)
            raise
        if self._resting.pop(address, None) is not None:
            _log.warning("ldap: %s answers again", address)
        self._mine.connection = connection
        self._mine.until = self._clock() + LIFETIME * random.uniform(0.67, 1)  # noqa: S311 - spreads load
        return answer

    def _drop(self, connection: Connection) -> None:
        self._mine.connection = None
        self._connections.discard(connection)
        connection.close()

    def _bind(self, connection: Connection) -> None:
        """One thread at a time, so that a wrong password is tried once and not by each."""
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
        """As configured, those that failed lately last."""
        now = self._clock()
        return sorted(self._config.servers, key=lambda address: self._resting.get(address, now) > now)

    def _rest(self, address: ServerAddress, error: BrokenError) -> None:
        if address not in self._resting:
            _log.warning("ldap: %s", error)
        self._resting[address] = self._clock() + REST


def _reveal(config: Config) -> str:
    try:
        return config.bind.password.reveal()
    except (OSError, KeyError) as error:
        raise BindError(f"ldap.bind.password is gone: {error}") from error


def _demand_usable(config: Config) -> None:
    if not config.bind.password.reveal():
        raise ValueError("ldap.bind.password is empty: a server takes that for an anonymous sign-in and says yes")
    if config.ca is not None:
        Connection.check_ca(config.ca)
