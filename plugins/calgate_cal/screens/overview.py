"""The overview: one card for each license."""

from calgate.plugin import Bar, Bars, Cell, Inputs, Link, Part, Screen, View, Visitor
from calgate_cal.audit import DENIALS
from calgate_cal.replies import PoolState
from calgate_cal.screens.licenses import Licenses, midnight, page
from calgate_cal.screens.use_today import Day, Peaks

_MOST_COUNTED = 5_000  # records of today, until all have been read once; a busier site sees "or more"


def overview_screen(licenses: Licenses) -> Screen:
    """Returns the first screen of all."""

    day = Day(licenses)

    async def show(visitor: Visitor, inputs: Inputs) -> View:
        cards = [await _card(licenses, name, visitor, day.peaks(name, visitor)) for name in licenses.names]
        return View(cards, is_live=True)

    return Screen("overview", "Overview", show, order=0)


async def _card(licenses: Licenses, name: str, visitor: Visitor, today: Peaks) -> Part:
    admin = licenses.admin(name, visitor)
    state = await admin.state()
    bars = [
        Bar(
            pool.kind.capitalize(),
            pool.occupied,
            pool.limit,
            _note(pool),
            pool.free_at,
            today.get(pool.kind, ()),
        )
        for pool in state.pools
        if pool.in_license
    ]
    denied, is_whole = await _denied_today(licenses, name, visitor)
    facts: dict[str, Cell] = {
        "Waiting now": Link(state.waiting, page("queue", license=name)),
        "Denied today": Link(denied if is_whole else f"{denied} or more", page("denials", license=name)),
        "Holders": Link("who holds what", page("holders", license=name)),
    }
    return Bars(f"License {name}", bars, facts)


def _note(pool: PoolState) -> str:
    notes = [f"{pool.anonymous} anonymous"] if pool.anonymous else []
    notes += [f"{pool.offered} kept for waiting users"] if pool.offered else []
    notes += [f"limited to {pool.limit} of the {pool.in_license} in license"] if pool.limit < pool.in_license else []
    return ", ".join(notes)


async def _denied_today(licenses: Licenses, name: str, visitor: Visitor) -> tuple[int, bool]:
    """Counts the denials since midnight; False where not all records of today were read."""
    admin = licenses.admin(name, visitor)
    began = midnight(admin.zone)
    book = licenses.book(name)
    if await book.is_current(patience=0.0):
        return len(book.denials_since(began)), True
    denied = read = 0
    async for record in admin.latest_records():
        if record.at < began:
            return denied, True
        denied += record.what in DENIALS
        read += 1
        if read >= _MOST_COUNTED:
            return denied, False
    return denied, True
