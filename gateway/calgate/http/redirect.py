"""The redirect from http to https. Refuses what the main listener refuses."""

from calgate.http.connection import RawRequest
from calgate.http.headers import RequestHeaderFilter
from calgate.http.origin import own_origins
from calgate.http.request import read_request
from calgate.http.response import Response, date
from calgate.http.server import HttpServer
from calgate.http.settings import Listen
from calgate.plugin.errors import BadRequest, MethodRefused, Refusal


def redirect_to_https(listen: Listen, public_port: int) -> HttpServer:
    """Makes a server that redirects every request to its https address."""
    header_filter = RequestHeaderFilter(frozenset(), frozenset())
    methods = frozenset(listen.methods)
    allow = ", ".join(listen.methods).encode()

    async def redirect(raw: RawRequest) -> Response:
        request = read_request(raw, header_filter=header_filter, trusted=(), methods=methods)
        if not request.host:
            raise BadRequest("a redirect needs the Host header")
        origin = own_origins("https", f"{_without_port(request.host)}:{public_port}", listen.public_origin)[0]
        location = f"{origin}{request.raw_target}".encode("latin-1")
        return _empty(308, (b"Location", location))

    def refuse(raw: RawRequest, refusal: Refusal | None) -> Response:
        if isinstance(refusal, MethodRefused):
            return _empty(refusal.status, (b"Allow", allow))
        return _empty(refusal.status if refusal is not None else 500)

    return HttpServer(redirect, refuse)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and ((port.isascii() and port.isdigit()) or not port) and not name.endswith(":") else host


def _empty(status: int, *headers: tuple[bytes, bytes]) -> Response:
    return Response(status, [*headers, (b"Cache-Control", b"no-store"), (b"Date", date())], keep_alive=False)
