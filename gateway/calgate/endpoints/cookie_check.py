"""Whether a browser takes cookies: `/_calgate/cookie`, where a public route sends a browser together with a new one.

The second step separates browsers that take cookies, which go on, from those that do not: these would be redirected
back and forth without end.
"""

from urllib.parse import parse_qs, quote

from calgate.authentication.anonymous import AnonymousBrowsers, cookie_needed
from calgate.endpoints import PREFIX
from calgate.http.request import Request
from calgate.http.response import Response, date
from calgate.pages import own_path
from calgate.pages.negotiation import prefers_page
from calgate.plugin.errors import Refusal

NAME = "cookie"
_WINDOWS = frozenset({"", "document", "iframe", "frame"})  # Sec-Fetch-Dest of what can follow a redirect as a page


def redirect_to_check(request: Request, refusal: Refusal) -> Response | None:
    """Returns the redirect of a browser that was given its first cookie, instead of the page; None for programs."""
    headers = request.headers
    if refusal.code != "cookie-needed" or not request.sign_in_headers or request.method != "GET":
        return None
    if headers.get(b"sec-fetch-dest") not in _WINDOWS or not prefers_page(headers.get(b"accept")):
        return None
    response = _see_other(f"{PREFIX}{NAME}?to={quote(own_path(request.raw_target), safe='/')}")
    response.headers += request.sign_in_headers
    return response


class CookieCheck:
    """Sends a browser back to its document once the cookie has come back."""

    def __init__(self, browsers: AnonymousBrowsers) -> None:
        self._browsers = browsers

    async def respond(self, request: Request) -> Response:
        """Returns the redirect to the document. Raises NoCal if the cookie did not come back, or Unavailable."""
        wanted = parse_qs(request.raw_target.partition("?")[2]).get("to", ["/"])[0]
        safe = own_path(wanted)
        request.back_to = "/" if safe.lower().startswith(PREFIX) else safe
        if await self._browsers.find(request) is None:
            raise cookie_needed()
        return _see_other(request.back_to)


def _see_other(location: str) -> Response:
    target = quote(location, safe="/?&=%+,:@!$'()*~;-._").encode()
    return Response(303, [(b"Location", target), (b"Cache-Control", b"no-store"), (b"Date", date())])
