"""The gateway's own paths, `/_calgate/…`: never forwarded, never licensed."""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from urllib.parse import parse_qsl

from calgate.authentication.anonymous import AnonymousBrowsers
from calgate.authentication.completion import complete
from calgate.authentication.session import SIGNED_OUT, Session
from calgate.authentication.sessions import Sessions
from calgate.endpoints import PREFIX, cookie_check
from calgate.endpoints.cookie_check import CookieCheck
from calgate.endpoints.refusals import RefusalResponses
from calgate.endpoints.session_end import SessionEnd
from calgate.endpoints.sign_in_pages import SignInPages
from calgate.http.cookies import cookies_named, expire_cookies, session_cookie, session_id_of
from calgate.http.headers import Header
from calgate.http.origin import normalize_origin
from calgate.http.request import Request
from calgate.http.response import Response, date
from calgate.licensing.leases import Licensing
from calgate.plugin.errors import CrossSite, Forbidden, MethodRefused, Unavailable
from calgate.plugin.sign_on import PublishesKeys
from calgate.telemetry import log

_SIGN_IN = "sign-in/"
_FROM = re.compile(r"from=([0-9]{1,3})")  # the first cookie that is still to be deleted
_KEYS_FRESH = 300  # seconds that a reader may keep the keys; a new one is published for an hour before it signs
_VISITOR = "visitor"  # nobody was signed in
_AT_PROVIDER = "at="  # how the user had signed in


