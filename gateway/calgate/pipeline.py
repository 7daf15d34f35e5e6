"""The request's path, top to bottom. The order is the product, so it is written once, in `serve`."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from calgate.access.current import CurrentRules
from calgate.access.rules import AccessRequest, Verdict
from calgate.authentication.sessions import Session, Sessions
from calgate.authentication.sign_in import SignedIn, SignIn
from calgate.dialect import Dialect, Use, is_prefetch_or_embed
from calgate.http.request import Request
from calgate.http.response import Response
from calgate.http.target import refuse_windows_alias
from calgate.licensing.leases import Licensing
from calgate.pages import words_for
from calgate.plugin.access import Grant
from calgate.plugin.errors import Forbidden, Refusal, SignInNeeded, Unavailable
from calgate.plugin.identity import Person
from calgate.plugin.licensing import Lease
from calgate.routes import Route
from calgate.telemetry import log
from calgate.telemetry.metrics import Metrics
from calgate.upstream.forwarder import UpstreamResponse, encode_headers
from calgate.upstream.websocket import WebSocketTunnel

logger = logging.getLogger(__name__)

PERSON_REFRESH = 10.0  # seconds between a session's questions to the directory, which has a cache of its own
_GRANTS_KEPT = 512  # a session's remembered decisions; beyond it they are made again
_OTHER = Use("other")
_LONG_LIVED_KINDS = frozenset(
    {"named", "document", "usage"}
)  # CALs that do not come back by themselves within the hour
_CAL_KINDS = _LONG_LIVED_KINDS | {"session"}  # any other lease stands for a CAL that nobody asks for


@dataclass(slots=True, eq=False)  # not frozen: that costs 1.5 µs a request
class Admission:
    """A request that may go on: every question answered."""

    route: Route
    signed_in: SignedIn
    person: Person
    grant: Grant
    lease: Lease | None
    sign_on: bytes  # headers as they are sent
    body: bytes | None  # where the dialect had to see it
    polls: bool  # it may wait for long, and is no use of the document


class Pipeline:
    """The four questions, and the way on."""

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
        """Answers a request, or raises the Refusal that does; None: it was a WebSocket, and is over."""
        admission = await self.admit(request, route)
        try:
            forward = self._forward_poll if admission.polls else self._forward
            upstream_response = await forward(request, admission)
        except BaseException:
            self.settle(admission, served=False)
            raise
        try:
            self._settle_by(request, admission, upstream_response)
            return await self._response(request, admission, upstream_response)
        except BaseException:
            upstream_response.connection.close()
            raise

    async def admit(self, request: Request, route: Route | None) -> Admission:
        """The four questions, in this order; raises the Refusal of the first that is answered with no."""
        if route is None:
            raise Forbidden(f"no route serves {request.host}{request.target.path}")
        if route.windows:
            refuse_windows_alias(request.target)
        signed_in = await self._sign_in.find(request)
        session = signed_in.session
        request.user = session.name
        request.sign_in_headers = signed_in.response_headers
        person = await self._sign_in.person(session, time.time(), PERSON_REFRESH)
        body = await self._read_for(request, route)
        use = self._use_of(request, route, body)
        grant = self._allow(request, route, session, person, use)
        lease = await self._license(request, route, session, person, use)
        try:
            sign_on = session.sign_on_headers.get(route.number)
            if sign_on is None:
                sign_on = await self._introduce(route, session, person, grant, lease)
        except BaseException:
            self._settle(session, lease, polls=use.kind == "poll", served=False)
            raise
        return Admission(route, signed_in, person, grant, lease, sign_on, body, use.kind == "poll")

    def challenges_after(self, request: Request, refusal: Refusal) -> tuple[str, ...]:
        """What the 401 of a refusal offers in WWW-Authenticate."""
        return self._sign_in.challenges_after(request, refusal)

    # ------------------------------------------------------------ what is asked

    async def _read_for(self, request: Request, route: Route) -> bytes | None:
        """The body, where the dialect must see it whole to know which document it is about."""
        if route.dialect is None:
            return None
        limit = route.dialect.needs_body(request.method, request.raw_target)
        if not limit or request.length == 0:
            return None
        return await request.read_body(limit)

    def _use_of(self, request: Request, route: Route, body: bytes | None) -> Use:
        if route.dialect is None:
            return _OTHER
        return route.dialect.classify(
            request.method, request.raw_target, body or b"", request.headers.get(b"content-type")
        )

    # ------------------------------------------------------------ may you have this?

    def _allow(self, request: Request, route: Route, session: Session, person: Person, use: Use) -> Grant:
        place = (route.number, request.target.path, use.qualified or "", request.address)  # rules may name networks
        now = time.time()
        grant = session.grants.get(place)
        if (
            grant is not None
            and (grant.until is None or now < grant.until)
            and session.grants_rules is self._rules.current
        ):
            return grant
        if session.grants_rules is not self._rules.current or len(session.grants) >= _GRANTS_KEPT:
            session.grants.clear()
            session.grants_rules = self._rules.current
        access_request = AccessRequest(person, request.address, request.target.path, use.qualified)
        try:
            grant = self._rules.current.decide(
                access_request, now, trial=lambda verdict: self._on_trial(request, person, verdict)
            )
        except Refusal as refusal:
            self._record_refusal(request, person, use, refusal)
            raise
        session.grants[place] = grant
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

    def _record_refusal(self, request: Request, person: Person, use: Use, refusal: Refusal) -> None:
        log.decision(
            "refused",
            reference=request.reference,
            user=person.name,
            address=request.address,
            path=request.target.path,
            document=use.document,
            code=refusal.code,
            rule=getattr(refusal, "rule", None),
            reason=refusal.detail,
            ms=request.ms,
        )

    # ------------------------------------------------------------ is there a CAL for you?

    async def _license(
        self, request: Request, route: Route, session: Session, person: Person, use: Use
    ) -> Lease | None:
        if route.license is None or use.document is None:
            return None
        licensing = self._licensing
        known = licensing.known(session, route.license, use.document)
        if known is not None and use.kind == "poll":
            return known
        if known is not None and not known.provisional:
            licensing.note(known)
            return known
        # a provisional one is claimed for this request too: how it ends says nothing of those that are under way
        if request.method in ("HEAD", "OPTIONS"):
            return None  # they show nothing of the document
        if use.kind == "poll" or is_prefetch_or_embed(request.method, request.headers.as_text()):
            return await licensing.demand_held(session, person, route.license, use.document)
        return await licensing.claim(request, session, person, route.license, use.document)

    def settle(self, admission: Admission, *, served: bool | None) -> None:
        """How the request ended that a CAL may have been taken for."""
        self._settle(admission.signed_in.session, admission.lease, polls=admission.polls, served=served)

    def _settle(self, session: Session, lease: Lease | None, *, polls: bool, served: bool | None) -> None:
        """Where the request took none, it was for others, and its no is nobody's."""
        if lease is None or not lease.provisional:
            return
        claimed = bool(lease.reference) and not polls
        if served or claimed:
            self._licensing.settle(session, lease, served=served)

    def _settle_by(self, request: Request, admission: Admission, upstream_response: UpstreamResponse) -> None:
        """By the document server's answer; a CAL for good waits for one that can tell, or lapses as never used."""
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
            session.sign_on_headers[route.number] = head
        return head

    # ------------------------------------------------------------ there and back

    async def _forward(self, request: Request, admission: Admission) -> UpstreamResponse:
        began = perf_counter()
        signed_in = admission.signed_in
        upstream_response = await admission.route.forwarder.send(
            request, signed_in.session.key, signed_in.cookies, admission.sign_on, admission.body
        )
        self._metrics.observe("upstream", perf_counter() - began)
        return upstream_response

    async def _forward_poll(self, request: Request, admission: Admission) -> UpstreamResponse:
        """As `_forward`, for who may be kept waiting for minutes: it does not outlive its session or its CAL."""
        session, lease = admission.signed_in.session, admission.lease
        ended = asyncio.Event()
        session.open_polls.add(ended.set)
        forwarder = asyncio.create_task(self._forward(request, admission))
        ending = asyncio.create_task(ended.wait())
        try:
            await asyncio.wait({forwarder, ending}, return_when=asyncio.FIRST_COMPLETED)
            if forwarder.done():
                return forwarder.result()
        except asyncio.CancelledError:
            forwarder.add_done_callback(_close_unused)  # the answer may be here already
            raise
        finally:
            session.open_polls.discard(ended.set)
            forwarder.cancel()
            ending.cancel()
        if lease is not None and not session.ended:
            raise self._licensing.none_held(lease.license, lease.document)
        raise SignInNeeded("the session ended while the request was waiting", self._sign_in.challenges)

    async def _response(
        self, request: Request, admission: Admission, upstream_response: UpstreamResponse
    ) -> Response | None:
        route, signed_in = admission.route, admission.signed_in
        session = signed_in.session
        for cookie in upstream_response.cookies_set:
            if cookie not in session.cookies:
                await self._sessions.note_cookie(session, cookie)
        if upstream_response.connection.status == 101:
            await self._tunnel(request, admission, upstream_response)
            return None
        response = route.forwarder.response(upstream_response, signed_in.response_headers)
        if route.dialect is not None and route.dialect.peek_bytes and upstream_response.connection.status < 500:
            self._overhear(request, route.dialect, session, upstream_response)
        return response

    def _overhear(
        self, request: Request, dialect: Dialect, session: Session, upstream_response: UpstreamResponse
    ) -> None:
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
        session, extra = admission.signed_in.session, admission.signed_in.response_headers
        tunnel = WebSocketTunnel(
            request.connection, partial(self._used_by_tunnel, request, admission), admission.route.websocket_idle
        )
        lines = [b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: websocket"]
        lines += [name + b": " + value for name, value in [*upstream_response.headers, *extra]]
        session.open_tunnels.add(tunnel.close)
        judge = partial(self._judge_again, request, admission)
        watching = asyncio.create_task(judge_again(admission.grant, judge, tunnel.close))
        try:
            await tunnel.run(upstream_response.connection, b"\r\n".join([*lines, b"\r\n"]))
        finally:
            watching.cancel()
            session.open_tunnels.discard(tunnel.close)

    def _used_by_tunnel(self, request: Request, admission: Admission) -> None:
        """Something came from the browser: as a request would, it keeps the session, and the CAL unless it polls."""
        admission.signed_in.session.used_at = time.time()
        lease = admission.lease
        if lease is not None and self._use_of(request, admission.route, None).kind != "poll":
            self._licensing.note_known(admission.signed_in.session, lease.license, lease.document)

    async def _judge_again(self, request: Request, admission: Admission) -> Grant:
        """What `admit` asked, but for the session: when that ends, it closes the WebSocket by itself."""
        session, route, person = admission.signed_in.session, admission.route, admission.person
        with suppress(Unavailable):  # then the hours, at least, are judged, for the person as known
            person = await self._sign_in.person(session, time.time(), PERSON_REFRESH)
        grant = self._allow(request, route, session, person, self._use_of(request, route, None))
        lease = admission.lease
        if lease is not None and lease.kind in _CAL_KINDS:
            await self._licensing.demand_held(session, person, lease.license, lease.document)
        return grant


def _close_unused(forwarder: "asyncio.Task[UpstreamResponse]") -> None:
    if not forwarder.cancelled() and forwarder.exception() is None:
        forwarder.result().connection.close()


EVERY = 10.0  # seconds; a boundary of any `hours` rule is met to the second


async def judge_again(
    grant: Grant,
    judge: Callable[[], Awaitable[Grant]],
    close: Callable[[int, str], None],
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Runs beside the WebSocket until cancelled, or until `judge` refuses: then closes it (1008), saying why.

    `judge` answers a new grant or raises a Refusal; Unavailable is no refusal, and it is asked again.
    """
    while True:
        left = EVERY if grant.until is None else min(EVERY, grant.until - clock())
        await sleep(max(left, 0.0))
        try:
            grant = await judge()
        except Unavailable:
            grant = Grant(grant.rule)
        except Refusal as refusal:
            close(1008, words_for(refusal).title)
            return
