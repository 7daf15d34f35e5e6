"""The replies of the functions in the store as values: pools, holders, waiters."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from calgate_cal import lua

KINDS = ("named", "document", "session", "usage")


@dataclass(frozen=True, slots=True)
class PoolState:
    """One pool, right now."""

    kind: str
    in_license: int
    limit: int
    occupied: int
    offered: int  # kept for waiting users
    beyond: int  # leases in observe mode that a limit would have denied; not among the occupied
    anonymous: int  # of the occupied: those of anonymous browsers
    free_at: float | None

    @property
    def free(self) -> int:
        """The CALs that a new claimant could have if there were no reserves."""
        return max(0, self.limit - self.occupied - self.offered)


@dataclass(frozen=True, slots=True)
class State:
    """A license, right now."""

    now: float
    pools: Sequence[PoolState]
    settings: dict[str, str]  # changes of administrators at run time
    waiting: int = 0  # users in the queue

    @property
    def allocations(self) -> dict[str, int]:
        """Document -> how many Document CALs can be given out for it."""
        return {
            name.removeprefix("allocated:"): int(value)
            for name, value in sorted(self.settings.items())
            if name.startswith("allocated:")
        }


@dataclass(frozen=True, slots=True)
class Visit:
    """An open visit of a Named or Document CAL (Unix times)."""

    client: str
    since: float
    used: float


@dataclass(frozen=True, slots=True)
class Holder:
    """A CAL that a user holds, or that is in quarantine."""

    kind: str
    user: str
    name: str
    client: str
    document: str
    id: str
    since: float
    last_used: float | None
    until: float | None  # when it comes back by itself, if it is not used again
    state: str  # "held", "provisional", "signed-out", "quarantined", "spent"
    by: str  # "dynamic", "administrator"
    names: Sequence[str] = ()  # names that the user had before
    beyond: bool = False  # in observe mode: a limit would have denied it
    visits: Sequence[Visit] = ()  # open ones of a Named or Document CAL, the latest user first
    anonymous: bool = False  # a browser on a public route: there is no user


@dataclass(frozen=True, slots=True)
class Waiting:
    """A user in the queue."""

    place: int
    user: str
    name: str
    client: str
    document: str
    since: float
    offer: str | None  # the kind of CAL that is kept for them
    kept_until: float
    reference: str  # of the latest poll


def state(reply: Sequence[bytes]) -> State:
    """Reads the reply of the function `state`."""
    return State(
        now=float(reply[0]) / 1000,
        settings={str(name): str(value) for name, value in json.loads(reply[1]).items()},
        waiting=int(reply[2]),
        pools=[_pool(json.loads(text)) for text in reply[3:]],
    )


def _pool(pool: dict[str, Any]) -> PoolState:
    return PoolState(
        kind=pool["kind"],
        in_license=int(pool["in_license"]),
        limit=int(pool["limit"]),
        occupied=int(pool["occupied"]),
        offered=int(pool["offered"]),
        beyond=int(pool["beyond"]),
        anonymous=int(pool["anonymous"]),
        free_at=seconds(pool.get("free_at")),
    )


def seconds(milliseconds: float | None) -> float | None:
    """Converts a time of the store, which counts in milliseconds."""
    return None if milliseconds is None else milliseconds / 1000


def waiting(waiter: dict[str, Any]) -> Waiting:
    """Reads one waiter of the function `queue`."""
    return Waiting(
        place=waiter["place"],
        user=waiter["user"],
        name=waiter["name"],
        client=waiter["client"],
        document=waiter["document"],
        since=waiter["since"] / 1000,
        offer=waiter.get("offer"),
        kept_until=waiter["kept_until"] / 1000,
        reference=waiter.get("reference", ""),
    )


def holder(lease: dict[str, Any]) -> Holder:
    """Reads one lease of the function `holders`."""
    ends = seconds(lease["ends"])
    return Holder(
        kind=lease["kind"],
        user=lease["user"],
        name=lease["name"],
        client=lease.get("client", ""),
        document=lease.get("document", "") if lease["kind"] in ("document", "usage") else "",
        id=lease["id"],
        since=lease["granted"] / 1000,
        last_used=seconds(lease.get("last_used")),
        until=None if lease["ends"] >= lua.FOREVER else ends,
        state=_state(lease),
        by=lease.get("by", ""),
        names=lease.get("names", ()),
        beyond=lease.get("beyond", False),
        visits=_visits(lease),
        anonymous="network" in lease,
    )


def _visits(lease: dict[str, Any]) -> Sequence[Visit]:
    visits = [Visit(one["client"], one["since"] / 1000, one["used"] / 1000) for one in lease.get("visits", ())]
    if visits and "visiting" in lease:  # the lease's last use is this visit's
        visits[0] = replace(visits[0], used=lease["last_used"] / 1000)
    return visits


def _state(lease: dict[str, Any]) -> str:
    if lease["field"].startswith("spent|") or (lease["kind"] == "usage" and not lease.get("serves", True)):
        return "spent"
    if not lease.get("serves", True):
        return "quarantined"
    if lease.get("left"):
        return "signed-out"
    return "provisional" if "pending" in lease else "held"
