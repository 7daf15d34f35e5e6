"""Signing in on pages: `/_calgate/sign-in/`, a path below it for each sign-in method, and one for each scheme.

A page of another site must not sign anybody in (login CSRF), so a POST needs proof from the browser that it comes from
this origin: SameSite does not help where there is no cookie yet, and a token would need one.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, quote

from calgate.authentication.completion import complete
from calgate.authentication.handshakes import Handshakes
from calgate.authentication.notes import Notes
from calgate.authentication.session import SIGNED_OUT_THERE
from calgate.authentication.session_names import SessionNames
from calgate.authentication.sign_in import SignedIn, SignIn
from calgate.endpoints import ADMIN, PREFIX
from calgate.endpoints.refusals import RefusalResponses
from calgate.endpoints.session_end import SessionEnd
from calgate.http.cookies import note_cookie, note_of
from calgate.http.origin import normalize_origin
from calgate.http.request import Request
from calgate.http.response import Response, date
from calgate.pages import own_path
from calgate.plugin.errors import AuthenticationFailed, BadRequest, CrossSite, Forbidden, MethodRefused, SignInNeeded
from calgate.plugin.identity import Authenticated
from calgate.plugin.sign_in_method import FreshSignIn, ProviderSignIn, Redirect, ShowPage, SignInMethod, SignInRequest

_LONGEST_FORM = 8192
_MOST_FIELDS = 20


class FormSignInFailed(AuthenticationFailed):
    """A sign-in on a page failed. Not 401: its challenge would open the browser's own password box over the form."""

    status = 403


