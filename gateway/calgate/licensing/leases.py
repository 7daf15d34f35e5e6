"""Is there a CAL for you? Asks the allocator once a document, remembers the lease, reports its use in batches.

Knows no access rules: whoever comes here may have the document already.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter

from calgate.authentication.sessions import Session, Sessions
from calgate.http.request import Request
from calgate.plugin.errors import Unavailable
from calgate.plugin.identity import Person
from calgate.plugin.licensing import Activity, Allocator, Claimant, Lease, LicenseInfo, Lost, NoCal
from calgate.plugin.services import Event
from calgate.telemetry import log
from calgate.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

_REPORT_EVERY = 3.0  # seconds between reports of activity
_MOST_IN_ONE_REPORT = 500


class Licensing:
    """The leases that this process knows of."""

    def __init__(
        self,
        allocator: Allocator | None,
        sessions: Sessions,
        groups: Mapping[str, str | None],
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`groups`: the allocator's groups, resolved to identifiers."""
        self._allocator = allocator
        self._sessions = sessions
        self._groups = groups
        self._metrics = metrics
        self._clock = clock
        # when last, by the lease's identity: to hash one takes as long as the rest of the question
        self._used: dict[int, tuple[Lease, float]] = {}
        self._settling: set[asyncio.Task[None]] = set()

    def terms(self, license: str) -> LicenseInfo:
        """What the gateway must know of a license."""
        return self._allocator.licenses[license] if self._allocator is not None else LicenseInfo()

    @property
    def groups(self) -> Sequence[str]:
        """The names of the groups that the allocator's settings mention."""
        return sorted(self._allocator.groups) if self._allocator is not None else []

    def regroup(self, groups: Mapping[str, str | None]) -> None:
        """The directory resolved the allocator's groups anew."""
        self._groups = groups

    def known(self, session: Session, license: str, document: str) -> Lease | None:
        """The lease that this process knows of, if it is still good: the warm path's whole question."""
        lease = session.leases.get((license, document))
        return lease if lease is None or lease.until is None or self._clock() < lease.until else None

    async def demand_held(self, session: Session, person: Person, license: str, document: str) -> Lease:
        """The lease held already, for requests that may use a CAL and never take one. Raises NoCal, Unavailable."""
        assert self._allocator is not None
        lease = await self._allocator.held(license, self._claimant(session, person, license), document)
        if lease is None:
            raise self.none_held(license, document)
        if not lease.provisional:  # else the request that it is for has yet to settle it
            session.leases[(license, document)] = lease
        return lease

    def none_held(self, license: str, document: str) -> NoCal:
        """What is said to a request that takes no CAL, and finds none."""
        return NoCal(
            "no CAL is held for the document, and this request takes none",
            license=license,
            document=document,
            pools=(),
            contact=self.terms(license).contact,
            code="no-cal-held",
        )

    async def claim(self, request: Request, session: Session, person: Person, license: str, document: str) -> Lease:
        """The allocator's answer for this document. Raises NoCal, Unavailable."""
        assert self._allocator is not None
        claimant = self._claimant(session, person, license)
        if request.target.path.startswith(self.terms(license).exempt_paths):
            return Lease(license, "exempt", claimant, document)
        try:
            began = perf_counter()
            claiming = self._allocator.claim(license, claimant, document, reference=request.reference)
            lease = await self._unless_gone(session, claiming)
            self._metrics.observe("claim", perf_counter() - began)
        except NoCal as refusal:
            log.decision(
                "no CAL", **self._facts(request, person, license, document), reason=refusal.detail, ms=request.ms
            )
            raise
        self._metrics.count("claims", lease.kind)
        log.decision("CAL", **self._facts(request, person, license, document), cal=lease.kind, ms=request.ms)
        session.leases[(license, document)] = lease
        return lease

    async def _unless_gone(self, session: Session, claim: Coroutine[None, None, Lease]) -> Lease:
        """The lease; the store goes on without a client that goes away meanwhile, and what it gives is given back."""
        claiming = asyncio.get_running_loop().create_task(claim)
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            claiming.add_done_callback(partial(self._give_back, session))
            raise

    def _give_back(self, session: Session, claiming: "asyncio.Task[Lease]") -> None:
        if not claiming.cancelled() and claiming.exception() is None and claiming.result().provisional:
            self.settle(session, claiming.result(), served=False)

    def _claimant(self, session: Session, person: Person, license: str) -> Claimant:
        by = self.terms(license).client
        # without a cookie every request would be another browser, so a program's client is its address, whatever is set
        client = "" if by == "user" else session.key if by == "browser" and session.is_browser else session.address
        mine = frozenset(name for name, key in self._groups.items() if key is not None and key in person.groups)
        return Claimant(person.key, person.name, client, mine)

    def _facts(self, request: Request, person: Person, license: str, document: str) -> dict[str, object]:
        return {
            "reference": request.reference,
            "user": person.name,
            "address": request.address,
            "license": license,
            "document": document,
        }

    def note_known(self, session: Session, license: str, document: str) -> None:
        """As `note`, for whoever has no lease at hand that was asked for just now."""
        lease = self.known(session, license, document)
        if lease is not None and not lease.provisional:
            self.note(lease)

    def note(self, lease: Lease) -> None:
        """The lease was used; the allocator hears of it with the next batch."""
        self._used[id(lease)] = (lease, self._clock())

    def settle(self, session: Session, lease: Lease, *, served: bool | None) -> None:
        """Tells the allocator, beside the answer, how the request ended that a provisional lease was made for."""
        place = (lease.license, lease.document)
        if served is not None and session.leases.get(place) is lease:
            if served:
                session.leases[place] = _settled(lease)
            else:
                del session.leases[place]
        task = asyncio.get_running_loop().create_task(self._settle(lease, served=served))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, lease: Lease, *, served: bool | None) -> None:
        assert self._allocator is not None
        try:
            await self._allocator.settle(lease, served=served)
        except Unavailable as refusal:
            logger.warning("a provisional CAL of %s stays as it is: %s", lease.claimant.name, refusal.detail)

    async def release(self, session: Session) -> None:
        """A session has ended: its CALs are released where no other live session of that user and client is left."""
        if self._allocator is None:
            return
        others = await self._sessions.live_of(session.person_key)
        for license, terms in self._allocator.licenses.items():
            person = session.person
            name = person.name if person is not None else session.name
            client = "" if terms.client == "user" else session.address
            if terms.client == "browser" and session.is_browser:
                client = session.key
            elif any(terms.client == "user" or other.address == session.address for other in others):
                continue
            await self._allocator.release(license, Claimant(session.person_key, name, client))

    # ------------------------------------------------------------ in the background

    async def report(self) -> None:
        """Sends activity to the allocator in batches, and forgets the leases that are lost; runs until cancelled."""
        while True:
            await asyncio.sleep(_REPORT_EVERY)
            with suppress(Unavailable):
                await self.report_once()

    async def report_once(self) -> None:
        """One batch. What could not be reported is kept for the next."""
        if self._allocator is None or not self._used:
            return
        used, self._used = self._used, {}
        batch = [Activity(lease, at) for lease, at in dict(used.values()).items()]  # equal ones of two sessions are one
        try:
            for start in range(0, len(batch), _MOST_IN_ONE_REPORT):
                for lost in await self._allocator.touch(batch[start : start + _MOST_IN_ONE_REPORT]):
                    self._forget(lost)
        except (Unavailable, asyncio.CancelledError):
            self._used = used | self._used
            raise

    async def finish(self) -> None:
        """Before the process ends: what is settling is settled, what was used is reported."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=2)
        with suppress(Unavailable):
            await self.report_once()

    def _forget(self, lost: Lost) -> None:
        claimant = lost.lease.claimant
        for session in self._sessions.of_person(claimant.user):
            for place, lease in list(session.leases.items()):
                if lease.claimant.client == claimant.client and lease.license == lost.lease.license:
                    del session.leases[place]
                    session.close_tunnels(1008, "the CAL is no longer held")

    def on_event(self, event: Event) -> None:
        """An administrator, or another gateway, took leases back: `subject` is a lease's id or a user's key."""
        if event.topic != "lease-lost":
            return
        for session in self._sessions.known():
            gone = [
                place
                for place, lease in session.leases.items()
                if event.subject in (lease.id, lease.claimant.user, lease.license)
            ]
            for place in gone:
                del session.leases[place]
            if gone:
                session.close_tunnels(1008, event.reason or "the CAL is no longer held")
                session.end_polls()


def _settled(lease: Lease) -> Lease:
    return Lease(lease.license, lease.kind, lease.claimant, lease.document, lease.id, until=lease.until)
