"""Is there a CAL for you? Claims one for each document, remembers the lease, reports its use in batches.

Knows no access rules: access has been granted before a request comes here.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter

from calgate.authentication.session import Session
from calgate.authentication.sessions import Sessions
from calgate.http.request import Request
from calgate.paths import is_at_or_below
from calgate.plugin.errors import Unavailable
from calgate.plugin.identity import Person
from calgate.plugin.licensing import Activity, Allocator, Claimant, Lease, LicenseInfo, Lost, NoCal, Pool
from calgate.plugin.services import Event
from calgate.plugin.tasks import start_task
from calgate.telemetry import log
from calgate.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

_REPORT_EVERY = 3.0  # seconds between reports of activity
_MOST_IN_ONE_REPORT = 500
_POOLS_KEPT = 5.0  # seconds: a hundred waiting pages cost the store no more than one
_CAL_GONE = "the CAL is no longer held"


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
        """`groups`: the allocator's groups by name, with the identifiers that the directory has for them."""
        self._allocator = allocator
        self._sessions = sessions
        self._groups = groups
        self._metrics = metrics
        self._clock = clock
        # last use, by the identity of the lease: hashing a lease would double the cost of a warm hit
        self._used: dict[int, tuple[Lease, float]] = {}
        self._settling: set[asyncio.Task[None]] = set()
        self._pools: dict[str, tuple[float, Sequence[Pool]]] = {}

    def terms(self, license: str) -> LicenseInfo:
        """Returns what the gateway itself must know of a license."""
        return self._allocator.licenses[license] if self._allocator is not None else LicenseInfo()

    @property
    def groups(self) -> Sequence[str]:
        """The groups that the allocator's settings name."""
        return sorted(self._allocator.groups) if self._allocator is not None else []

    @property
    def counts_browsers(self) -> bool:
        """Whether a license distinguishes the clients of a user by their browsers."""
        return self._allocator is not None and any(
            terms.client == "browser" for terms in self._allocator.licenses.values()
        )

    def regroup(self, groups: Mapping[str, str | None]) -> None:
        """Replaces the allocator's groups after the directory has resolved them again."""
        self._groups = groups

    async def pools(self, license: str) -> Sequence[Pool]:
        """Returns how full each pool of a license is, or was a few seconds ago; none if there is no such license.

        Takes no CAL and writes no record. Raises Unavailable.
        """
        if self._allocator is None or license not in self._allocator.licenses:
            return ()
        since, pools = self._pools.get(license, (-_POOLS_KEPT, ()))
        if self._clock() - since >= _POOLS_KEPT:
            pools = await self._allocator.pools(license)
            self._pools[license] = self._clock(), pools
        return pools

    def known(self, session: Session, license: str, document: str) -> Lease | None:
        """Returns the valid lease that this process knows of: all that a warm request needs."""
        return session.lease(license, document, self._clock())

    async def demand_held(self, session: Session, person: Person, license: str, document: str) -> Lease:
        """Returns the lease held already, for a request that may use a CAL and never takes one.

        Raises NoCal or Unavailable.
        """
        assert self._allocator is not None
        lease = await self._allocator.held(license, self._claimant(session, person, license), document)
        if lease is None:
            raise self.none_held(license, document)
        if not lease.provisional:  # a provisional lease is settled by the request that claimed it
            session.remember_lease(lease)
        return lease

    def none_held(self, license: str, document: str) -> NoCal:
        """Makes the refusal for a request that may only use an existing CAL, when there is none."""
        return NoCal(
            "no CAL is held for the document, and this request takes none",
            license=license,
            document=document,
            pools=(),
            contact=self.terms(license).contact,
            code="no-cal-held",
        )

    async def claim(self, request: Request, session: Session, person: Person, license: str, document: str) -> Lease:
        """Claims a CAL for a document. Raises NoCal or Unavailable."""
        assert self._allocator is not None
        claimant = self._claimant(session, person, license)
        if any(is_at_or_below(request.target.path, path) for path in self.terms(license).exempt_paths):
            return Lease(license, "exempt", claimant, document)
        try:
            began = perf_counter()
            claiming = self._allocator.claim(license, claimant, document, reference=request.reference)
            lease = await self._unless_gone(session, self._unless_signed_out(session, claiming))
            self._metrics.observe("claim", perf_counter() - began)
        except NoCal as refusal:
            request.log_refusal("no CAL", refusal, user=claimant.name, license=license, document=document)
            if not refusal.is_poll:
                self._metrics.denied(license, refusal.reason)
            raise
        self._metrics.count("claims", lease.kind)
        if lease.waited is not None:
            self._metrics.waited(license, lease.waited)
        log.decision(
            "CAL",
            reference=request.reference,
            user=claimant.name,
            address=request.address,
            license=license,
            document=document,
            cal=lease.kind,
            ms=request.ms,
        )
        session.remember_lease(lease)
        return lease

    async def _unless_signed_out(self, session: Session, claim: Coroutine[None, None, Lease]) -> Lease:
        """Waits for the claim; if the user signed out meanwhile, it may have taken the CAL again that was released."""
        lease = await claim
        if session.was_signed_out:
            await self.release(session)
        return lease

    async def _unless_gone(self, session: Session, claim: Coroutine[None, None, Lease]) -> Lease:
        """Waits for the claim; if the client disconnects, the claim still completes and the lease is returned."""
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
        client = session.client_by(self.terms(license).client)
        mine = frozenset(name for name, key in self._groups.items() if key is not None and key in person.groups)
        name = session.name if session.is_anonymous else person.name
        return Claimant(person.key, name, client, mine, session.is_anonymous)

    def note_known(self, session: Session, license: str, document: str) -> None:
        """Records use of the lease this process already holds, for callers that have not just claimed one."""
        lease = self.known(session, license, document)
        if lease is not None and not lease.provisional:
            self.note(lease)

    def note(self, lease: Lease) -> None:
        """Records use of a lease, for the next report to the allocator."""
        self._used[id(lease)] = (lease, self._clock())

    def settle(self, session: Session, lease: Lease, *, served: bool | None) -> None:
        """Reports the outcome of the request that claimed a provisional lease; the response does not wait for it."""
        if served is not None:
            session.replace_lease(lease, _settled(lease) if served else None)
        task = start_task(self._settle(lease, served=served), "licensing: settling")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, lease: Lease, *, served: bool | None) -> None:
        assert self._allocator is not None
        try:
            await self._allocator.settle(lease, served=served)
        except Unavailable as refusal:
            logger.warning(
                "could not settle the provisional CAL of %s (it lapses by itself): %s",
                lease.claimant.name,
                refusal.detail,
            )

    async def release(self, session: Session) -> None:
        """Releases the CALs of a session that ended, unless another live session of that user and client is left."""
        if self._allocator is None:
            return
        if session.is_anonymous:
            await self._release_anonymous(self._allocator, session)
            return
        others = await self._sessions.live_of(session.person_key)
        for license, terms in self._allocator.licenses.items():
            person = session.person
            name = person.name if person is not None else session.name
            client = session.client_by(terms.client)
            if any(other.client_by(terms.client) == client for other in others):
                continue
            await self._allocator.release(license, Claimant(session.person_key, name, client))

    async def _release_anonymous(self, allocator: Allocator, session: Session) -> None:
        """Releases the CALs of a browser whose user signs in or out, and ends the open exchanges under them."""
        session.forget_leases(lambda _: True, self._none_held_for, _CAL_GONE)
        for license, terms in allocator.licenses.items():
            if terms.anonymous:
                claimant = Claimant(session.person_key, session.name, session.client_by(terms.client))
                await allocator.release(license, claimant)

    # ------------------------------------------------------------ in the background

    async def report(self) -> None:
        """Reports activity to the allocator in batches and forgets lost leases; runs until cancelled."""
        while True:
            await asyncio.sleep(_REPORT_EVERY)
            with suppress(Unavailable):
                await self.report_once()

    async def report_once(self) -> None:
        """Reports once. Activity that could not be reported is kept for the next time."""
        if self._allocator is None or not self._used:
            return
        used, self._used = self._used, {}
        batch = [
            Activity(lease, at) for lease, at in dict(used.values()).items()
        ]  # equal leases of two sessions are one
        try:
            for start in range(0, len(batch), _MOST_IN_ONE_REPORT):
                for lost in await self._allocator.touch(batch[start : start + _MOST_IN_ONE_REPORT]):
                    self._forget(lost)
        except (Unavailable, asyncio.CancelledError):
            self._used = used | self._used
            raise

    async def finish(self) -> None:
        """Finishes settling and reporting, before the process ends."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=2)
        with suppress(Unavailable):
            await self.report_once()

    def _forget(self, lost: Lost) -> None:
        """Forgets every lease that the lost CAL served: of this license, for this user and client."""
        claimant, license = lost.lease.claimant, lost.lease.license

        def is_gone(lease: Lease) -> bool:
            return lease.claimant.client == claimant.client and lease.license == license

        for session in self._sessions.of_person(claimant.user):
            session.forget_leases(is_gone, self._none_held_for, _CAL_GONE)

    def on_event(self, event: Event) -> None:
        """Forgets leases that an administrator or another gateway took: `subject` is a lease, a user or a license."""
        if event.topic != "lease-lost":
            return

        def is_gone(lease: Lease) -> bool:
            return event.subject in (lease.id, lease.claimant.user, lease.license)

        for session in self._sessions.known():
            session.forget_leases(is_gone, self._none_held_for, event.reason or _CAL_GONE)

    def _none_held_for(self, lease: Lease) -> NoCal:
        return self.none_held(lease.license, lease.document)


def _settled(lease: Lease) -> Lease:
    return Lease(lease.license, lease.kind, lease.claimant, lease.document, lease.id, until=lease.until)