class GatewayPaths:
    """Serves sign-in pages, sign-out, signed-out, free (is a CAL free?), cookie (does it come back?), health, keys."""

    def __init__(
        self,
        same_site: str,
        sessions: Sessions,
        licensing: Licensing,
        refusals: RefusalResponses,
        sign_in_pages: SignInPages,
        browsers: AnonymousBrowsers,
        health: Callable[[], Awaitable[dict[str, object]]],
        keys: Sequence[PublishesKeys] = (),
    ) -> None:
        self._same_site = same_site
        self._sessions = sessions
        self._licensing = licensing
        self._session_end = SessionEnd(sessions, licensing)
        self._refusals = refusals
        self._sign_in_pages = sign_in_pages
        self._browsers = browsers
        self._cookie_check = CookieCheck(browsers)
        self._health = health
        self._keys = keys

    async def serve(self, request: Request) -> Response:
        """Returns the response to a request for one of the gateway's own paths; raises Forbidden for unknown ones."""
        path = request.target.path.removeprefix(PREFIX)
        if path.startswith(_SIGN_IN):
            return await self._sign_in_pages.serve(request, path.removeprefix(_SIGN_IN))
        request.connection.take_handshake()
        match path:
            case "sign-out":
                return await self._sign_out(request)
            case "signed-out":
                _demand_method(request, "GET", "HEAD")
                return await self._signed_out(request)
            case "free":
                _demand_method(request, "GET", "HEAD")
                return await self._free(request)
            case "health":
                _demand_method(request, "GET", "HEAD")
                return await self._health_response(strict=request.target.query == "strict")
            case cookie_check.NAME:
                _demand_method(request, "GET", "HEAD")
                return await self._cookie_check.respond(request)
            case "keys" if self._keys:
                _demand_method(request, "GET", "HEAD")
                return self._published_keys()
            case _:
                raise Forbidden("not one of the gateway's own paths")

    async def _sign_out(self, request: Request) -> Response:
        """Signs out on a same-origin POST; a GET shows the button, since no link or image may sign anybody out."""
        session_id = session_id_of(request)
        _demand_method(request, "GET", "HEAD", "POST")
        if request.method != "POST":
            live = await self._sessions.find(session_id)
            is_visitor = live is None and await self._browsers.find(request) is not None
            return self._refusals.sign_out(request, live.name if live is not None else None, is_visitor=is_visitor)
        if not self._is_same_origin(request):
            raise CrossSite("a sign-out from another site's page")
        session, forgotten = await complete(self._leave(request, session_id))
        if session is None and forgotten:
            return _see_other(b"/_calgate/signed-out?" + _VISITOR.encode(), forgotten)
        response = self._after_sign_out(request, session, 0)
        response.headers += forgotten
        return response

    async def _leave(self, request: Request, session_id: str) -> tuple[Session | None, Sequence[Header]]:
        """Ends the session and the visit of a browser: it can have a CAL under each."""
        return await self._end_session(request, session_id), await self._end_visit(request)

    async def _end_session(self, request: Request, session_id: str) -> Session | None:
        """Ends the session that a cookie belongs or belonged to, and returns it."""
        session = await self._sessions.owner(session_id)
        if session is not None:
            await self._session_end.end(request, session, SIGNED_OUT)
        return session

    async def _end_visit(self, request: Request) -> Sequence[Header]:
        """Gives back the CAL that the browser has on public routes; returns headers that delete its cookie."""
        visitor, headers = await self._browsers.leave(request)
        if visitor is not None:
            await self._licensing.release(visitor)
            log.decision(SIGNED_OUT, reference=request.reference, user=visitor.name, address=request.address)
        return headers

    async def _signed_out(self, request: Request) -> Response:
        """Shows that the user is signed out; before that deletes the cookies that earlier responses had no room for."""
        query = request.raw_target.partition("?")[2]
        if query == _VISITOR:
            return self._refusals.signed_out(request, is_visitor=True)
        begin = _FROM.fullmatch(query)
        if begin is None:
            return self._at_provider(request, query.removeprefix(_AT_PROVIDER))
        with suppress(Unavailable):
            session = await self._sessions.owner(session_id_of(request))
            if session is not None and session.ended:
                return self._after_sign_out(request, session, int(begin[1]))
        return self._refusals.signed_out(request)

    def _at_provider(self, request: Request, mechanism: str) -> Response:
        """Shows that the user is signed out, and ends the session at the provider next where they signed in by one.

        By a refresh: the sign-out is a form, and our form-action policy holds for the redirects that follow it.
        """
        response = self._refusals.signed_out(request)
        if path := self._sign_in_pages.sign_out_path(mechanism):
            response.headers.append((b"Refresh", b"0; url=" + path.encode()))
        return response

    def _after_sign_out(self, request: Request, session: Session | None, begin: int) -> Response:
        """Deletes as many cookies as one response has room for, and leads on.

        The session cookie, which names the record of the others, is the last to go.
        """
        cookies = session.cookies.known if session is not None else ()
        deletions, left = expire_cookies(cookies_named(request.headers.cookies.names, cookies)[begin:])
        path = b"/_calgate/signed-out"
        following = begin + len(deletions)
        if left and following < len(cookies):
            path += b"?from=%d" % following
        else:
            if session is not None and self._sign_in_pages.sign_out_path(session.identity.mechanism):
                path += b"?" + (_AT_PROVIDER + session.identity.mechanism).encode()
            deletions.insert(0, session_cookie(request.scheme, "", self._same_site))
        return _see_other(path, deletions)

    def _is_same_origin(self, request: Request) -> bool:
        site = request.headers.get(b"sec-fetch-site")
        origin = request.headers.get(b"origin")
        return site == "same-origin" or (not site and (not origin or normalize_origin(origin) in request.own_origins))

    async def _free(self, request: Request) -> Response:
        """Returns whether a pool of the wanted kinds has a free CAL, for a denial page that is open; takes none."""
        if await self._sessions.find(session_id_of(request)) is None:
            raise Forbidden("only a signed-in user can see whether a CAL is free")
        query = dict(parse_qsl(request.raw_target.partition("?")[2]))
        kinds = query.get("kinds", "").split(",")
        pools = await self._licensing.pools(query.get("license", ""))
        free = any(pool.occupied < pool.limit for pool in pools if pool.kind in kinds)
        headers = [(b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"), (b"Date", date())]
        return Response(200, headers, json.dumps({"free": free}).encode() + b"\n")

    def _published_keys(self) -> Response:
        """Returns the public keys of all sign-ons that sign (JWK Set, RFC 7517, 5); public, so no session is needed."""
        by_number = {key["kid"]: key for one in self._keys for key in one.public_keys()}
        body = json.dumps({"keys": list(by_number.values())}).encode() + b"\n"
        caching = b"public, max-age=%d" % _KEYS_FRESH
        headers = [(b"Content-Type", b"application/jwk-set+json"), (b"Cache-Control", caching), (b"Date", date())]
        return Response(200, headers, body)

    async def _health_response(self, *, strict: bool) -> Response:
        """Returns 200 when ready, even while a shared dependency is unreachable; `?strict` returns 503 then."""
        health = await self._health()
        if strict and (health["degraded"] or health["status"] != "ready"):
            health = {"status": "starting", "missing": health["degraded"]}
        body = json.dumps(health).encode() + b"\n"
        headers = [(b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"), (b"Date", date())]
        return Response(200 if health["status"] == "ready" else 503, headers, body)


def _see_other(path: bytes, headers: Sequence[Header]) -> Response:
    return Response(303, [(b"Location", path), (b"Cache-Control", b"no-store"), (b"Date", date()), *headers])


def _demand_method(request: Request, *allowed: str) -> None:
    if request.method not in allowed:
        raise MethodRefused(f"method {request.method} for {request.target.path}", allowed)
