"""Turns a refusal, or one of the gateway's own pages, into a response: `pages` writes the text, this adds headers."""

import time
from collections.abc import Sequence

from calgate.dialect import Dialect, DialectResponse
from calgate.http.connection import RawRequest
from calgate.http.request import Request
from calgate.http.response import Response, date
from calgate.pages import PageContext, Pages, RenderedPage
from calgate.plugin.errors import MethodRefused, Refusal


class InternalError(Refusal):
    """A bug in the gateway; the log has its traceback."""

    status = 500
    code = "internal-error"


class RefusalResponses:
    """Makes the responses that no document server gives."""

    def __init__(self, pages: Pages, methods: Sequence[str]) -> None:
        self._pages = pages
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
        """Returns the response to a refused request; `request` is None where it could not even be read."""
        if request is not None:
            context = _context(request, dialect, request.user)
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

    def sign_out(self, request: Request, user: str | None) -> Response:
        return _response(self._pages.sign_out(_context(request, None, user)))

    def signed_out(self, request: Request) -> Response:
        return _response(self._pages.signed_out(_context(request, None, None)))


def _header_of(raw: RawRequest, wanted: bytes) -> str:
    """Returns a header of a request that was parsed and then refused."""
    return ", ".join(value.decode("latin-1") for name, value in raw.raw_headers if name.lower() == wanted)


def _context(request: Request, dialect: Dialect | None, user: str | None) -> PageContext:
    def write(words: str) -> DialectResponse | None:
        return dialect.write_refusal(request.method, request.raw_target, words) if dialect is not None else None

    return PageContext(
        time.time(),
        accept=request.headers.get(b"accept"),
        accept_language=request.headers.get(b"accept-language"),
        reference=request.reference,
        site=request.host,
        user=user,
        path=request.raw_target,
        write=write,
    )


def _response(page: RenderedPage) -> Response:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in page.headers]
    return Response(page.status, [*headers, (b"Date", date())], page.body)
