"""Names of sessions, by which a sign-in method can end them: an index in the store, which every gateway reads."""

import hashlib
from collections.abc import Sequence

from calgate.authentication.sessions import Sessions
from calgate.plugin.services import Store
from calgate.plugin.values import as_text, milliseconds

MOST = 100  # sessions of one name; the oldest ends when one more begins


class SessionNames:
    """Remembers under which names a session was begun, for as long as the session can last."""

    def __init__(self, store: Store, sessions: Sessions, lifetime: float) -> None:
        self._store = store
        self._sessions = sessions
        self._lifetime = lifetime

    async def add(self, method: str, names: Sequence[str], session: str) -> None:
        """Adds a session's key to each name of a sign-in method. Raises Unavailable."""
        for name in names:
            key = self._key(method, name)
            await self._store.call("calgate_session_v1_enlist", [key], [session, milliseconds(self._lifetime)])
            for oldest in await self._store.execute("ZRANGE", key, 0, -(MOST + 1)):
                await self._sessions.end(as_text(oldest), "too many sessions of one user")
                await self._store.execute("ZREM", key, oldest)

    async def sessions(self, method: str, name: str) -> Sequence[str]:
        """Returns the keys of the sessions that have a name; some may have ended. Raises Unavailable."""
        return [as_text(key) for key in await self._store.execute("ZRANGE", self._key(method, name), 0, -1)]

    def _key(self, method: str, name: str) -> str:
        return f"{self._store.prefix}:sessions-named:{method}:{hashlib.sha256(name.encode()).hexdigest()}"
