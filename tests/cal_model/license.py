"""A license on a real server, with a clock that the test moves."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from calgate.plugin.identity import Directory
from calgate.plugin.licensing import Activity, Claimant, Lease, Lost, NoCal, Released
from calgate.store import RedisStore, StoreSection, open_store
from calgate_cal import lua
from calgate_cal.admin import LicenseAdmin
from calgate_cal.allocator import CalAllocator
from calgate_cal.replies import Holder
from calgate_cal.settings import Config
from support.directory import People

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
TEN = 1_768_039_200.0  # 10 January 2026, 10:00 UTC
CLOCK = "local function clock() return tonumber(redis.call('GET', 'test:clock')) end"
SALES = "sales.qvw"


class Lab:
    """One license, named q."""

    def __init__(self, store: RedisStore, settings: dict[str, Any], people: Directory | None = None) -> None:
        self.store = store
        self.config = Config.model_validate({"q": settings})
        self.time = TEN
        self.people = people or People()
        self.allocator = CalAllocator(self.config, store, "tester", clock=lambda: self.time)
        self.allocator._settling.pause = 0.0
        self.license_admin = LicenseAdmin("q", self.config.licenses["q"], store, self.people, "admin")
        store.library(lua.VERSION, lua.source(clock=CLOCK))
        self._requests = 0

    async def at(self, time: float) -> None:
        """Sets the clock, gateway's and store's, to so many seconds after ten o'clock."""
        self.time = TEN + time
        await self.store.redis.set("test:clock", round(self.time * 1000))

    async def claim(
        self, user: str, document: str = SALES, *, client: str = "pc", groups: str = "", reference: str = ""
    ) -> Lease:
        """Claims, with the document server's response still to come. Raises NoCal."""
        self._requests += 1
        reference = reference or f"r{self._requests}"
        return await self.allocator.claim("q", who(user, client, groups), document, reference=reference)

    async def open(self, user: str, document: str = SALES, *, client: str = "pc", groups: str = "") -> str:
        """Claims, and the document server serves: returns the kind of CAL, or the code of the denial."""
        try:
            lease = await self.claim(user, document, client=client, groups=groups)
        except NoCal as no:
            return no.code
        await self.allocator.settle(lease, served=True)
        return lease.kind

    async def hold(self, user: str, document: str = SALES, *, client: str = "pc", groups: str = "") -> Lease:
        """Claims, and the document server serves: returns the lease as a later request gets it."""
        lease = await self.claim(user, document, client=client, groups=groups)
        await self.allocator.settle(lease, served=True)
        return replace(lease, provisional=False, reference="")

    async def denial(self, user: str, document: str = SALES, *, client: str = "pc", groups: str = "") -> NoCal:
        """Claims, and must be denied."""
        try:
            lease = await self.claim(user, document, client=client, groups=groups)
        except NoCal as no:
            return no
        raise AssertionError(f"{user} got a {lease.kind} CAL")

    async def touch(self, *leases: Lease, ago: float = 0) -> list[str]:
        """Reports a use; returns why leases are lost."""
        lost: list[Lost] = list(await self.allocator.touch([Activity(lease, self.time - ago) for lease in leases]))
        return [loss.reason for loss in lost]

    async def release(self, user: str, client: str = "pc") -> Released:
        return await self.allocator.release("q", who(user, client))

    async def tend(self, most: int = 100) -> None:
        """Ends leases that have lapsed and moves the queue on, as a gateway does every few seconds."""
        await self.store.call(f"{lua.VERSION}_tend", lua.keys(self.store.prefix, "q"), (most,))

    async def stands(self, user: str) -> tuple[int, str | None] | None:
        """Returns a user's position and the kind offered to them, after tending; None: they do not wait."""
        await self.tend()
        return next(((it.place, it.offer) for it in await self.license_admin.queue() if it.user == user), None)

    async def occupied(self) -> dict[str, int]:
        """Returns how many CALs of each pool are occupied, without empty pools."""
        return {pool.kind: pool.occupied for pool in (await self.license_admin.state()).pools if pool.occupied}

    async def holders(self) -> list[Holder]:
        return sorted([holder async for holder in self.license_admin.holders()], key=lambda holder: holder.since)

    async def log(self) -> list[dict[str, str]]:
        """Returns every record, oldest first, without the first one, which has the terms."""
        records: Any = await self.store.redis.xrange("calgate:{q}:audit")
        return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in records][1:]


def who(user: str, client: str = "pc", groups: str = "") -> Claimant:
    return Claimant(user, f"CORP\\{user}", client, frozenset(groups.split()))


@contextlib.asynccontextmanager
async def a_license(url: str, folder: Path, people: Directory | None = None, **settings: Any) -> AsyncIterator[Lab]:
    """A license with these settings, at ten o'clock."""
    async with open_store(StoreSection(url=url), folder) as store:
        lab = Lab(store, settings, people)
        await lab.at(0)
        await lab.allocator.configure()
        yield lab
