"""The console's screens about licenses: how much of the store a view reads, and that what they keep is what it has."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from cal_model.license import DAY, HOUR, MINUTE, TEN, Lab
from calgate.plugin import (
    ConsoleContext,
    Facts,
    Inputs,
    NoCal,
    Notice,
    Screen,
    Services,
    Store,
    Subject,
    Table,
    View,
    Visitor,
)
from calgate_cal.audit import DENIALS
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.sources import audit
from calgate_cal.planner.sources.audit import Window
from calgate_cal.report import full_hour, hourly_peaks, spans
from calgate_cal.screens import background, record_book, screens, use_today
from calgate_cal.screens.holder_index import HolderIndex
from calgate_cal.screens.peaks import Peaks
from calgate_cal.screens.record_book import RecordBook

Make = Callable[..., Awaitable[Lab]]
ROOT = Visitor("CORP\\root", "root", "admin", "10.0.0.1")
MANY = 700  # holders: more than a page of the screen, and than a call to the store returns


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for what is read for the first time, and believes what was read, however slow the machine is."""
    monkeypatch.setattr(background, "PATIENCE", 60.0)
    monkeypatch.setattr(use_today, "_BELIEVED", 3600.0)


class CountingStore:
    """Counts the calls to a store, and the records that it returns."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.prefix = store.prefix
        self.redis = store.redis
        self.library = store.library
        self.calls = 0
        self.records = 0

    async def call(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        return await self._store.call(*args, **options)

    async def execute(self, *command: Any) -> Any:
        self.calls += 1
        reply = await self._store.execute(*command)
        if command[0] in ("XRANGE", "XREVRANGE"):
            self.records += len(reply)
        return reply


def console_of(lab: Lab, folder: Path) -> tuple[CountingStore, dict[str, Screen]]:
    store = CountingStore(lab.store)
    services = Services(store, folder, directory=lab.people)  # type: ignore[arg-type]
    return store, {screen.path: screen for screen in screens(ConsoleContext(lab.config, services))}


def tables(view: View) -> list[Table]:
    return [part for part in view.parts if isinstance(part, Table)]


async def fill(lab: Lab) -> None:
    """Gives many users a Named CAL, and writes as many denials."""
    for number in range(MANY):
        await lab.open(f"u{number:03}")
    key = "calgate:{q}:audit"
    for number in range(MANY):
        user = f"d{number % 50}"
        await lab.store.redis.xadd(
            key,
            {
                "what": "denied",
                "user": user,
                "name": f"CORP\\{user}",
                "reference": f"R{number}",
                "document": "a.qvw",
            },
        )


async def test_warm_view_reads_what_it_shows_and_no_more(license: Make, tmp_path: Path) -> None:
    lab = await license(named={"in_license": 1000, "dynamic": True})
    await fill(lab)
    store, shown = console_of(lab, tmp_path)
    views: dict[str, Any] = {}
    looks = {
        "holders": Inputs({"search": "u6", "from": "50"}),
        "denials": Inputs({"user": "d7"}),
        "log": Inputs({}),
        "overview": Inputs({}),
    }
    for path, inputs in looks.items():
        await shown[path].show(ROOT, inputs)
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "console: the use of today"))
    for path, inputs in looks.items():
        before = store.calls, store.records
        views[path] = await shown[path].show(ROOT, inputs)
        assert store.calls - before[0] <= 20, path
        assert store.records - before[1] <= (1000 if path == "log" else 60), path
    [holders] = tables(views["holders"])
    assert (holders.title, len(holders.rows), holders.later) == ("100 CALs", 50, "")
    assert [row["id"] for row in holders.rows] == sorted(str(row["id"]) for row in holders.rows)
    [denials] = tables(views["denials"])
    assert [row["reference"] for row in denials.rows] == [f"R{number}" for number in range(657, 0, -50)]
    for path in ("holders", "denials"):
        about = shown[path].about_user
        assert about is not None
        before = store.calls, store.records
        parts = (await about(ROOT, Subject("CORP\\d7", "d7"))).parts
        assert store.calls - before[0] <= 20, path
        assert store.records - before[1] <= 20, path
        assert all(len(part.rows) <= 10 for part in parts if isinstance(part, Table))


@pytest.mark.parametrize("written", ["CORP/u7", "u7@corp.example", "corp.example\\u7", " CORP \\ U7 "])
async def test_holder_is_found_by_every_usual_form_of_their_name(license: Make, tmp_path: Path, written: str) -> None:
    lab = await license(named={"in_license": 2, "dynamic": True})
    for user in ("u7", "u8"):
        await lab.open(user)
    [holders] = tables(await console_of(lab, tmp_path)[1]["holders"].show(ROOT, Inputs({"search": written})))
    assert ["u7" in str(row["user"]) for row in holders.rows] == [True]


async def test_view_says_that_it_is_partial_while_the_store_is_read_for_the_first_time(
    license: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = await license(named={"in_license": 1000, "dynamic": True})
    await fill(lab)
    monkeypatch.setattr(background, "PATIENCE", 0.0)
    _, shown = console_of(lab, tmp_path)
    for path in ("holders", "use"):
        view = await shown[path].show(ROOT, Inputs({}))
        assert (view.is_partial, view.is_live, tables(view)) == (True, True, []), path
        assert any(isinstance(part, Notice) and "for the first time" in part.text for part in view.parts)
    monkeypatch.setattr(background, "PATIENCE", 60.0)
    for path in ("holders", "use"):
        view = await shown[path].show(ROOT, Inputs({}))
        assert (view.is_partial, len(tables(view)) > 0) == (False, True), path


async def happen(lab: Lab, chance: random.Random) -> None:
    """Something happens to a user's CALs."""
    user, admin = f"user{chance.randrange(6)}", lab.license_admin
    match chance.randrange(6):
        case 0 | 1 | 2:
            document = chance.choice(("sales.qvw", "hr.qvw", "www|sales.qvw"))
            await lab.open(user, document, client=chance.choice(("pc", "phone")))
        case 3:
            await lab.release(user)
        case 4:
            [one, *_] = [*await lab.holders(), None]
            if one is not None and one.kind == "session":
                await admin.end_one(one.user, one.client, force=chance.random() < 0.5)
            elif one is not None and one.kind == "named" and one.state == "quarantined":
                await admin.undo_for(one.user, one.name)
            elif one is not None and one.kind == "named":
                await admin.remove_from(one.user, one.name)
        case 5:
            await lab.tend()


