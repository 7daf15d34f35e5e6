"""Turns a refusal, or one of the gateway's own pages, into an answer: words by `pages`, framing and challenges here."""

import time
from collections.abc import Sequence

from calgate.dialect import Dialect, DialectResponse
from calgate.http.connection import RawRequest
from calgate.http.request import Request
from calgate.http.response import Response, date
from calgate.pages import PageContext, Pages, RenderedPage
from calgate.plugin.errors import MethodRefused, Refusal


class InternalError(Refusal):
    """A bug of the gateway's own; the log has its traceback."""

    status = 500
    code = "internal-error"


class RefusalResponses:
    """Speaks for the gateway where no document server does."""

    def __init__(self, pages: Pages, methods: Sequence[str]) -> None:
        self._pages = pages
        self._allow = ", ".join(methods).encode()

    def refuse(
        self,
        request: RawRequest,
        asked: Request | None,
        refusal: Refusal,
        challenges: Sequence[str],
        dialect: Dialect | None,
        user: str | None = None,
    ) -> Response:
        """The answer to a refused request; `asked` is None where it could not even be read."""
        viewer = _viewer_of(asked, dialect, user) if asked is not None else PageContext(time.time(), accept="text/html")
        answer = _answer(self._pages.refuse(refusal, viewer))
        answer.headers += [(b"WWW-Authenticate", challenge.encode("latin-1")) for challenge in challenges]
        if asked is not None:
            answer.headers += asked.signed_in_headers
        if isinstance(refusal, MethodRefused):
            answer.headers.append((b"Allow", self._allow))
        if asked is None or asked.expects_word or request.content.exception() is not None:
            answer.keep_alive = False  # where the next request would begin is not known
        return answer

    def sign_out(self, asked: Request, user: str | None) -> Response:
        return _answer(self._pages.sign_out(_viewer_of(asked, None, user)))

    def signed_out(self, asked: Request) -> Response:
        return _answer(self._pages.signed_out(_viewer_of(asked, None, None)))


def _viewer_of(asked: Request, dialect: Dialect | None, user: str | None) -> PageContext:
    def write(words: str) -> DialectResponse | None:
        return dialect.write_refusal(asked.method, asked.raw_target, words) if dialect is not None else None

    return PageContext(
        time.time(),
        accept=asked.inbound.get(b"accept"),
        reference=asked.reference,
        site=asked.host,
        user=user,
        path=asked.raw_target,
        write=write,
    )


def _answer(page: RenderedPage) -> Response:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in page.headers]
    return Response(page.status, [*headers, (b"Date", date())], page.body)
