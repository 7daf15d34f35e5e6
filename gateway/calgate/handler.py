"""One request in, one response out: reads the request, sends it where it belongs, and makes a response of a refusal."""

from time import perf_counter
from typing import TYPE_CHECKING, cast

from calgate.authentication.handshakes import Handshakes
from calgate.endpoints import ADMIN, PREFIX, forward_auth
from calgate.endpoints.console import ConsoleGate, not_found
from calgate.endpoints.gateway_paths import GatewayPaths
from calgate.endpoints.preflight import Preflights
from calgate.endpoints.refusals import InternalError, RefusalResponses
from calgate.endpoints.settings import ForwardAuthSection
from calgate.exchange.reading import Reading
from calgate.exchange.warm_exchange import WarmExchange
from calgate.http.connection import RawRequest
from calgate.http.headers import RequestHeaderFilter
from calgate.http.known_heads import Key, KnownHead, KnownHeads, find_changing
from calgate.http.request import Request, known_request, read_request
from calgate.http.response import Response
from calgate.http.settings import Listen
from calgate.pipeline import Pipeline
from calgate.plugin.errors import Refusal
from calgate.routes import Route, finder
from calgate.telemetry import log
from calgate.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from calgate.tracing.spans import Tracing


_HSTS = b"Strict-Transport-Security"


