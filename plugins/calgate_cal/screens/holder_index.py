"""Every CAL of a license that is in use, kept in the console's process and up to date by the records.

A hundred thousand holders take seconds to read. They are read once, and after that those that new records name;
uses alone write no record, so all of them are read again from time to time, in the background.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from calgate_cal.admin import LicenseAdmin
from calgate_cal.audit import Record
from calgate_cal.replies import Holder
from calgate_cal.screens.background import begin, has_ended

_REFRESH = 300.0  # seconds after which all are read again
_MOST_FOLLOWED = 20_000  # new records; after more, all holders are read again
_ABOUT_ALL = ("configured", "restored", "times-corrected", "clock-set")


class HolderIndex:
    """The holders of one license, by their fields in the store."""

    def __init__(self, admin: LicenseAdmin, clock: Callable[[], float] = time.monotonic) -> None:
        self._admin = admin
        self._clock = clock
        self._held: dict[str, Holder] = {}
        self._fields: dict[str, str] = {}  # by the lease's id
        self._last = ""  # the id of the newest record that `_held` knows of; "": nothing has been read
        self._read_at = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._following = asyncio.Lock()
        self.version = 0
        """Changes with any holder."""

    async def holders(self) -> Mapping[str, Holder] | None:
        """Returns every holder as of now; None while they are read for the first time. Raises Unavailable."""
        if not self._last:
            reading = self._read_soon()
            if not await has_ended(reading):
                return None
        elif self._clock() - self._read_at > _REFRESH:
            self._read_soon()
        await self._follow()
        return self._held

    async def now(self, fields: Sequence[str]) -> Mapping[str, Holder]:
        """Returns the leases of some fields as the store has them now."""
        return await self._admin.holders_of(fields)

    def _read_soon(self) -> asyncio.Task[None]:
        if self._reading is None or self._reading.done():
            self._reading = begin(self._read())
        return self._reading

    async def _read(self) -> None:
        newest = await self._admin.newest_record()
        held = {field: holder async for field, holder in self._admin.holders_by_field()}
        self._held, self._last, self._read_at = held, newest or "0", self._clock()
        self._fields = {holder.id: field for field, holder in held.items()}
        self.version += 1

    async def _follow(self) -> None:
        """Reads again the leases that new records are about."""
        async with self._following:
            fields: set[str] = set()
            last, count = self._last, 0
            async for record in self._admin.records_after(last):
                last, count = record.id, count + 1
                if count > _MOST_FOLLOWED or record.what in _ABOUT_ALL:
                    await self._read()
                    return
                fields |= self._fields_of(record)
            if not count:
                return
            found = await self._admin.holders_of(sorted(fields))
            for field in fields:
                before = self._held.pop(field, None)
                if before is not None:
                    self._fields.pop(before.id, None)
            for field, holder in found.items():
                self._held[field] = holder
                self._fields[holder.id] = field
            self._last = last
            self.version += 1

    def _fields_of(self, record: Record) -> set[str]:
        """Returns the fields whose lease a record may have changed."""
        known = self._fields.get(record["lease"])
        fields = set() if known is None else {known}
        user, client, document = record["user"], record["client"], record["document"]
        match record["kind"] if user else "":
            case "named":
                fields.add(f"named|{user}")
            case "session":
                fields.add(f"session|{user}|{client}")
            case "document":  # the CAL may be one of the document on any host
                fields |= {f"document|{user}|{document}", f"document|{user}|{document.rpartition('|')[2]}"}
            case "usage":
                fields.add(f"usage|{user}|{document}")
        # a Usage CAL whose hour is over moves when the next one begins
        return fields | {f"spent|{self._held[field].id}" for field in fields if field in self._held}
