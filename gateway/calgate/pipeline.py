"""The path of a request, top to bottom. The order is the product, so it is written once, in `serve`."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from calgate.access.current import CurrentRules
from calgate.access.rechecks import EVERY, recheck
from calgate.access.rules import AccessRequest, Verdict
from calgate.authentication.open_exchanges import JUDGED_AFTER, Forwarding, StreamedBody
from calgate.authentication.session import Session
from calgate.authentication.sessions import Sessions
from calgate.authentication.sign_in import SignedIn, SignIn
from calgate.dialect import Dialect, Use, is_prefetch_or_embed
from calgate.http.request import Request
from calgate.http.response import Response
from calgate.http.target import refuse_windows_alias
from calgate.licensing.leases import Licensing
from calgate.pages import words_for
from calgate.plugin.access import Grant
from calgate.plugin.errors import Forbidden, Refusal, RequestTimeout, Unavailable
from calgate.plugin.identity import Person
from calgate.plugin.licensing import Lease
from calgate.routes import Route
from calgate.telemetry import log
from calgate.telemetry.metrics import Metrics
from calgate.upstream.connection import State
from calgate.upstream.forwarder import UpstreamResponse, encode_headers
from calgate.upstream.websocket import WebSocketTunnel

logger = logging.getLogger(__name__)

PERSON_REFRESH = 10.0  # seconds between a session's queries to the directory, which has a cache of its own
_BODY_WITHIN = 120.0  # seconds for the whole of a body that the dialect must see; such bodies are small
_OTHER = Use("other")
_LONG_LIVED_KINDS = frozenset({"named", "document", "usage"})  # CALs that do not come back within the hour
_CAL_KINDS = _LONG_LIVED_KINDS | {"session"}  # other lease kinds ("exempt", "unenforced") hold no CAL


@dataclass(slots=True, eq=False)  # not frozen: that costs 1.5 µs a request
class Admission:
    """A request that may be forwarded: every question has been answered with yes."""

    route: Route
    signed_in: SignedIn
    person: Person
    grant: Grant
    lease: Lease | None
    sign_on: bytes  # headers as they are sent
    body: bytes | None  # where the dialect had to see it
    polls: bool  # a long poll: may block for minutes, and does not count as using the document

    @property
    def session(self) -> Session:
        return self.signed_in.session


class Pipeline:
    """The four questions, and forwarding."""

    def __init__(
        self,
        routes: Sequence[Route],
        sign_in: SignIn,
        sessions: Sessions,
        licensing: Licensing,
        rules: "CurrentRules",
        metrics: Metrics,
    ) -> None:
        self.routes = routes
        self._sign_in = sign_in
        self._sessions = sessions
        self._licensing = licensing
        self._rules = rules
        self._metrics = metrics

    async def serve(self, request: Request, route: Route | None) -> Response | None:
        """Returns the response, or raises a Refusal; None: the request became a WebSocket, which is over."""
        admission = await self.admit(request, route)
        try:
            with Forwarding(admission.session, admission.lease, polls=admission.polls):
                upstream_response = await self._forward(request, admission)
        except BaseException:
            self.settle(admission, served=False)
            raise
        try:
            self._settle_by(request, admission, upstream_response)
            if perf_counter() - request.started > EVERY:
                await self._judge_access(request, admission)
            return await self._response(request, admission, upstream_response)
        except BaseException:
            upstream_response.connection.close()
            raise

    async def admit(self, request: Request, route: Route | None) -> Admission:
        """Asks the four questions in order; raises the Refusal of the first that is answered with no."""
        if route is None:
            raise Forbidden(f"no route serves {request.host}{request.target.path}")
        if route.windows:
            refuse_windows_alias(request.target)
        signed_in = await self._sign_in.find(request)
        session = signed_in.session
        request.user = session.name
        request.sign_in_headers = signed_in.response_headers
        body = await self._read_for(request, route)
        if body is not None:  # it may have taken its time: what holds now decides
            session = signed_in.session = await self._sessions.demand_live(session)
        person = await self._sign_in.person(session, time.time(), PERSON_REFRESH)
        use = self._use_of(request, route, body)
        grant = self._allow(request, route, session, person, use)
        lease = await self._license(request, route, session, person, use)
        try:
            sign_on = session.sign_on_headers(route.number)
            if sign_on is None:
                sign_on = await self._introduce(route, session, person, grant, lease)
        except BaseException:
            self._settle(session, lease, polls=use.kind == "poll", served=False)
            raise
        return Admission(route, signed_in, person, grant, lease, sign_on, body, use.kind == "poll")

    # ------------------------------------------------------------ what the request is about

    async def _read_for(self, request: Request, route: Route) -> bytes | None:
        """Reads the body where the dialect must see it whole to know which document it is about."""
        if route.dialect is None:
            return None
        limit = route.dialect.needs_body(request.method, request.raw_target)
        if not limit or request.length == 0:
            return None
        try:
            async with asyncio.timeout(_BODY_WITHIN):
                return await request.read_body(limit)
        except TimeoutError as error:
            raise RequestTimeout(f"the body that must be looked at took more than {_BODY_WITHIN:g} s") from error

    def _use_of(self, request: Request, route: Route, body: bytes | None) -> Use:
        if route.dialect is None:
            return _OTHER
        return route.dialect.classify(
            request.method, request.raw_target, body or b"", request.headers.get(b"content-type")
        )

    # ------------------------------------------------------------ may you have this?

    def _allow(self, request: Request, route: Route, session: Session, person: Person, use: Use) -> Grant:
        key = (route.number, request.target.path, use.qualified or "", request.address)  # rules may name networks
        now = time.time()
        rules = self._rules.current
        grant = session.grant_for(key, rules, now)
        if grant is not None:
            return grant
        access_request = AccessRequest(person, request.address, request.target.path, use.qualified)
        try:
            grant = rules.decide(access_request, now, trial=partial(self._on_trial, request, person))
        except Refusal as refusal:
            request.log_refusal("refused", refusal, user=person.name, document=use.qualified)
            raise
        session.remember_grant(key, rules, grant)
        return grant

    def _on_trial(self, request: Request, person: Person, verdict: Verdict) -> None:
        log.decision(
            "would be refused",
            reference=request.reference,
            user=person.name,
            address=request.address,
            path=request.target.path,
            rule=verdict.rule,
            reason=verdict.why,
        )

    # ------------------------------------------------------------ is there a CAL for you?

    async def _license(
        self, request: Request, route: Route, session: Session, person: Person, use: Use
    ) -> Lease | None:
        document = use.qualified  # equal names on two hosts are two documents
        if route.license is None or document is None:
            return None
        licensing = self._licensing
        known = licensing.known(session, route.license, document)
        never_claims = request.method in ("HEAD", "OPTIONS")
        if known is not None and (use.kind == "poll" or never_claims):
            return known
        if known is not None and not known.provisional:
            licensing.note(known)
            return known
        # A provisional lease is claimed for this request too: how it ends says nothing of the others under way.
        if use.kind == "poll" or never_claims or is_prefetch_or_embed(request.method, request.headers.as_text()):
            return await licensing.demand_held(session, person, route.license, document)
        return await licensing.claim(request, session, person, route.license, document)

    def settle(self, admission: Admission, *, served: bool | None) -> None:
        """Reports how a request ended that may have taken a CAL."""
        self._settle(admission.session, admission.lease, polls=admission.polls, served=served)

    def _settle(self, session: Session, lease: Lease | None, *, polls: bool, served: bool | None) -> None:
        """Settles a provisional lease.

        A request that did not claim the lease reports only success: its failure says nothing about a lease that others
        are using.
        """
        if lease is None or not lease.provisional:
            return
        claimed = bool(lease.reference) and not polls
        if served or claimed:
            self._licensing.settle(session, lease, served=served)

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
        if served is None and lease.kind not in _LONG_LIVED_KINDS:
            served = True
        self.settle(admission, served=served)

    # ------------------------------------------------------------ who you are, for the document server

    async def _introduce(
        self, route: Route, session: Session, person: Person, grant: Grant, lease: Lease | None
    ) -> bytes:
        if route.sign_on is None:
            return b""
        head = encode_headers(await route.sign_on.headers(person, grant, lease))
        if route.sign_on.per_person:
            session.remember_sign_on(route.number, head)
        return head

    # ------------------------------------------------------------ forwarding

    async def _forward(self, request: Request, admission: Admission) -> UpstreamResponse:
        began = perf_counter()
        signed_in = admission.signed_in
        upstream_response = await admission.route.forwarder.send(
            request,
            signed_in.session.key,
            signed_in.cookies,
            admission.sign_on,
            admission.body,
            user=signed_in.session.person_key,
        )
        self._metrics.observe("upstream", perf_counter() - began)
        return upstream_response

    async def _response(
        self, request: Request, admission: Admission, upstream_response: UpstreamResponse
    ) -> Response | None:
        route, session, connection = admission.route, admission.session, upstream_response.connection
        if upstream_response.cookies_set:
            await self._sessions.note_cookies(session, upstream_response.cookies_set)
        if connection.status == 101:
            await self._tunnel(request, admission, upstream_response)
            return None
        response = route.forwarder.response(upstream_response, admission.signed_in.response_headers)
        if route.dialect is not None and route.dialect.peek_bytes and connection.status < 500:
            self._note_missing_cal(request, route.dialect, session, upstream_response)
        if connection.state is not State.COMPLETE:
            judge = partial(self._judge_stream, request, admission)
            lease = admission.lease if admission.lease is not None and admission.lease.kind in _CAL_KINDS else None
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
        tunnel = WebSocketTunnel(
            request.connection, partial(self._used_by_tunnel, request, admission), admission.route.websocket_idle
        )
        lines = [b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: websocket"]
        lines += [name + b": " + value for name, value in [*upstream_response.headers, *extra]]
        exchange = _OpenWebSocket(tunnel, admission.lease)
        session.open_websocket(exchange)
        judge = partial(self._judge_again, request, admission)
        judging = asyncio.create_task(recheck(admission.grant, judge, exchange.refuse))
        try:
            await tunnel.run(upstream_response.connection, b"\r\n".join([*lines, b"\r\n"]))
        finally:
            judging.cancel()
            session.websocket_closed(exchange)

    def _used_by_tunnel(self, request: Request, admission: Admission) -> None:
        """Counts a message from the browser as a request: it keeps the session, and the CAL unless it polls."""
        admission.session.note_use(time.time())
        lease = admission.lease
        if lease is not None and self._use_of(request, admission.route, None).kind != "poll":
            self._licensing.note_known(admission.session, lease.license, lease.document)

    # ------------------------------------------------------------ judging again what stays open

    async def _judge_stream(self, request: Request, admission: Admission, refuse: Callable[[Refusal], None]) -> None:
        await recheck(admission.grant, partial(self._judge_again, request, admission), refuse, waited=JUDGED_AFTER)

    async def _judge_again(self, request: Request, admission: Admission) -> Grant:
        """Repeats the questions of `admit`, except for the session: when that ends, it ends the exchange itself."""
        grant = await self._judge_access(request, admission)
        lease = admission.lease
        if lease is not None and lease.kind in _CAL_KINDS:
            await self._licensing.demand_held(admission.session, admission.person, lease.license, lease.document)
        return grant

    async def _judge_access(self, request: Request, admission: Admission) -> Grant:
        session, route = admission.session, admission.route
        with suppress(Unavailable):  # then at least the hours are judged, for the person as last known
            admission.person = await self._sign_in.person(session, time.time(), PERSON_REFRESH)
        return self._allow(request, route, session, admission.person, self._use_of(request, route, admission.body))


class _OpenWebSocket:
    """A WebSocket that its session can end: with a Close frame (RFC 6455, section 7.4)."""

    outlives_expiry = False

    def __init__(self, tunnel: WebSocketTunnel, lease: Lease | None) -> None:
        self.lease = lease
        self._tunnel = tunnel

    def close(self, code: int, reason: str) -> None:
        self._tunnel.close(code, reason)

    def end(self, refusal: Refusal, reason: str) -> None:
        self.close(1008, reason)

    def refuse(self, refusal: Refusal) -> None:
        self.close(1008, words_for(refusal).title)
