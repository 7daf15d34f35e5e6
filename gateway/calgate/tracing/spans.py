"""Makes and sends the spans of requests: the one file that imports OpenTelemetry.

A span has a duration and an outcome, never a user, a query, a header or a token: other systems store traces.
`calgate.reference` finds the rest in the log.

The traceparent of a request is followed only from `trusted_proxies`. Any other client could put its requests into
anybody's traces, and have all of them recorded whatever `sample` is.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from calgate.http.address import is_trusted
from calgate.http.connection import RawRequest
from calgate.http.request import Request
from calgate.http.response import Response
from calgate.plugin.errors import Refusal
from calgate.plugin.settings import Network
from calgate.tracing.settings import FIELDS, TracingSection
from calgate.upstream.connection import UpstreamConnection
from calgate.upstream.pool import Upstream, UpstreamRequest

logger = logging.getLogger(__name__)

_QUEUED = 2048  # spans; when the queue is full, new ones displace the oldest
_BATCH = 512
_SENT_EVERY = 1000  # milliseconds
_RESPONSE_WITHIN = 5.0  # seconds, including retries
_FLUSH_WITHIN = 3.0  # seconds for the queued spans when the gateway stops

_TRACE_CONTEXT = TraceContextTextMapPropagator()

Serve = Callable[[RawRequest], Awaitable[Response | None]]


class Tracing:
    """Makes spans. OpenTelemetry's context, which follows the request's task, has the current one."""

    def __init__(self, tracer: trace.Tracer, trusted: Sequence[Network]) -> None:
        self._tracer = tracer
        self._trusted = trusted

    # ------------------------------------------------------------ the request

    def around(self, serve: Serve) -> Serve:
        """Returns `serve` with a span around it, which ends when the response begins, or when a WebSocket closes."""

        async def traced(raw: RawRequest) -> Response | None:
            with self._tracer.start_as_current_span(
                "HTTP", self._parent(raw), SpanKind.SERVER, record_exception=False, set_status_on_exception=False
            ) as span:
                try:
                    return await serve(raw)
                except BaseException as error:
                    _fail(span, type(error).__name__)
                    raise

        return traced

    def _parent(self, raw: RawRequest) -> Context:
        """Returns the client's trace context if the peer is trusted, else an empty one.

        Never the context left over from the previous request on this connection.
        """
        peer = raw.connection.address
        if not self._trusted or not is_trusted(peer, self._trusted):
            return Context()
        received: dict[str, list[str]] = {name.decode(): [] for name in FIELDS}
        for name, value in raw.raw_headers:
            if name.lower() in FIELDS:
                received[name.lower().decode()].append(value.decode("latin-1"))
        # joined, two traceparents are invalid, two tracestates are valid (Trace Context, 3.2 and 3.3)
        return _TRACE_CONTEXT.extract(
            {name: ",".join(values) for name, values in received.items() if values}, Context()
        )

    def describe(self, request: Request | None, route: str | None, status: int) -> None:
        """Describes the outcome of the current request; `request` is None if it could not be parsed."""
        span = trace.get_current_span()
        if not span.is_recording():
            return
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            _fail(span, str(status))
        if request is None:
            return
        span.update_name(f"{request.method} {route}" if route else request.method)
        host, _, port = request.host.rpartition(":")
        has_port = bool(host) and port.isascii() and port.isdigit()  # "[::1]" has no port
        attributes = {
            "http.request.method": request.method,
            "http.route": route,
            "url.scheme": request.scheme,
            "url.path": request.target.path,
            "server.address": host if has_port else request.host,
            "server.port": int(port) if has_port else None,
            "client.address": request.address,
            "network.peer.address": request.connection.address,
            "network.protocol.version": f"{request.raw.version.major}.{request.raw.version.minor}",
            "user_agent.original": request.headers.get(b"user-agent") or None,
            "calgate.reference": request.reference,
        }
        span.set_attributes({name: value for name, value in attributes.items() if value is not None})

    def refused(self, code: str) -> None:
        """Records the code of a refusal on the current request."""
        trace.get_current_span().set_attribute("calgate.refusal", code)

    # ------------------------------------------------------------ calls to others

    @contextmanager
    def child(self, name: str, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[Span]:
        """Makes a span under the current one, if that is recorded; background work has none."""
        if not trace.get_current_span().is_recording():
            yield trace.INVALID_SPAN
            return
        with self._tracer.start_as_current_span(
            name, kind=kind, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except Refusal as refusal:
                span.set_attribute("calgate.refusal", refusal.code)
                if refusal.status >= 500:
                    _fail(span, refusal.code)
                raise
            except BaseException as error:
                _fail(span, type(error).__name__)
                raise

    def upstream(self, *address: Any, **settings: Any) -> Upstream:
        """Returns a document server whose requests have a span and carry the trace context."""
        return _TracedUpstream(self, *address, **settings)


class _TracedUpstream(Upstream):
    def __init__(self, tracing: Tracing, *address: Any, **settings: Any) -> None:
        super().__init__(*address, **settings)
        self._tracing = tracing

    async def send(self, request: UpstreamRequest, begun: UpstreamConnection | None = None) -> UpstreamConnection:
        """Sends with one span, however many idle connections turn out to be closed."""
        if not trace.get_current_span().is_recording():
            return await super().send(_with_context(request), begun)
        with self._tracing.child(request.method, SpanKind.CLIENT) as span:
            target = request.message.split(b" ", 2)[1]
            path = target.partition(b"?")[0].decode("latin-1")
            attributes = {"http.request.method": request.method, "url.full": f"{self.name}{path}"}
            span.set_attributes(attributes | {"server.address": self.host, "server.port": self.port})
            connection = await super().send(_with_context(request), begun)
            span.set_attribute("http.response.status_code", connection.status)
            if connection.status >= 400:
                _fail(span, str(connection.status))
            return connection


def _with_context(request: UpstreamRequest) -> UpstreamRequest:
    """Returns the request with the headers of the current trace context after its first line."""
    carrier: dict[str, str] = {}
    _TRACE_CONTEXT.inject(carrier)
    if not carrier:
        return request
    line, _, rest = request.message.partition(b"\r\n")
    headers = [f"{name}: {value}".encode("ascii") for name, value in carrier.items()]
    return replace(request, message=b"\r\n".join([line, *headers, rest]))


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


# ---------------------------------------------------------------- export


@asynccontextmanager
async def open_tracing(section: TracingSection, trusted: Sequence[Network]) -> AsyncIterator[Tracing]:
    """Starts the export of spans by a thread; a receiver that does not respond costs spans and nothing else."""
    exporter = _Exporter(section)
    resource = Resource.create({"service.name": section.service, "service.version": version("calgate")})
    sampler = ParentBased(TraceIdRatioBased(section.sample))
    provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter, max_queue_size=_QUEUED, schedule_delay_millis=_SENT_EVERY, max_export_batch_size=_BATCH
        )
    )
    try:
        yield Tracing(provider.get_tracer("calgate", version("calgate")), trusted)
    finally:
        await _finish(provider, exporter)


def is_receiving(section: TracingSection) -> bool:
    """Whether the receiver accepts an empty batch. Blocks for a few seconds at most."""
    exporter = _Exporter(section)
    result = exporter.export(())
    exporter.shutdown()
    return result is SpanExportResult.SUCCESS


async def _finish(provider: TracerProvider, exporter: "_Exporter") -> None:
    """Sends the queued spans in a thread, and waits for it for a few seconds at most."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def shut_down() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # the loop is closed: the wait timed out
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=shut_down, name="last spans", daemon=True).start()
    with suppress(TimeoutError):
        async with asyncio.timeout(_FLUSH_WITHIN):
            await done.wait()
    exporter.shutdown()  # ends any attempt that is still running


