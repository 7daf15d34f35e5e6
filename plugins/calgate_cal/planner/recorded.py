"""Reads a license's own records into a history."""

from collections.abc import Sequence
from dataclasses import replace

from calgate_cal.admin import LicenseAdmin
from calgate_cal.audit import Record
from calgate_cal.planner.history import History
from calgate_cal.planner.plan import Options
from calgate_cal.planner.replay import Clocks
from calgate_cal.planner.sources import audit
from calgate_cal.replies import Holder
from calgate_cal.settings import License, Pool


async def recorded(admin: LicenseAdmin, window: audit.Window, options: Options) -> History:
    """Returns what a license records of a window: its first record is found by id, so the years before cost nothing.

    Raises Unavailable.
    """
    records = [record async for record in admin.records(window.since, window.until)]
    holders = {holder.id: holder async for holder in admin.holders()}
    return history_of(records, list(holders.values()), window, options)


def history_of(records: Sequence[Record], holders: Sequence[Holder], window: audit.Window, options: Options) -> History:
    """Makes a history of records that have been read."""
    return audit.history(records, holders, window, idle_timeout=options.clocks.idle_timeout, link=options.link)


def options_of(license: License, options: Options) -> Options:
    """Returns the options with kinds, numbers and clocks of a license where the command line has none."""
    session, named = license.session, license.named
    return replace(
        options,
        clocks=Clocks(session.minimum, session.idle_timeout, session.maximum, session.reclaimable_after),
        queue=license.queue,
        named=options.named if options.named is not None else _limit(named),
        session=options.session if options.session is not None else _limit(session),
        exclude=(*options.exclude, *license.exempt.users),
        by_user=license.client == "user",
    )


def _limit(pool: Pool) -> int:
    return pool.in_license if pool.limit is None else pool.limit