class SignInPages:
    """Serves the sign-in methods' pages, and signs in by a scheme on request."""

    def __init__(
        self,
        methods: Mapping[str, SignInMethod],
        sign_in: SignIn,
        handshakes: Handshakes,
        notes: Notes,
        refusals: RefusalResponses,
        names: SessionNames,
        session_end: SessionEnd,
        same_site: str,
    ) -> None:
        self._methods = methods
        self._names = names
        self._session_end = session_end
        self._same_site = same_site
        self._sign_in = sign_in
        self._handshakes = handshakes
        self._notes = notes
        self._refusals = refusals

    async def serve(self, request: Request, rest: str) -> Response:
        """Returns the response to a request for `/_calgate/sign-in/REST`; raises a Refusal."""
        if request.method not in ("GET", "HEAD", "POST"):
            raise MethodRefused(f"method {request.method} for {request.target.path}", ("GET", "HEAD", "POST"))
        name, _, step = rest.partition("/")
        method = self._methods.get(name)
        if isinstance(method, ProviderSignIn) and step in method.notice_steps:
            return await self._notice(request, name, method, step)
        query = _read(request.raw_target.partition("?")[2])
        form: dict[str, str] = {}
        if request.method == "POST":
            form = await self._form(request)
        request.back_to = _back_to(form.pop("to", "") or query.pop("to", ""))
        if name in self._methods or not name:
            request.connection.take_handshake()  # our own paths end one that goes on
        if not name:
            return self._refusals.sign_in_page(request)
        if name in self._methods:
            return await self._by_method(request, name, step, query, form)
        if (scheme := self._handshakes.scheme_named(name)) and request.method != "POST" and not step:
            return await self._by_scheme(request, scheme)
        raise Forbidden("not one of the gateway's own paths")

    async def _by_method(
        self, request: Request, name: str, step: str, query: Mapping[str, str], form: Mapping[str, str]
    ) -> Response:
        method = self._methods[name]
        if method.needs_https and request.scheme != "https":
            raise Forbidden(f"the sign-in method {name} is served over https only")
        sealed = note_of(request)
        asked = SignInRequest(
            peer=self._handshakes.peer(request),
            method="POST" if request.method == "POST" else "GET",
            step=step,
            query=query,
            form=form,
            note=await self._notes.open(name, sealed) if sealed else b"",
            origin=request.origin,
            back_to=request.back_to,
        )
        try:
            result = await method.handle(asked)
        except AuthenticationFailed as refusal:
            raise FormSignInFailed(refusal.detail, code=refusal.code) from refusal
        if isinstance(result, Authenticated):
            signed_in = await complete(self._begin(request, name, result))
            if result.back_to:
                request.back_to = _back_to(result.back_to)
            return self._signed_in(request, signed_in)
        if isinstance(result, Redirect):
            response = _see_other(result.location)
        else:
            response = self._refusals.method_page(request, name, result)
        response.headers += await self._note_headers(request, name, result)
        return response

    async def _begin(self, request: Request, name: str, proved: Authenticated) -> SignedIn:
        """Begins a session that the method can end later; without its names the provider's notices would miss it."""
        signed_in = await self._sign_in.begin(request, proved.identity, is_fresh=proved.is_fresh)
        await self._names.add(name, proved.session_names, signed_in.session.key)
        return signed_in

    async def _note_headers(
        self, request: Request, name: str, result: ShowPage | Redirect
    ) -> list[tuple[bytes, bytes]]:
        if result.note:
            return [note_cookie(request.scheme, await self._notes.seal(name, result.note))]
        return [note_cookie(request.scheme, b"")] if note_of(request) else []

    async def _by_scheme(self, request: Request, scheme: str) -> Response:
        """Signs in by a scheme that the sign-in page does not offer to this client, on request."""
        if not self._handshakes.has_credentials(request):
            raise SignInNeeded(f"sign-in by {scheme} was requested", [scheme])
        return self._signed_in(request, await self._sign_in.by_handshake(request))

    def _signed_in(self, request: Request, signed_in: SignedIn) -> Response:
        # a strict cookie would not come back at the end of a redirect that began at another site
        is_own = self._same_site != "Strict" or request.headers.get(b"sec-fetch-site") == "same-origin"
        response = _see_other(request.back_to) if is_own else _refresh(request.back_to)
        response.headers += signed_in.response_headers
        if note_of(request):
            response.headers.append(note_cookie(request.scheme, b""))
        return response

    async def _notice(self, request: Request, name: str, method: ProviderSignIn, step: str) -> Response:
        """Lets a provider's server end sessions, such as by a back-channel logout."""
        request.connection.take_handshake()
        if request.method != "POST":
            raise MethodRefused(f"method {request.method} for {request.target.path}", ("POST",))
        form = await self._urlencoded(request)
        await complete(self._end_named(request, name, method, step, form))
        return Response(200, [(b"Cache-Control", b"no-store"), (b"Date", date())])

    async def _end_named(
        self, request: Request, name: str, method: ProviderSignIn, step: str, form: Mapping[str, str]
    ) -> None:
        """Ends the sessions that a notice names. The method takes a notice once, so it must not be lost halfway."""
        for session_name in await method.notice(step, form):
            for key in await self._names.sessions(name, session_name):
                await self._session_end.end_key(request, key, SIGNED_OUT_THERE)

    def sign_out_path(self, mechanism: str) -> str:
        """Returns the path that ends the session at the provider where the user signed in by one, else ""."""
        for name, method in self._methods.items():
            if isinstance(method, ProviderSignIn) and mechanism in method.mechanisms and method.sign_out_step:
                return f"{PREFIX}sign-in/{name}/{method.sign_out_step}"
        return ""

    def ways_to_prove(self, request: Request) -> Sequence[tuple[str, str]]:
        """Returns label and path of each method by which a user of this request can prove again who they are."""
        return [
            (method.label, f"{PREFIX}sign-in/{name}/{method.fresh_step}".rstrip("/"))
            for name, method in self._methods.items()
            if isinstance(method, FreshSignIn) and (request.scheme == "https" or not method.needs_https)
        ]

    async def _form(self, request: Request) -> dict[str, str]:
        """Returns the fields of a form of our own page. Raises CrossSite, SignInNeeded, BadRequest or TooLarge."""
        site = request.headers.get(b"sec-fetch-site")
        origin = request.headers.get(b"origin")
        if not site and not origin:
            raise CrossSite("a form without Sec-Fetch-Site and Origin, so nobody knows which site sent it")
        if site != "same-origin" if site else normalize_origin(origin) not in request.own_origins:
            raise CrossSite("a form from another site's page")
        await self._handshakes.demand_form(request)
        return await self._urlencoded(request)

    async def _urlencoded(self, request: Request) -> dict[str, str]:
        kind = request.headers.get(b"content-type").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise Forbidden(f"the body of a sign-in form is urlencoded, not {kind[:60] or 'without a type'}")
        body = await request.read_body(_LONGEST_FORM)
        try:
            return _read(body.decode("ascii"))
        except UnicodeDecodeError as error:
            raise BadRequest("a urlencoded form has ASCII characters only") from error


def _read(text: str) -> dict[str, str]:
    """Reads a query or a form. Raises BadRequest for what can be read in two ways."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise BadRequest(f"a form cannot be read: {error}") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadRequest("a form names a field twice")
    return fields


def _back_to(path: str) -> str:
    """Returns the path to go to after signing in: a document's or a screen's, never one of our other pages."""
    safe = own_path(path or "/")
    return "/" if safe.lower().startswith(PREFIX) and not safe.startswith(ADMIN) else safe


def _refresh(path: str) -> Response:
    target = quote(path, safe="/?&=%+,:@!$'()*~").encode()
    headers = [(b"Refresh", b"0; url=" + target), (b"Cache-Control", b"no-store"), (b"Content-Type", b"text/plain")]
    return Response(200, [*headers, (b"Date", date())], b"You are signed in.\n")


def _see_other(location: str) -> Response:
    target = location.encode("ascii", "strict") if location.isascii() else location.encode("latin-1", "replace")
    return Response(303, [(b"Location", target), (b"Cache-Control", b"no-store"), (b"Date", date())])
