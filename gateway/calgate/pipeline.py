"""The path of a request, top to bottom: the four questions (`questions.py`), forwarding, and the response.

The order is the product, so it is written once, in `Pipeline.serve`, and for requests that need no task in `begin`.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter

from calgate.access.rechecks import EVERY, recheck
from calgate.authentication.open_exchanges import JUDGED_AFTER, Forwarding, StreamedBody
from calgate.authentication.session import Session
from calgate.authentication.sessions import Sessions
from calgate.dialect import Dialect
from calgate.exchange.admission import Admission
from calgate.exchange.open_websocket import OpenWebSocket
from calgate.exchange.questions import CAL_KINDS, LONG_LIVED_KINDS, Questions
from calgate.exchange.reading import Reading
from calgate.exchange.warm_exchange import Deliver, WarmExchange
from calgate.http.request import Request
from calgate.http.response import Response
from calgate.licensing.leases import Licensing
from calgate.plugin.errors import BadGateway, Refusal
from calgate.plugin.sign_on import DocumentServer, ServerSignOn
from calgate.routes import Route
from calgate.telemetry import log
from calgate.telemetry.metrics import Metrics
from calgate.upstream.forwarder import Introduction, UpstreamResponse, encode_headers
from calgate.upstream.pool import Upstream
from calgate.upstream.state import State
from calgate.upstream.websocket import WebSocketTunnel


class Pipeline:
    """Asks the four questions, forwards the request, and makes the response."""

    def __init__(
        self,
        routes: Sequence[Route],
        questions: Questions,
        sessions: Sessions,
        licensing: Licensing,
        metrics: Metrics,
    ) -> None:
        self.routes = routes
        self.questions = questions
        self._sessions = sessions
        self._licensing = licensing
        self._observe = metrics.timer("upstream")

    async def serve(self, request: Request, route: Route | None, begun: WarmExchange | None = None) -> Response | None:
        """Returns the response, or raises a Refusal; None: the request became a WebSocket, which is over.

        `begun`: what `begin` returned for this request, where that could not be finished without a task.
        """
        admission = await self.questions.admit(request, route) if begun is None else begun.admission
        try:
            if begun is None:  # the session may have ended while its CAL was claimed; `begun` has been told
                admission.session.demand_not_ended(outlives_expiry=not admission.polls)
            with Forwarding(admission.session, admission.lease, polls=admission.polls):
                upstream_response = await self._forward(request, admission, begun)
        except BaseException:
            self.settle(admission, served=False)
            raise
        try:
            self._settle_by(request, admission, upstream_response)
            if perf_counter() - request.started > EVERY:
                await self.questions.judge_access(request, admission)
            return await self._response(request, admission, upstream_response)
        except BaseException:
            upstream_response.connection.close()
            raise

    def begin(self, request: Request, reading: Reading, deliver: Deliver) -> WarmExchange | None:
        """Forwards a request that is decided from memory, without waiting; None: `serve` must.

        `deliver` gets the response, unless the exchange needs `serve` after all. Raises Unavailable.
        """
        admission = self.questions.answer_from_memory(request, reading)
        if admission is None:
            return None
        signed_in, began = admission.signed_in, perf_counter()
        session = signed_in.session
        sent = reading.route.forwarder.send_at_once(
            request, session.key, signed_in.cookies, admission.sign_on, reading.body, session.person_key
        )
        return None if sent is None else WarmExchange(request, admission, sent, began, self, deliver)

    def finish(self, exchange: WarmExchange) -> Response | None:
        """Makes the response of a warm exchange; None if that takes more than what has arrived."""
        request, admission = exchange.request, exchange.admission
        if exchange.sent.connection.state is not State.COMPLETE or exchange.age > EVERY:
            return None
        upstream_response = admission.route.forwarder.receive(request, exchange.sent)
        if upstream_response.cookies_set:
            return None
        self._observe(perf_counter() - exchange.began)
        self._settle_by(request, admission, upstream_response)
        return self._make_response(request, admission, upstream_response)

    # ------------------------------------------------------------ how the request ended

    def settle(self, admission: Admission, *, served: bool | None) -> None:
        """Reports the outcome of a request that may have taken a CAL."""
        self.questions.settle(admission, served=served)

    def _settle_by(self, request: Request, admission: Admission, upstream_response: UpstreamResponse) -> None:
        """Settles the lease from the document server's response.

        A long-lived CAL stays provisional until a response is conclusive, and lapses unused if none is.
        """
        lease, dialect = admission.lease, admission.route.dialect
        if lease is None or not lease.provisional:
            return
        served: bool | None = upstream_response.connection.status < 400
        if dialect is not None:
            served = dialect.document_opened(
                request.raw_target,
                upstream_response.connection.status,
                upstream_response.connection.peek()[: dialect.peek_bytes],
            )
        if served is None and lease.kind not in LONG_LIVED_KINDS:
            served = True
        self.settle(admission, served=served)

    # ------------------------------------------------------------ forwarding

    async def _forward(self, request: Request, admission: Admission, begun: WarmExchange | None) -> UpstreamResponse:
        began = perf_counter() if begun is None else begun.began
        if begun is not None:
            begun.take_over()
        signed_in, sign_on = admission.signed_in, admission.route.server_sign_on
        introducer = None if sign_on is None else _Introducer(sign_on, admission)
        upstream_response = await admission.route.forwarder.send(
            request,
            signed_in.session.key,
            signed_in.cookies,
            admission.sign_on,
            admission.body,
            user=_user_of(signed_in.session),
            sent=begun.sent if begun is not None else None,
            introduction=None if introducer is None else introducer.introduction,
        )
        self._observe(perf_counter() - began)
        if introducer is not None:
            introducer.demand_signed_on(upstream_response)
        return upstream_response

    async def _response(
        self, request: Request, admission: Admission, upstream_response: UpstreamResponse
    ) -> Response | None:
        session = admission.session
        if upstream_response.cookies_set and not admission.route.is_public:
            await self._sessions.note_cookies(session, upstream_response.cookies_set)
        if upstream_response.connection.status == 101:
            await self._tunnel(request, admission, upstream_response)
            return None
        return self._make_response(request, admission, upstream_response)

    def _make_response(self, request: Request, admission: Admission, upstream_response: UpstreamResponse) -> Response:
        route, session, connection = admission.route, admission.session, upstream_response.connection
        response = route.forwarder.response(upstream_response, admission.signed_in.response_headers)
        if route.dialect is not None and route.dialect.peek_bytes and connection.status < 500:
            self._note_missing_cal(request, route.dialect, session, upstream_response)
        if connection.state is not State.COMPLETE:
            judge = partial(self._judge_stream, request, admission)
            lease = admission.lease if admission.lease is not None and admission.lease.kind in CAL_KINDS else None
            response.body_stream = StreamedBody(connection, session, lease, request.connection.abort, judge)
        return response

    def _note_missing_cal(
        self, request: Request, dialect: Dialect, session: Session, upstream_response: UpstreamResponse
    ) -> None:
        """Logs a response in which the document server says that it has no CAL of its own for the user."""
        start = upstream_response.connection.peek()[: dialect.peek_bytes]
        if start and dialect.reports_missing_cal(request.raw_target, start):
            log.decision(
                "the document server has no CAL of its own for the user",
                reference=request.reference,
                user=session.name,
                address=request.address,
                path=request.target.path,
            )

    async def _tunnel(self, request: Request, admission: Admission, upstream_response: UpstreamResponse) -> None:
        session, extra = admission.session, admission.signed_in.response_headers
        session.demand_not_ended(outlives_expiry=False)
        tunnel = WebSocketTunnel(
            request.connection, partial(self._used_by_tunnel, request, admission), admission.route.websocket_idle
        )
        lines = [b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: websocket"]
        lines += [name + b": " + value for name, value in [*upstream_response.headers, *extra]]
        exchange = OpenWebSocket(tunnel, admission.lease)
        session.open_websocket(exchange)
        judge = partial(self.questions.judge_again, request, admission)
        judging = asyncio.create_task(recheck(admission.grant, judge, exchange.refuse))
        try:
            with admission.route.forwarder.open_websocket(_user_of(session)):
                await tunnel.run(upstream_response.connection, b"\r\n".join([*lines, b"\r\n"]))
        finally:
            judging.cancel()
            session.websocket_closed(exchange)

    def _used_by_tunnel(self, request: Request, admission: Admission) -> None:
        """Counts a message from the browser as a request: it keeps the session, and the CAL unless it polls."""
        admission.session.note_use(time.time())
        lease = admission.lease
        if lease is not None and self.questions.use_of(request, admission.route, None).kind != "poll":
            self._licensing.note_known(admission.session, lease.license, lease.document)

    # ------------------------------------------------------------ judging again what stays open

    async def _judge_stream(self, request: Request, admission: Admission, refuse: Callable[[Refusal], None]) -> None:
        await recheck(
            admission.grant, partial(self.questions.judge_again, request, admission), refuse, waited=JUDGED_AFTER
        )


def _user_of(session: Session) -> str:
    """Returns by whom connections to a document server are counted: anonymous browsers by their address."""
    return session.key if session.is_anonymous else session.person_key


class _Introducer:
    """Introduces the user to each document server that one request is sent to."""

    def __init__(self, sign_on: ServerSignOn, admission: Admission) -> None:
        self._sign_on = sign_on
        self._admission = admission
        self._server: DocumentServer | None = None  # the last of them, which responds

    @property
    def introduction(self) -> Introduction:
        return Introduction(self._headers, self._admission.person.key if self._sign_on.exclusive else "")

    async def _headers(self, upstream: Upstream) -> bytes:
        admission = self._admission
        server = self._server = DocumentServer(upstream.name, upstream.host)
        introduced = await self._sign_on.introduce(server, admission.person, admission.grant, admission.lease)
        return admission.sign_on + encode_headers(introduced)  # with Authorization, where the route passes it

    def demand_signed_on(self, upstream_response: UpstreamResponse) -> None:
        """Raises BadGateway if the document server rejected the sign-on: no browser could answer its challenge."""
        connection = upstream_response.connection
        if connection.status < 400:
            return
        assert self._server is not None
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in connection.headers}
        cause = self._sign_on.why_rejected(self._server, connection.status, headers)
        if cause is not None:
            connection.close()
            raise BadGateway(f"the document server rejected the sign-on of {self._admission.person.name}: {cause}")
