"""The four questions about a request: sign-in, access, the CAL, and how the document server learns who the user is.

Most requests can be decided from what this process remembers. `answer_from_memory` does that, without waiting, for
every request: as the first step of `admit`, and for requests that need no task.
"""

import asyncio
import time
from contextlib import suppress
from functools import partial

from calgate.access.current import CurrentRules
from calgate.access.rules import AccessRequest, Verdict
from calgate.authentication.anonymous import ANONYMOUS, AnonymousBrowsers, cookie_needed
from calgate.authentication.session import GrantKey, Session
from calgate.authentication.sessions import Sessions
from calgate.authentication.sign_in import SignedIn, SignIn
from calgate.dialect import Use, is_prefetch_or_embed
from calgate.exchange.admission import Admission
from calgate.exchange.reading import Reading
from calgate.http.request import Request
from calgate.http.target import refuse_windows_alias
from calgate.licensing.leases import Licensing
from calgate.plugin.access import Grant
from calgate.plugin.errors import Forbidden, Refusal, RequestTimeout, Unavailable
from calgate.plugin.identity import Person
from calgate.plugin.licensing import Lease
from calgate.routes import Route
from calgate.telemetry import log
from calgate.upstream.forwarder import encode_headers

PERSON_REFRESH = 10.0  # seconds between a session's queries to the directory, which has a cache of its own
_PERSON_AHEAD = 7.0  # seconds after which a query in the background is begun
_BODY_WITHIN = 120.0  # seconds for the whole of a body that the dialect must see; such bodies are small
_OTHER = Use("other")
_PUBLIC = Grant('sign_in = "off"')  # what a public route serves, apart from documents
LONG_LIVED_KINDS = frozenset({"named", "document", "usage"})  # CALs that do not come back within the hour
CAL_KINDS = LONG_LIVED_KINDS | {"session"}  # other lease kinds ("exempt", "unenforced") hold no CAL


class Questions:
    """Asks the four questions of a request, and repeats them for what stays open."""

    def __init__(
        self,
        sign_in: SignIn,
        sessions: Sessions,
        licensing: Licensing,
        rules: CurrentRules,
        browsers: AnonymousBrowsers,
    ) -> None:
        self._sign_in = sign_in
        self._sessions = sessions
        self._licensing = licensing
        self._rules = rules
        self._browsers = browsers

    async def admit(self, request: Request, route: Route | None) -> Admission:
        """Asks the four questions in order; raises the Refusal of the first that fails."""
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
        """Asks the other three questions while the new session is being stored; if either fails, the other is undone.

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
        if body is not None:  # reading can have taken long: the present state decides
            session = signed_in.session = await self._sessions.demand_live(session)
        person = await self._sign_in.person(session, time.time(), PERSON_REFRESH)
        use = self.use_of(request, route, body)
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
        use = self.use_of(request, route, body)
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
        """Returns what can be read from the request alone; None if it cannot be remembered, or more of it must arrive.

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
        use = self.use_of(request, route, body)
        return Reading(route, use, body, session, _grant_key(request, route, use))

    def answer_from_memory(self, request: Request, reading: Reading) -> Admission | None:
        """Answers the four questions from what this process remembers; None if one of them needs more than that."""
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

    # ------------------------------------------------------------ what the request is about

    def _body_limit(self, request: Request, route: Route) -> int:
        """Returns the largest body that the dialect must see whole, 0 if it needs none or there is none."""
        if route.dialect is None or request.length == 0:
            return 0
        return route.dialect.needs_body(request.method, request.raw_target, request.headers.get(b"content-type"))

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

    def use_of(self, request: Request, route: Route, body: bytes | None) -> Use:
        """Returns which document a request opens or uses, as the route's dialect reads it."""
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
        if known.provisional:  # claimed for this request too: its outcome says nothing about the other open requests
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
        """Reports the outcome of a request that may have taken a CAL."""
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

    # ------------------------------------------------------------ who you are, for the document server

    def _known_sign_on(self, route: Route, session: Session) -> bytes | None:
        """Returns the sign-on headers as they are sent; None if they must be made for this request.

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

    # ------------------------------------------------------------ judging again what stays open

    async def judge_again(self, request: Request, admission: Admission) -> Grant:
        """Repeats the questions of `admit`, except for the session: when that ends, it ends the exchange itself."""
        grant = await self.judge_access(request, admission)
        lease = admission.lease
        if lease is not None and lease.kind in CAL_KINDS:
            await self._licensing.demand_held(admission.session, admission.person, lease.license, lease.document)
        return grant

    async def judge_access(self, request: Request, admission: Admission) -> Grant:
        """Decides access again, with the user's present groups. Raises Forbidden."""
        session, route = admission.session, admission.route
        with suppress(Unavailable):  # then at least the hours are judged, for the person as last known
            if not route.is_public:
                admission.person = await self._sign_in.person(session, time.time(), PERSON_REFRESH)
        return self._allow(request, route, session, admission.person, self.use_of(request, route, admission.body))


def _takes_none(request: Request, use: Use) -> bool:
    """Whether a request may only use a CAL that is held."""
    return use.kind == "poll" or is_prefetch_or_embed(request.method, request.headers.as_text())


def _grant_key(request: Request, route: Route, use: Use) -> GrantKey:
    return (route.number, request.target.path, use.qualified or "", request.address)  # rules may name networks
