"""The gateway's own paths, `/_calgate/…`: never forwarded, never licensed."""

import json
from collections.abc import Awaitable, Callable

from calgate import journal
from calgate.answer import Answer, date
from calgate.ask import Ask
from calgate.licensing import Licensing
from calgate.reception import Reception
from calgate.refusal import CrossSite, Forbidden, MethodRefused
from calgate.session import Sessions
from calgate.signin import SignIn, expire_cookies, session_id_of

PREFIX = "/_calgate/"


class OwnPaths:
    """Sign-out, signed-out, health."""

    def __init__(
        self,
        sign_in: SignIn,
        sessions: Sessions,
        licensing: Licensing,
        reception: Reception,
        health: Callable[[], Awaitable[dict[str, object]]],
    ) -> None:
        self._sign_in = sign_in
        self._sessions = sessions
        self._licensing = licensing
        self._reception = reception
        self._health = health

    async def serve(self, ask: Ask) -> Answer:
        """Answers one of the gateway's own paths; raises Forbidden for one that it has not."""
        ask.caller.handshake = None
        match ask.target.path.removeprefix(PREFIX):
            case "sign-out":
                return await self._sign_out(ask)
            case "signed-out":
                return self._reception.signed_out(ask)
            case "health":
                return await self._tell_health()
            case _:
                raise Forbidden("not a path of the gateway's")

    async def _sign_out(self, ask: Ask) -> Answer:
        """A same-origin POST signs out; a GET shows the button, since a link or an image must not sign anybody out."""
        session_id = session_id_of(ask)
        if ask.method == "GET":
            live = await self._sessions.find(session_id)
            return self._reception.sign_out(ask, live.name if live is not None else None)
        if ask.method != "POST":
            raise MethodRefused("sign-out is a POST")
        if not self._is_same_origin(ask):
            raise CrossSite("a sign-out from another site's page")
        session = await self._sessions.owner(session_id)
        cookies = {name + b";/;" for name in ask.inbound.cookies.names}
        if session is not None and await self._sessions.end(session.key, "signed out"):
            cookies |= session.cookies
            await self._licensing.release(session)
            journal.record("signed out", reference=ask.reference, user=session.name, address=ask.address)
        headers = [(b"Location", b"/_calgate/signed-out"), (b"Cache-Control", b"no-store"), (b"Date", date())]
        return Answer(303, [*headers, self._sign_in.cookie(ask.scheme, ""), *expire_cookies(cookies)])

    def _is_same_origin(self, ask: Ask) -> bool:
        site = ask.inbound.get(b"sec-fetch-site")
        origin = ask.inbound.get(b"origin").lower()
        return site == "same-origin" or (not site and origin in ("", ask.origin))

    async def _tell_health(self) -> Answer:
        health = await self._health()
        body = json.dumps(health).encode() + b"\n"
        headers = [(b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"), (b"Date", date())]
        return Answer(200 if health["status"] == "ready" else 503, headers, body)
