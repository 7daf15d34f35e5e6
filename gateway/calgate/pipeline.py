"""The path of a request, top to bottom. The order is the product, so it is written once, in `serve`.

Most requests are answered from what this process remembers. `answer_from_memory` does that, without waiting, for every
request: as the first step of `admit`, and for `begin`, which needs no task.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter

from calgate.access.current import CurrentRules
from calgate.access.rechecks import EVERY, recheck
from calgate.access.rules import AccessRequest, Verdict
from calgate.admission import Admission
from calgate.authentication.anonymous import ANONYMOUS, AnonymousBrowsers, cookie_needed
from calgate.authentication.open_exchanges import JUDGED_AFTER, Forwarding, StreamedBody
from calgate.authentication.session import GrantKey, Session
from calgate.authentication.sessions import Sessions
from calgate.authentication.sign_in import SignedIn, SignIn
from calgate.dialect import Dialect, Use, is_prefetch_or_embed
from calgate.http.request import Request
from calgate.http.response import Response
from calgate.http.target import refuse_windows_alias
from calgate.licensing.leases import Licensing
from calgate.open_websocket import OpenWebSocket
from calgate.plugin.access import Grant
from calgate.plugin.errors import BadGateway, Forbidden, Refusal, RequestTimeout, Unavailable
from calgate.plugin.identity import Person
from calgate.plugin.licensing import Lease
from calgate.plugin.sign_on import DocumentServer, ServerSignOn
from calgate.reading import Reading
from calgate.routes import Route
from calgate.telemetry import log
from calgate.telemetry.metrics import Metrics
from calgate.upstream.forwarder import Introduction, UpstreamResponse, encode_headers
from calgate.upstream.pool import Upstream
from calgate.upstream.state import State
from calgate.upstream.websocket import WebSocketTunnel
from calgate.warm_exchange import Deliver, WarmExchange

logger = logging.getLogger(__name__)

PERSON_REFRESH = 10.0  # seconds between a session's queries to the directory, which has a cache of its own
_PERSON_AHEAD = 7.0  # seconds after which a query in the background is begun
_BODY_WITHIN = 120.0  # seconds for the whole of a body that the dialect must see; such bodies are small
_OTHER = Use("other")
_PUBLIC = Grant('sign_in = "off"')  # what a public route serves, apart from documents
_LONG_LIVED_KINDS = frozenset({"named", "document", "usage"})  # CALs that do not come back within the hour
_CAL_KINDS = _LONG_LIVED_KINDS | {"session"}  # other lease kinds ("exempt", "unenforced") hold no CAL


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
        browsers: AnonymousBrowsers,
    ) -> None:
        self.routes = routes
        self._browsers = browsers
        self._sign_in = sign_in
        self._sessions = sessions
        self._licensing = licensing
        self._rules = rules
        self._observe = metrics.timer("upstream")

    async def serve(self, request: Request, route: Route | None, begun: WarmExchange | None = None) -> Response | None:
        """Returns the response, or raises a Refusal; None: the request became a WebSocket, which is over.

        `begun`: what `begin` returned for this request, where that could not be finished without a task.
        """
        admission = await self.admit(request, route) if begun is None else begun.admission
        try:
            with Forwarding(admission.session, admission.lease, polls=admission.polls):
                upstream_response = await self._forward(request, admission, begun)
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
        route = self._demand_route(request, route)
        if route.is_public:
            return await self._admit_anybody(request, route)
        reading = self._read(request, route)
        admission = self.answer_from_memory(request, reading) if reading is not None else None
        if admission is not None:
            return admission
        signed_in = await self._sign_in.find(request, stores_later=True)
        request.user = signed_in.session.name
        request.sign_in_headers = signed_in.response_headers
        if signed_in.storing is None:
            return await self._admit(request, route, signed_in)
        return await self._admit_new(request, route, signed_in, signed_in.storing)

    async def _admit_new(
        self, request: Request, route: Route, signed_in: SignedIn, storing: "asyncio.Task[None]"
    ) -> Admission:
        """Asks for the rest while the new session is being stored; a failure of either takes back what the other did.

        A user who is refused is signed in all the same.
        """
        try:
            admission = await self._admit(request, route, signed_in)
        except Refusal:
            await self._stored(request, storing)
            raise
        try:
            await self._stored(request, storing)
        except BaseException:
            self.settle(admission, served=False)
            raise
        return admission

    async def _stored(self, request: Request, storing: "asyncio.Task[None]") -> None:
        try:
            await asyncio.shield(storing)
        except Refusal:
            request.sign_in_headers = ()  # the cookie of a session that there is not
            raise

    async def _admit(self, request: Request, route: Route, signed_in: SignedIn) -> Admission:
        """Asks the questions that follow on the sign-in."""
        session = signed_in.session
        if session.token is not None:
            session.token.demand_route(route.name, delegates=route.server_sign_on is not None)
        body = await self._read_for(request, route)
        if body is not None:  # it may have taken its time: what holds now decides
            session = signed_in.session = await self._sessions.demand_live(session)
        person = await self._sign_in.person(session, time.time(), PERSON_REFRESH)
        use = self._use_of(request, route, body)
        grant = self._allow(request, route, session, person, use)
        lease = await self._license(request, route, session, person, use)
        try:
            sign_on = self._known_sign_on(route, session)
            if sign_on is None:
                sign_on = await self._introduce(route, session, person, grant, lease)
        except BaseException:
            self._settle(session, lease, polls=use.kind == "poll", served=False)
            raise
        if route.passes_authorization:
            sign_on += self._sign_in.passed_authorization(request)
        return Admission(route, signed_in, person, grant, lease, sign_on, body, use.kind == "poll")

    async def _admit_anybody(self, request: Request, route: Route) -> Admission:
        """Admits a request on a route without sign-in: a document that it opens must be allowed without a user.

        Where the route has a license, the document needs a CAL as well, which belongs to the browser's cookie.
        """
        signed_in = await self._sign_in.nobody(request)
        body = await self._read_for(request, route)
        use = self._use_of(request, route, body)
        grant = self._allow(request, route, signed_in.session, ANONYMOUS, use)
        person, lease = ANONYMOUS, None
        if route.license is not None and use.qualified is not None:
            signed_in.session = session = await self._browser(request, route.license, use)
            assert session.person is not None
            person = session.person
            lease = await self._license(request, route, session, person, use)
        passed = self._sign_in.passed_authorization(request) if route.passes_authorization else b""
        return Admission(route, signed_in, person, grant, lease, passed, body, use.kind == "poll")

    async def _browser(self, request: Request, license: str, use: Use) -> Session:
        """Returns the session of the browser whose cookie came back. Raises NoCal, with a first cookie, if none did."""
        session = await self._browsers.find(request)
        if session is not None:
            return session
        assert use.qualified is not None
        if _takes_none(request, use):
            raise self._licensing.none_held(license, use.qualified)
        request.sign_in_headers = [await self._browsers.new_cookie(request)]
        raise cookie_needed(license, use.qualified)

    def _demand_route(self, request: Request, route: Route | None) -> Route:
        if route is None:
            raise Forbidden(f"no route serves {request.host}{request.target.path}")
        if route.windows:
            refuse_windows_alias(request.target)
        if b"service-worker" in request.headers.by_name and not route.service_workers:
            # every browser sends the header with such a script (Service Workers, section 4.3), and no page can set it
            raise Forbidden("the script of a service worker: it would see the pages of every later user of the browser")
        return route

    # ------------------------------------------------------------ without waiting

    def read(self, request: Request, route: Route | None) -> Reading | None:
        """Returns what a request says by itself; None where that cannot be remembered, or takes more than has arrived.

        Raises the Refusal of a request that can only be refused.
        """
        route = self._demand_route(request, route)
        return None if route.server_sign_on is not None else self._read(request, route)

    def _read(self, request: Request, route: Route) -> Reading | None:
        session = self._sign_in.session_named_by(request) if route.is_remembered else ""
        if not session:
            return None
        body = None
        if self._body_limit(request, route):
            body = request.arrived_body()
            if body is None:
                return None
        use = self._use_of(request, route, body)
        return Reading(route, use, body, session, _grant_key(request, route, use))

    def answer_from_memory(self, request: Request, reading: Reading) -> Admission | None:
        """Answers the four questions from what this process remembers; None where one of them needs more than that."""
        signed_in = self._sign_in.remembered(request, reading.session)
        if signed_in is None:
            return None
        session, person, route, use = signed_in.session, signed_in.session.person, reading.route, reading.use
        request.user = session.name
        now = time.time()
        age = now - session.person_at
        if person is None or age > PERSON_REFRESH:
            return None
        if age > _PERSON_AHEAD:
            self._sign_in.refresh_person(session)
        grant = session.grant_for(reading.grant, self._rules.current, now)
        sign_on = self._known_sign_on(route, session)
        if grant is None or sign_on is None:
            return None
        lease = None
        if route.license is not None and use.qualified is not None:
            lease = self._known_lease(request, session, route.license, use)
            if lease is None:
                return None
        return Admission(route, signed_in, person, grant, lease, sign_on, reading.body, use.kind == "poll")

    def begin(self, request: Request, reading: Reading, deliver: Deliver) -> WarmExchange | None:
        """Forwards a request that is answered from memory, without waiting; None: `serve` must.

        `deliver` gets the response, unless the exchange needs `serve` after all. Raises Unavailable.
        """
        admission = self.answer_from_memory(request, reading)
        if admission is None:
            return None
        signed_in, began = admission.signed_in, perf_counter()
        session = signed_in.session
        sent = reading.route.forwarder.send_at_once(
            request, session.key, signed_in.cookies, admission.sign_on, reading.body, session.person_key
        )
        return None if sent is None else WarmExchange(request, admission, sent, began, self, deliver)

    def finish(self, exchange: WarmExchange) -> Response | None:
        """Makes the response of a warm exchange; None where that takes more than what has arrived."""
        request, admission = exchange.request, exchange.admission
        if exchange.sent.connection.state is not State.COMPLETE or exchange.age > EVERY:
            return None
        upstream_response = admission.route.forwarder.receive(request, exchange.sent)
        if upstream_response.cookies_set:
            return None
        self._observe(perf_counter() - exchange.began)
        self._settle_by(request, admission, upstream_response)
        return self._make_response(request, admission, upstream_response)

    # ------------------------------------------------------------ what the request is about

    def _body_limit(self, request: Request, route: Route) -> int:
        """Returns the largest body that the dialect must see whole, 0 where it needs none or there is none."""
        if route.dialect is None or request.length == 0:
            return 0
        return route.dialect.needs_body(request.method, request.raw_target)

    async def _read_for(self, request: Request, route: Route) -> bytes | None:
        """Reads the body where the dialect must see it whole to know which document it is about."""
        limit = self._body_limit(request, route)
        if not limit:
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
        key, now, rules = _grant_key(request, route, use), time.time(), self._rules.current
        grant = session.grant_for(key, rules, now)
        if grant is not None:
            return grant
        if route.is_public and use.qualified is None:
            return _PUBLIC
        judged = None if route.is_public else person
        access_request = AccessRequest(judged, request.address, request.target.path, use.qualified)
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

    def _known_lease(self, request: Request, session: Session, license: str, use: Use) -> Lease | None:
        """Returns the lease that this process knows of and that serves the request as it is, and notes its use."""
        assert use.qualified is not None
        known = self._licensing.known(session, license, use.qualified)
        if known is None or use.kind == "poll" or request.method in ("HEAD", "OPTIONS"):
            return known
        if known.provisional:  # it is claimed for this request too: how it ends says nothing of the others under way
            return None
        self._licensing.note(known)
        return known

    async def _license(
        self, request: Request, route: Route, session: Session, person: Person, use: Use
    ) -> Lease | None:
        document = use.qualified  # equal names on two hosts are two documents
        if route.license is None or document is None:
            return None
        licensing = self._licensing
        known = self._known_lease(request, session, route.license, use)
        if known is not None:
            return known
        if _takes_none(request, use):
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

    def _known_sign_on(self, route: Route, session: Session) -> bytes | None:
        """Returns the sign-on headers as they are sent; None where they must be made for this request.

        A sign-on to one server makes them later, when the server has been chosen.
        """
        return b"" if route.sign_on is None else session.sign_on_headers(route.number)

    async def _introduce(
        self, route: Route, session: Session, person: Person, grant: Grant, lease: Lease | None
    ) -> bytes:
        assert route.sign_on is not None
        head = encode_headers(await route.sign_on.headers(person, grant, lease))
        if route.sign_on.per_person:
            session.remember_sign_on(route.number, head)
        return head

    # ------------------------------------------------------------ forwarding

    async def _forward(self, request: Request, admission: Admission, begun: WarmExchange | None) -> UpstreamResponse:
        began = perf_counter() if begun is None else begun.began
        if begun is not None:
            begun.take_over()
        signed_in, sign_on = admission.signed_in, admission.route.server_sign_on
        upstream_response = await admission.route.forwarder.send(
            request,
            signed_in.session.key,
            signed_in.cookies,
            admission.sign_on,
            admission.body,
            user=_user_of(signed_in.session),
            sent=begun.sent if begun is not None else None,
            introduction=None if sign_on is None else _introduction(sign_on, admission),
        )
        self._observe(perf_counter() - began)
        if sign_on is not None and upstream_response.connection.status >= 400:
            _demand_signed_on(sign_on, admission, upstream_response)
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
        exchange = OpenWebSocket(tunnel, admission.lease)
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
            if not route.is_public:
                admission.person = await self._sign_in.person(session, time.time(), PERSON_REFRESH)
        return self._allow(request, route, session, admission.person, self._use_of(request, route, admission.body))


def _user_of(session: Session) -> str:
    """Returns by whom connections to a document server are counted: anonymous browsers by their address."""
    return session.key if session.is_anonymous else session.person_key


def _takes_none(request: Request, use: Use) -> bool:
    """Whether a request may only use a CAL that is held."""
    return use.kind == "poll" or is_prefetch_or_embed(request.method, request.headers.as_text())


def _introduction(sign_on: ServerSignOn, admission: Admission) -> Introduction:
    async def headers(upstream: Upstream) -> bytes:
        server = DocumentServer(upstream.name, upstream.host)
        introduced = await sign_on.introduce(server, admission.person, admission.grant, admission.lease)
        return admission.sign_on + encode_headers(introduced)  # with Authorization, where the route passes it

    return Introduction(headers, admission.person.key if sign_on.exclusive else "")


def _demand_signed_on(sign_on: ServerSignOn, admission: Admission, upstream_response: UpstreamResponse) -> None:
    """Raises BadGateway where the document server rejected the sign-on: no browser could answer its challenge."""
    connection = upstream_response.connection
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in connection.headers}
    cause = sign_on.why_rejected(connection.status, headers)
    if cause is not None:
        connection.close()
        raise BadGateway(f"the document server rejected the sign-on of {admission.person.name}: {cause}")


def _grant_key(request: Request, route: Route, use: Use) -> GrantKey:
    return (route.number, request.target.path, use.qualified or "", request.address)  # rules may name networks
