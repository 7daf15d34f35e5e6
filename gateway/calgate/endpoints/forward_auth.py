"""Forward-auth: another proxy forwards, and requests a verdict here first (nginx, Traefik, Caddy, HAProxy).

The pipeline's four questions decide about the request that the proxy describes, and the verdict is returned as a status
and headers. Only a trusted proxy that sends the shared secret gets one: anybody else could learn what users may open,
and could take CALs in their name. NTLM cannot work here: its handshake belongs to a connection, and the connection is
the proxy's.
"""

import hmac
from collections.abc import Collection
from dataclasses import replace

from calgate.endpoints.settings import ForwardAuthSection
from calgate.exchange.questions import Questions
from calgate.http.request import Request
from calgate.http.response import Response, date
from calgate.http.target import read_target, to_origin_form
from calgate.plugin.errors import BadRequest, Forbidden, MethodRefused
from calgate.routes import Route

PATH = "/_calgate/auth"
_SECRET = b"x-calgate-secret"
_DESCRIPTION = frozenset({b"x-forwarded-uri", b"x-forwarded-method", b"x-forwarded-host"})


def described_request(request: Request, section: ForwardAuthSection | None, methods: Collection[str]) -> Request:
    """Returns the request that the proxy describes.

    Raises Forbidden for a client that may not request verdicts, BadRequest where the description is incomplete, and
    MethodRefused for a method outside `methods`.
    """
    shown = request.headers.by_name.get(_SECRET, b"")
    expected = section.secret.reveal().encode() if section is not None else b""
    if not request.behind_proxy or not expected or not hmac.compare_digest(shown, expected):
        raise Forbidden("forward-auth: not a trusted proxy, or not with the shared secret")
    names = [lower for name, _ in request.raw.raw_headers if (lower := name.lower()) in _DESCRIPTION]
    if len(set(names)) < len(names):
        raise BadRequest("forward-auth: a description came twice; the proxy must replace what the client has sent")
    uri = request.headers.get(b"x-forwarded-uri")
    method = request.headers.get(b"x-forwarded-method")
    host = (request.headers.get(b"x-forwarded-host") or request.host).lower()
    if not uri or not method:
        raise BadRequest("forward-auth: X-Forwarded-Method or X-Forwarded-Uri is missing; the proxy must send both")
    if method not in methods:
        raise MethodRefused(f"forward-auth: method {method[:20]!r}")
    raw_target = to_origin_form(uri, host)
    return replace(
        request, method=method, host=host, raw_target=raw_target, target=read_target(raw_target), awaits_continue=False
    )


async def respond(request: Request, route: Route | None, questions: Questions) -> Response:
    """Returns a positive verdict, with the user; every other verdict is a Refusal.

    The proxy does not report how the request ends, so a new CAL counts as used.
    """
    _demand_body(request, route)
    if route is not None and route.is_public and route.license is not None:
        raise Forbidden(
            "forward-auth: a CAL without sign-in begins with a cookie and a redirect, which another proxy does not pass"
            " on; let the gateway forward this route"
        )
    if route is not None and route.server_sign_on is not None:
        raise Forbidden(
            "forward-auth: the sign-on of this route is valid for one document server and one request, so another proxy"
            " cannot send it; let the gateway forward this route"
        )
    admission = await questions.admit(request, route)
    questions.settle(admission, served=True)
    person = admission.person
    headers = [
        # empty, not absent, where nobody is signed in: it replaces what the client may have sent under this name
        (b"X-Calgate-User", b"" if admission.route.is_public else person.name.encode("utf-8")),
        (b"X-Calgate-Rule", admission.grant.rule.encode("utf-8")),
        (b"X-Calgate-Cal", (admission.lease.kind if admission.lease is not None else "none").encode()),
        (b"Cache-Control", b"no-store"),
        (b"Date", date()),
    ]
    if admission.signed_in.cookies:  # for the proxy to forward instead of the client's, which has the session cookie
        headers.append((b"Cookie", admission.signed_in.cookies))
    lines = admission.sign_on.split(b"\r\n")[:-1]
    sign_on = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    return Response(200, [*headers, *sign_on, *admission.signed_in.response_headers])


def _demand_body(request: Request, route: Route | None) -> None:
    """Refuses a request whose body says which document it is about, where the proxy keeps the body back."""
    dialect = route.dialect if route is not None else None
    content_type = request.headers.get(b"content-type")
    if (
        dialect is not None
        and request.length == 0
        and dialect.needs_body(request.method, request.raw_target, content_type)
    ):
        raise Forbidden("forward-auth: the body decides which document is meant, and the proxy does not send it")