class Handler:
    """Responds to requests; every Refusal becomes its response here."""

    def __init__(
        self,
        pipeline: Pipeline,
        gateway_paths: GatewayPaths,
        preflights: Preflights,
        refusals: RefusalResponses,
        handshakes: Handshakes,
        header_filter: RequestHeaderFilter,
        known_heads: KnownHeads,
        listen: Listen,
        forward_auth_section: ForwardAuthSection | None,
        metrics: Metrics,
        tracing: "Tracing | None",
        console: ConsoleGate | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._find_route = finder(pipeline.routes)
        self._gateway_paths = gateway_paths
        self._preflights = preflights
        self._refusals = refusals
        self._handshakes = handshakes
        self._header_filter = header_filter
        self._known_heads = known_heads
        self._trusted = listen.trusted_proxies
        self._methods = frozenset(listen.methods)
        self._public_origins = listen.public_origin
        self._hsts = _hsts(listen)
        self._forward_auth = forward_auth_section
        self._metrics = metrics
        self._observe = metrics.timer("whole")
        self._tracing = tracing
        self._console = console

    def begin(self, raw: RawRequest) -> bool:
        """Begins to serve a request without a task, if nothing has to be waited for; False: `serve` must."""
        try:
            request = self._read(raw)
            raw.request = request  # `serve` goes on with it: a body that has arrived is taken from the connection
            reading = self._reading(request)
            exchange = self._pipeline.begin(request, reading, self._deliver) if reading is not None else None
        except Refusal:  # `serve` meets it again, and makes the response
            return False
        raw.exchange = exchange
        if exchange is None:
            return False
        if raw.key is not None and self._known_heads.is_seen_again(raw.key):
            self._remember_head(raw.key, request, exchange.admission.session.key)
        return True

    def _remember_head(self, key: Key, request: Request, session_key: str) -> None:
        raw = request.raw
        changing = find_changing(key[1], raw.values, raw.raw_headers, request.headers)
        if changing is None:
            return
        head = KnownHead(
            raw.raw_headers,
            request.headers,
            request.host,
            request.scheme,
            request.address,
            request.behind_proxy,
            session_key,
            raw.values,
            changing,
        )
        self._known_heads.add(key, head)

    def _reading(self, request: Request) -> Reading | None:
        """Reads a plain request for a document server; returns None for any other request. Raises its Refusal."""
        known = request.raw.known
        memory = None if request.raw.body else known  # a body may name the document
        if memory is not None and request.raw_target in memory.readings:
            return cast(Reading, memory.readings[request.raw_target])
        if known is None and not request.is_plain:
            return None
        if request.target.path.startswith(PREFIX):
            return None
        if self._console is not None and self._console.is_console_host(request):
            return None
        reading = self._pipeline.questions.read(request, self._find_route(request.host, request.target.path))
        if memory is not None and reading is not None:
            memory.remember_reading(request.raw_target, reading)
        return reading

    def _deliver(self, exchange: WarmExchange, response: Response) -> None:
        request = exchange.request
        request.raw.request = request.raw.exchange = None  # they refer to each other
        self._complete(request, exchange.admission.route, response, None)
        response.begin(request.raw)
        request.connection.finish_at_once()

    async def serve(self, raw: RawRequest) -> Response | None:
        """Returns the response to one request; None: the request became a WebSocket, which is over."""
        request: Request | None = None
        route: Route | None = None
        code: str | None = None
        begun, raw.exchange = raw.exchange, None
        try:
            request = raw.request if isinstance(raw.request, Request) else self._read(raw)
            raw.request = None  # they refer to each other
            if isinstance(begun, WarmExchange):
                route = begun.admission.route
                response: Response | None = await self._pipeline.serve(request, route, begun)
            elif self._console is not None and self._console.is_console_host(request):
                response = await self._console.serve(request)
            elif request.target.path.startswith(ADMIN):
                response = not_found()
            elif request.target.path == forward_auth.PATH:
                request = forward_auth.described_request(request, self._forward_auth, self._methods)
                route = self._find_route(request.host, request.target.path)
                response = await forward_auth.respond(request, route, self._pipeline.questions)
            elif request.target.path.startswith(PREFIX):
                response = await self._gateway_paths.serve(request)
            else:
                route = self._find_route(request.host, request.target.path)
                response = self._preflights.response_to(request) or await self._pipeline.serve(request, route)
        except Refusal as refusal:
            code = refusal.code
            response = self._refuse(raw, refusal, request, route)
        self._complete(request, route, response, code)
        return response

    async def serve_console(self, raw: RawRequest) -> Response | None:
        """Returns the response to a request on the console's own address, where nothing else is served."""
        assert self._console is not None
        request: Request | None = None
        code: str | None = None
        try:
            request = self._read(raw)
            response = await self._console.serve(request)
        except Refusal as refusal:
            code = refusal.code
            response = self._refuse(raw, refusal, request, None)
        self._complete(request, None, response, code)
        return response

    def _read(self, raw: RawRequest) -> Request:
        if raw.known is not None:
            return known_request(raw, raw.known, self._public_origins)
        return read_request(
            raw,
            header_filter=self._header_filter,
            trusted=self._trusted,
            methods=self._methods,
            public_origins=self._public_origins,
        )

    def _add_hsts(self, response: Response) -> None:
        """Replaces the document server's Strict-Transport-Security: browsers obey the first one only."""
        response.headers = [header for header in response.headers if header[0].lower() != _HSTS.lower()]
        response.headers.append((_HSTS, self._hsts))

    def refuse(self, raw: RawRequest, refusal: Refusal | None) -> Response:
        """Returns the response to a request that could not be read; None: a bug in the gateway."""
        return self._refuse(raw, refusal or InternalError("a bug in the gateway"), None, None)

    def _refuse(self, raw: RawRequest, refusal: Refusal, request: Request | None, route: Route | None) -> Response:
        self._metrics.count("refusals", refusal.code)
        if self._tracing is not None:
            self._tracing.refused(refusal.code)
        dialect = route.dialect if route is not None else None
        reference = _log_refusal(raw, refusal, request)
        return self._refusals.refuse(raw, request, refusal, reference, self._challenges(refusal, request), dialect)

    def _challenges(self, refusal: Refusal, request: Request | None) -> tuple[str, ...]:
        if request is None or refusal.status != 401:
            return ()
        return self._handshakes.challenges_after(request, refusal)

    def _complete(
        self, request: Request | None, route: Route | None, response: Response | None, code: str | None
    ) -> None:
        """Completes the response, and updates the metrics, the span and the access log."""
        if self._hsts and response is not None and request is not None and request.scheme == "https":
            self._add_hsts(response)
        status = response.status if response is not None else 101
        self._metrics.responded(status)
        if self._tracing is not None:
            self._tracing.describe(request, _path_of(request, route), status)
        if request is None:
            return
        self._observe(perf_counter() - request.started)
        if log.logs_access():
            facts: dict[str, object] = {
                "user": request.user,
                "address": request.address,
                "method": request.method,
                "host": request.host,
                "path": request.target.path,  # without the query: it may carry a ticket
                "status": status,
                "reference": request.reference,
                "ms": request.ms,
            }
            log.access(**(facts if code is None else facts | {"code": code}))


def _hsts(listen: Listen) -> bytes:
    """Returns the value of Strict-Transport-Security (RFC 6797), b"" if it is not sent."""
    if listen.hsts is None:
        return b""
    return f"max-age={listen.hsts:.0f}{'; includeSubDomains' if listen.hsts_subdomains else ''}".encode()


def _log_refusal(raw: RawRequest, refusal: Refusal, request: Request | None) -> str:
    """Makes sure that the log has a line for the refusal; returns the reference number that leads to it."""
    if request is not None:
        request.log_refusal("refused", refusal)
        return request.reference
    reference = log.reference()
    address = raw.connection.address
    log.decision(
        "refused", reference=reference, address=address, peer=address, code=refusal.code, reason=refusal.detail
    )
    return reference


def _path_of(request: Request | None, route: Route | None) -> str | None:
    """Returns the name of a request's span: the route's path, of which there are few, not the request's own."""
    if route is not None:
        return route.path
    return PREFIX if request is not None and request.target.path.startswith(PREFIX) else None