async def test_kept_holders_are_those_of_the_store_whatever_happens(license: Make) -> None:
    """Every kind of CAL begins, is used, signed out, removed, given back, ended and lapses, in a random order."""
    lab = await license(
        named={"in_license": 3, "dynamic": True},
        document={"in_license": 3, "dynamic": True},
        session={"in_license": 2},
        usage={"in_license": 2},
        client="address",
    )
    admin = lab.license_admin
    await admin.allocate("sales.qvw", 2)
    index = HolderIndex(admin)
    chance = random.Random(7)
    now = 0.0
    for step in range(250):
        now += chance.choice((1, MINUTE, 20 * MINUTE, 2 * HOUR))
        await lab.at(now)
        await happen(lab, chance)
        if step % 5 == 0:
            await lab.tend()
            kept = await index.holders()
            assert kept is not None
            found = {field: holder async for field, holder in admin.holders_by_field()}
            assert {field: (one.id, one.state) for field, one in kept.items()} == {
                field: (one.id, one.state) for field, one in found.items()
            }, step


async def test_book_that_follows_has_the_peaks_visits_and_denials_of_all_records(license: Make) -> None:
    lab = await license(session={"in_license": 2, "minimum": "5m", "idle_timeout": "10m"})
    admin, calendar = lab.license_admin, Calendar(UTC)
    book, index, peaks = RecordBook(admin), HolderIndex(admin), Peaks()
    chance = random.Random(3)
    now = 0.0
    for step in range(120):
        now += chance.choice((MINUTE, 10 * MINUTE, HOUR))
        await lab.at(now)
        try:
            lease = await lab.claim(f"user{chance.randrange(5)}", reference=f"R{step}")
            await lab.allocator.settle(lease, served=True)
        except NoCal:
            pass
        await lab.tend()
        if step % 20 != 19:
            continue
        held = await index.holders()
        assert held is not None
        assert await book.is_current()
        records = [record async for record in admin.records(0)]
        until, since = TEN + now + 1, TEN + now - DAY
        begin, hours = await peaks.since(since, until, book, held.values(), calendar)
        used = [span for span in spans(records, held.values()) if span.until is None or span.until > begin]
        assert begin == full_hour(since, calendar)
        assert hours.get("session", [0]) == hourly_peaks(used, begin, until), step
        whole = audit.history(records, list(held.values()), Window(0, until), idle_timeout=600, link=3600)
        reader = book.reader.within(Window(since, until))
        for holder in held.values():
            reader.add_holder(holder)
        assert sorted(reader.history.visits) == sorted(visit for visit in whole.visits if visit.end >= since)
        assert reader.history.denials == [denial for denial in whole.denials if denial.at >= since]
        denials = [record for record in records if record.what in DENIALS]
        assert [entry.id for entry in book.denials_since(0)] == [record.id for record in reversed(denials)]
        wanted = denials[len(denials) // 2]
        [entry] = book.find(lambda _: True, reference=wanted["reference"].casefold(), most=50)
        assert entry.id == wanted.id


async def test_queue_says_how_long_users_waited_today_who_were_let_in(license: Make, tmp_path: Path) -> None:
    lab = await license(session={"in_license": 1, "minimum": "1m", "idle_timeout": "5m"}, queue=True)
    _, shown = console_of(lab, tmp_path)
    view = await shown["queue"].show(ROOT, Inputs({}))
    [today] = [part for part in view.parts if isinstance(part, Facts)]
    assert today.values == {"Let in after waiting": 0, "Median wait in minutes": None}
    await lab.open("ann")
    for second in (0, 20, 40):  # a page that waits asks again
        await lab.at(second)
        await lab.denial("bob")
    await lab.release("ann")
    await lab.at(65)
    await lab.tend()
    await lab.open("bob")
    book = RecordBook(lab.license_admin)
    assert await book.is_current()
    assert book.waits_since(0) == [65.0]
    assert book.waits_since(TEN + HOUR) == []


async def test_queue_is_shown_a_page_at_a_time_and_a_user_is_taken_out_of_it(license: Make, tmp_path: Path) -> None:
    lab = await license(session={"in_license": 1}, queue=True)
    _, shown = console_of(lab, tmp_path)
    await lab.open("ann")
    for number in range(60):
        await lab.denial(f"w{number:02}")
    [first] = tables(await shown["queue"].show(ROOT, Inputs({})))
    [second] = tables(await shown["queue"].show(ROOT, Inputs({"from": "50"})))
    assert [row["place"] for row in (*first.rows, *second.rows)] == [*range(1, 61)]
    assert (first.title, first.later, second.earlier, second.later) == (
        "60 waiting",
        "queue?license=q&from=50",
        "queue?license=q",
        "",
    )

    about = shown["queue"].about_user
    assert about is not None
    subject = Subject("CORP\\w07", "w07")
    [[row]] = [table.rows for table in tables(await about(ROOT, subject))]
    assert row["place"] == 8
    dismiss = shown["queue"].actions["dismiss"].run
    assert [one.is_done for one in await dismiss(ROOT, Inputs({}, [str(row["id"]), str(row["id"])]))] == [True, False]
    assert (await about(ROOT, subject)).parts == []
    assert [one.is_done for one in await dismiss(ROOT, Inputs({}))] == [False]


async def test_book_begins_again_when_the_records_are_others(license: Make) -> None:
    lab = await license(session={"in_license": 1})
    book = RecordBook(lab.license_admin)
    await lab.open("ann")
    await lab.denial("bob")
    assert await book.is_current()
    await lab.store.redis.delete("calgate:{q}:audit")
    await lab.at(HOUR)
    assert await book.is_current()
    assert book.denials_since(0) == []


async def ended_session(lab: Lab, number: int) -> None:
    await lab.at(number * HOUR)
    await lab.open(f"u{number}")
    await lab.at(number * HOUR + 20 * MINUTE)
    await lab.release(f"u{number}")


async def test_book_that_is_full_forgets_the_oldest_use_and_keeps_the_newest(
    license: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_book, "_MOST_SPANS", 4)
    lab = await license(session={"in_license": 3})
    for number in range(9):
        await ended_session(lab, number)
    book = RecordBook(lab.license_admin)
    assert await book.is_current()
    kept = [span.since for span in book.spans_since(0)]
    assert 3 <= len(kept) <= 4
    assert max(kept) == pytest.approx(TEN + 8 * HOUR)


async def test_book_that_has_followed_for_long_is_read_again_from_what_the_store_still_has(
    license: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_book, "_MOST_FOLLOWED", 10)
    lab = await license(session={"in_license": 3})
    book = RecordBook(lab.license_admin)
    for number in range(12):
        await ended_session(lab, number)
        assert await book.is_current()
        await lab.store.redis.xtrim("calgate:{q}:audit", maxlen=8, approximate=False)
    assert book.count <= 8 + 10 + 6
    assert max(span.since for span in book.spans_since(0)) == pytest.approx(TEN + 11 * HOUR)
