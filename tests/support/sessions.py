"""Sessions for tests of code that runs after a sign-in."""

from collections.abc import Mapping

from calgate.authentication.session import Session
from calgate.authentication.sessions import Sessions
from calgate.http.cookies import UpstreamCookie
from calgate.plugin.identity import Identity, Person


async def begin_session(
    sessions: Sessions,
    identity: Identity,
    person: Person,
    address: str,
    *,
    is_browser: bool,
    cookies: Mapping[UpstreamCookie, str] | None = None,
) -> tuple[Session, str]:
    """Begins and stores a session; returns it with the id in its cookie."""
    session, session_id = sessions.new(identity, person, address, is_browser=is_browser, cookies=cookies)
    await sessions.store(session)
    return session, session_id
