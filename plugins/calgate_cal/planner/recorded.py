"""Reads a license's own records into a history."""

from calgate_cal.admin import LicenseAdmin
from calgate_cal.planner.history import History
from calgate_cal.planner.plan import Options
from calgate_cal.planner.sources import audit


async def recorded(admin: LicenseAdmin, window: audit.Window, options: Options) -> History:
    """Returns what a license records of a window: its first record is found by id, so the years before cost nothing.

    Raises Unavailable.
    """
    records = [record async for record in admin.records(window.since, window.until)]
    holders = {holder.id: holder async for holder in admin.holders()}
    clocks = options.clocks
    return audit.history(records, list(holders.values()), window, idle_timeout=clocks.idle_timeout, link=options.link)