class _Exporter(SpanExporter):
    """OTLP over HTTP; logs once when the receiver stops responding and once when it recovers."""

    def __init__(self, section: TracingSection) -> None:
        for chatty in ("opentelemetry", "urllib3"):  # they log every failed batch
            logging.getLogger(chatty).setLevel(logging.CRITICAL)
        self._endpoint = section.endpoint
        self._sender = OTLPSpanExporter(
            section.endpoint,
            certificate_file=str(section.ca) if section.ca is not None else None,
            headers={name: secret.reveal() for name, secret in section.headers.items()},
            timeout=_RESPONSE_WITHIN,
        )
        self._is_away = False
        self._is_over = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Runs in the thread; spans of a failed batch are lost."""
        result = self._sender.export(spans)
        is_away = result is not SpanExportResult.SUCCESS
        if is_away and not self._is_away and not self._is_over:
            logger.warning("tracing: %s does not accept spans; they are lost until it does", self._endpoint)
        elif self._is_away and not is_away:
            logger.info("tracing: %s accepts spans again", self._endpoint)
        self._is_away = is_away
        return result

    def shutdown(self) -> None:
        """Shuts down once: at the processor's end, or when the gateway stops waiting."""
        if not self._is_over:
            self._is_over = True
            self._sender.shutdown()  # type: ignore[no-untyped-call]
