"""The gateway's own paths, `/_calgate/…`: never forwarded, never licensed."""

import json
from collections.abc import Awaitable, Callable

from calgate.authentication.completion import complete
from calgate.authentication.sessions import Sessions
from calgate.authentication.sign_in import SignIn
from calgate.endpoints.refusals import RefusalResponses
from calgate.http.cookies import UpstreamCookie, expire_cookies, session_id_of
from calgate.http.origin import normalize_origin
from calgate.http.request import Request
from calgate.http.response import Response, date
from calgate.licensing.leases import Licensing
from calgate.plugin.errors import CrossSite, Forbidden, MethodRefused
from calgate.telemetry import log

PREFIX = "/_calgate/"
_SIGNED_OUT = "signed out"  # the reason of a session that ended by its user's own sign-out


class GatewayPaths:
    """Serves sign-out, signed-out and health."""

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
        """Returns the response to a request for one of the gateway's own paths; raises Forbidden for unknown ones."""
        request.connection.take_handshake()
        match request.target.path.removeprefix(PREFIX):
            case "sign-out":
                return await self._sign_out(request)
            case "signed-out":
                return self._refusals.signed_out(request)
            case "health":
                return await self._health_response(strict=request.target.query == "strict")
            case _:
                raise Forbidden("not one of the gateway's own paths")

    async def _sign_out(self, request: Request) -> Response:
        """Signs out on a same-origin POST; a GET shows the button, since no link or image may sign anybody out."""
        session_id = session_id_of(request)
        if request.method == "GET":
            live = await self._sessions.find(session_id)
            return self._refusals.sign_out(request, live.name if live is not None else None)
        if request.method != "POST":
            raise MethodRefused("sign-out is a POST")
        if not self._is_same_origin(request):
            raise CrossSite("a sign-out from another site's page")
        cookies = await complete(self._end_session(request, session_id))
        headers = [(b"Location", b"/_calgate/signed-out"), (b"Cache-Control", b"no-store"), (b"Date", date())]
        return Response(303, [*headers, self._sign_in.cookie(request.scheme, ""), *expire_cookies(cookies)])

    async def _end_session(self, request: Request, session_id: str) -> set[UpstreamCookie]:
        """Ends the session and releases its CALs; returns the document server's cookies that the browser may hold."""
        cookies = {UpstreamCookie(name) for name in request.headers.cookies.names}
        session = await self._sessions.owner(session_id)
        if session is None:
            return cookies
        cookies |= session.cookies
        is_first = await self._sessions.end(session.key, _SIGNED_OUT)
        if is_first or session.ended == _SIGNED_OUT:  # a sign-out that failed halfway is repeated
            await self._licensing.release(session)
        if is_first:
            log.decision("signed out", reference=request.reference, user=session.name, address=request.address)
        return cookies

    def _is_same_origin(self, request: Request) -> bool:
        site = request.headers.get(b"sec-fetch-site")
        origin = request.headers.get(b"origin")
        return site == "same-origin" or (not site and (not origin or normalize_origin(origin) in request.own_origins))

    async def _health_response(self, *, strict: bool) -> Response:
        """Ready is 200, also while a dependency is away: all gateways share it. `?strict` wants those to be up, too."""
        health = await self._health()
        if strict and (health["degraded"] or health["status"] != "ready"):
            health = {"status": "starting", "missing": health["degraded"]}
        body = json.dumps(health).encode() + b"\n"
        headers = [(b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"), (b"Date", date())]
        return Response(200 if health["status"] == "ready" else 503, headers, body)
