"""Turns a refusal, or one of the gateway's own pages, into a response: `pages` writes the text, this adds headers."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from urllib.parse import quote

from calgate.authentication.handshakes import FORM
from calgate.dialect import Dialect, DialectResponse
from calgate.endpoints import PREFIX
from calgate.endpoints.cookie_check import redirect_to_check
from calgate.http.connection import RawRequest
from calgate.http.request import Request
from calgate.http.response import Response, date
from calgate.pages import PageContext, Pages, RenderedPage, SignInOption, own_path
from calgate.pages.negotiation import prefers_page
from calgate.plugin.errors import MethodRefused, Refusal
from calgate.plugin.sign_in_method import ProviderSignIn, ShowPage, SignInMethod
from calgate.plugin.texts import mark as _


class InternalError(Refusal):
    """A bug in the gateway; the log has its traceback."""

    status = 500
    code = "internal-error"


_LABELS = {"Negotiate": _("Use the account that you are signed in to Windows with")}
_BY_PASSWORD = _("Sign in in the browser's own window")


class RefusalResponses:
    """Makes the responses that no document server gives."""

    def __init__(
        self,
        pages: Pages,
        methods: Sequence[str],
        sign_in_methods: Mapping[str, SignInMethod] = MappingProxyType({}),
        schemes: Sequence[str] = (),
        sign_in_path: Callable[[str], str] = lambda host: "",
    ) -> None:
        """`methods` are those of HTTP that the gateway accepts, `schemes` those of WWW-Authenticate.

        `sign_in_path` returns the path of a host where users sign in, "" if there is none.
        """
        self._pages = pages
        self._sign_in_path = sign_in_path
        self._sign_in_methods = sign_in_methods
        self._schemes = tuple(schemes)
        self._allow = ", ".join(methods).encode()

    def refuse(
        self,
        raw: RawRequest,
        request: Request | None,
        refusal: Refusal,
        reference: str,
        challenges: Sequence[str],
        dialect: Dialect | None,
    ) -> Response:
        """Returns the response to a refused request; `request` is None if it could not even be read."""
        if request is not None:
            if provider := self._provider_at_once(request, challenges):
                return provider
            if to_check := redirect_to_check(request, refusal):
                return to_check
            context = self._context(request, dialect, request.user, _names_of(challenges) if challenges else None)
        else:
            context = PageContext(
                time.time(),
                accept=_header_of(raw, b"accept") if raw.raw_headers else "text/html",
                accept_language=_header_of(raw, b"accept-language"),
                reference=reference,
            )
        response = _response(self._pages.refuse(refusal, context))
        response.headers += [(b"WWW-Authenticate", challenge.encode("latin-1")) for challenge in challenges]
        if request is not None:
            response.headers += request.sign_in_headers
        elif not raw.raw_headers:  # nothing could be parsed, so the response depended on no header
            response.headers.remove((b"Vary", b"Accept, Accept-Language"))
        if isinstance(refusal, MethodRefused):
            response.headers.append((b"Allow", ", ".join(refusal.allow).encode() or self._allow))
        if request is None or request.awaits_continue or raw.content.exception() is not None:
            response.keep_alive = False  # it is not known where the next request would begin
        return response

    def _provider_at_once(self, request: Request, challenges: Sequence[str]) -> Response | None:
        """Returns the redirect to a provider instead of a sign-in page with nothing but the link to it, else None.

        Only where the whole window goes there: a provider refuses to be framed, and a fetch could not follow.
        """
        headers = request.headers
        is_window = headers.get(b"sec-fetch-dest") == "document" if b"sec-fetch-dest" in headers.by_name else True
        if list(challenges) != [FORM] or request.method != "GET" or not is_window:
            return None
        if not prefers_page(headers.get(b"accept")):
            return None
        for name, method in self._sign_in_methods.items():
            if (
                isinstance(method, ProviderSignIn)
                and method.starts_at_once
                and (request.scheme == "https" or not method.needs_https)
            ):
                location = f"{PREFIX}sign-in/{name}?to={quote(own_path(request.raw_target), safe='/')}".encode()
                return Response(303, [(b"Location", location), (b"Cache-Control", b"no-store"), (b"Date", date())])
        return None

    def sign_out(self, request: Request, user: str | None, *, is_visitor: bool = False) -> Response:
        return _response(self._pages.sign_out(self._context(request, None, user), is_visitor=is_visitor))

    def signed_out(self, request: Request, *, is_visitor: bool = False) -> Response:
        return _response(self._pages.signed_out(self._context(request, None, None), is_visitor=is_visitor))

    def sign_in_page(self, request: Request) -> Response:
        """Returns the page with every way to sign in."""
        return _response(self._pages.sign_in(self._context(request, None, None, ())))

    def method_page(self, request: Request, method: str, page: ShowPage) -> Response:
        """Returns the page that a sign-in method shows."""
        return _response(self._pages.method_page(self._context(request, None, None), method, page))

    def _options(self, request: Request, offered: Collection[str] | None) -> Sequence[SignInOption]:
        is_chosen = offered == ()  # the page for somebody else: a provider must not sign the first in again by itself
        options = [
            SignInOption(_fresh(name, method) if is_chosen else name, method.label, method.form)
            for name, method in self._sign_in_methods.items()
            if request.scheme == "https" or not method.needs_https
        ]
        if offered is not None and self._sign_in_methods:
            options += [
                SignInOption(scheme.lower(), _LABELS.get(scheme, _BY_PASSWORD), None)
                for scheme in self._schemes
                if scheme not in offered
            ]
        return options

    def _context(
        self, request: Request, dialect: Dialect | None, user: str | None, offered: Collection[str] | None = None
    ) -> PageContext:
        """`offered`: schemes in the response; the page has links to the others. None: it has no such links."""

        def write(words: str) -> DialectResponse | None:
            return dialect.write_refusal(request.method, request.raw_target, words) if dialect is not None else None

        return PageContext(
            time.time(),
            accept=request.headers.get(b"accept"),
            accept_language=request.headers.get(b"accept-language"),
            reference=request.reference,
            site=request.host,
            user=user,
            path=request.back_to or request.raw_target,
            methods=self._options(request, offered),
            sign_in_path=self._sign_in_path(request.host),
            write=write,
        )


def _fresh(name: str, method: SignInMethod) -> str:
    return f"{name}/{method.fresh_step}" if isinstance(method, ProviderSignIn) else name


def _header_of(raw: RawRequest, wanted: bytes) -> str:
    """Returns a header of a request that was parsed and then refused."""
    return ", ".join(value.decode("latin-1") for name, value in raw.raw_headers if name.lower() == wanted)


def _names_of(challenges: Sequence[str]) -> Collection[str]:
    return {challenge.partition(" ")[0] for challenge in challenges}


def _response(page: RenderedPage) -> Response:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in page.headers]
    return Response(page.status, [*headers, (b"Date", date())], page.body)
