"""The gateway's own paths, `/_calgate/…`: never forwarded, never licensed."""

import json
from collections.abc import Awaitable, Callable

from calgate.authentication.sessions import Sessions
from calgate.authentication.sign_in import SignIn
from calgate.endpoints.refusals import RefusalResponses
from calgate.http.cookies import UpstreamCookie, expire_cookies, session_id_of
from calgate.http.request import Request
from calgate.http.response import Response, date
from calgate.licensing.leases import Licensing
from calgate.plugin.errors import CrossSite, Forbidden, MethodRefused
from calgate.telemetry import log

PREFIX = "/_calgate/"


class GatewayPaths:
    """Sign-out, signed-out, health."""

    def __init__(
        self,
        sign_in: SignIn,
        sessions: Sessions,
        licensing: Licensing,
        refusals: RefusalResponses,
        health: Callable[[], Awaitable[dict[str, object]]],
    ) -> None:
        self._sign_in = sign_in
        self._sessions = sessions
        self._licensing = licensing
        self._refusals = refusals
        self._health = health

    async def serve(self, request: Request) -> Response:
        """Answers one of the gateway's own paths; raises Forbidden for one that it has not."""
        request.connection.take_handshake()
        match request.target.path.removeprefix(PREFIX):
            case "sign-out":
                return await self._sign_out(request)
            case "signed-out":
                return self._refusals.signed_out(request)
            case "health":
                return await self._tell_health()
            case _:
                raise Forbidden("not a path of the gateway's")

    async def _sign_out(self, request: Request) -> Response:
        """A same-origin POST signs out; a GET shows the button, since a link or an image must not sign anybody out."""
        session_id = session_id_of(request)
        if request.method == "GET":
            live = await self._sessions.find(session_id)
            return self._refusals.sign_out(request, live.name if live is not None else None)
        if request.method != "POST":
            raise MethodRefused("sign-out is a POST")
        if not self._is_same_origin(request):
            raise CrossSite("a sign-out from another site's page")
        session = await self._sessions.owner(session_id)
        cookies = {UpstreamCookie(name) for name in request.headers.cookies.names}
        if session is not None and await self._sessions.end(session.key, "signed out"):
            cookies |= session.cookies
            await self._licensing.release(session)
            log.decision("signed out", reference=request.reference, user=session.name, address=request.address)
        headers = [(b"Location", b"/_calgate/signed-out"), (b"Cache-Control", b"no-store"), (b"Date", date())]
        return Response(303, [*headers, self._sign_in.cookie(request.scheme, ""), *expire_cookies(cookies)])

    def _is_same_origin(self, request: Request) -> bool:
        site = request.headers.get(b"sec-fetch-site")
        origin = request.headers.get(b"origin").lower()
        return site == "same-origin" or (not site and origin in ("", request.origin))

    async def _tell_health(self) -> Response:
        health = await self._health()
        body = json.dumps(health).encode() + b"\n"
        headers = [(b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"), (b"Date", date())]
        return Response(200 if health["status"] == "ready" else 503, headers, body)
