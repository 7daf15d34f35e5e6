"""Ends a session together with all that belongs to it."""

from calgate.authentication.session import Session
from calgate.authentication.sessions import Sessions
from calgate.http.request import Request
from calgate.licensing.leases import Licensing
from calgate.telemetry import log


class SessionEnd:
    """Ends sessions for their users, and releases their CALs."""

    def __init__(self, sessions: Sessions, licensing: Licensing) -> None:
        self._sessions = sessions
        self._licensing = licensing

    async def end(self, request: Request, session: Session, reason: str) -> None:
        """Ends a session; one that ended for the same reason before releases its CALs again."""
        failed_halfway = session.ended == reason
        is_first = await self._sessions.end(session.key, reason)
        if is_first or failed_halfway:
            await self._licensing.release(session)
        if is_first:
            log.decision(reason, reference=request.reference, user=session.name, address=request.address)

    async def end_key(self, request: Request, key: str, reason: str) -> None:
        """Ends the session of a key, if the store still knows it."""
        session = await self._sessions.of_key(key)
        if session is not None:
            await self.end(request, session, reason)
