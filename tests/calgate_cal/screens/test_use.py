"""The screen of use over time: the limits that were in force, and the effect of other numbers of CALs."""

import json
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cal_model.license import HOUR, MINUTE, TEN, Lab
from calgate.console.as_json import view_as_json
from calgate.plugin import Chart, ConsoleContext, Inputs, Services, Table, Visitor
from calgate_cal.audit import Record
from calgate_cal.limit_history import LimitHistory
from calgate_cal.screens import background, screens
from calgate_cal.screens.record_book import RecordBook

Make = Callable[..., Awaitable[Lab]]
ROOT = Visitor("CORP\\root", "root", "admin", "10.0.0.1")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for what is worked out, however slow the machine is."""
    monkeypatch.setattr(background, "PATIENCE", 60.0)


async def test_limit_of_the_past_is_the_one_that_was_in_force_then(license: Make) -> None:
    lab = await license(session={"in_license": 9, "limit": 4}, named={"in_license": 2})
    admin = lab.license_admin
    for hour, limit in ((1, 6), (2, 9), (4, None)):
        await lab.at(hour * HOUR)
        await admin.limit("session", limit)
    book = RecordBook(admin)
    assert await book.is_current()
    now = {pool.kind: pool.limit for pool in (await admin.state()).pools}
    assert book.limits.since(TEN + 90 * MINUTE, now) == {
        "named": [(TEN + 90 * MINUTE, 2)],
        "session": [(TEN + 90 * MINUTE, 6), (TEN + 2 * HOUR, 9), (TEN + 4 * HOUR, 4)],
        "document": [(TEN + 90 * MINUTE, 0)],
        "usage": [(TEN + 90 * MINUTE, 0)],
    }


def record(at: float, what: str, **facts: str) -> Record:
    return Record(f"{at:.0f}-0", at, what, facts)


def test_limit_before_the_oldest_record_of_a_change_is_unknown() -> None:
    history = LimitHistory()
    history.follow(record(100, "limited", kind="session", cals="5"))
    assert history.since(50, {"session": 5, "named": 3}) == {"session": [(100, 5)], "named": [(50, 3)]}
    assert history.since(150, {"session": 5})["session"] == [(150, 5)]
    history.follow(record(200, "limited", kind="session", cals=""))  # the file's, which no record tells
    assert history.since(50, {"session": 8})["session"] == [(100, 5), (200, 8)]


def test_limit_is_never_more_than_a_settings_file_says_was_bought() -> None:
    history = LimitHistory()
    history.follow(record(1, "configured", terms=json.dumps({"session": {"limit": 5, "in_license": 9}})))
    history.follow(record(2, "restored", settings=json.dumps({"limit:session": "8"})))
    history.follow(record(3, "configured", terms=json.dumps({"session": {"limit": 6, "in_license": 6}})))
    history.follow(record(4, "configured", terms=json.dumps({"session": {"limit": 5, "in_license": 6}})))
    assert history.since(0, {"session": 6})["session"] == [(1, 5), (2, 8), (3, 6)]


async def test_screen_has_limits_as_steps_and_denials_with_other_numbers_of_named_cals(
    license: Make, tmp_path: Path
) -> None:
    lab = await license(session={"in_license": 2, "minimum": "5m", "idle_timeout": "10m"}, named={"in_license": 5})
    begin = time.time() - TEN - 10 * HOUR
    chance = random.Random(5)
    for step in range(60):
        await lab.at(begin + step * 9 * MINUTE)
        if step == 30:
            await lab.license_admin.assign("user0")
            await lab.license_admin.limit("session", 1)
        await lab.open(f"user{chance.randrange(5)}")
        await lab.tend()
    services = Services(lab.store, tmp_path, directory=lab.people)
    [use] = [one for one in screens(ConsoleContext(lab.config, services)) if one.path == "use"]
    view = await use.show(ROOT, Inputs({"days": "1"}))
    chart = next(part for part in view.parts if isinstance(part, Chart))
    session = next(one for one in chart.series if one.label == "Session")
    assert [step.limit for step in session.limit_steps] == [2, 1]
    assert session.limit_steps[1].at == pytest.approx(TEN + begin + 30 * 9 * MINUTE, abs=1)
    by_session, by_named = [part for part in view.parts if isinstance(part, Table)]
    assert [row["cals"] for row in by_session.rows if row["now"]] == [1]
    named = {int(str(row["cals"])): int(str(row["denied"])) for row in by_named.rows}
    assert [row["cals"] for row in by_named.rows if row["now"]] == [1]
    assert (min(named), max(named)) == (0, 5)
    assert named[5] == 0  # everybody has one
    assert [*named.values()] == sorted(named.values(), reverse=True)
    assert named[1] == next(row["denied"] for row in by_session.rows if row["now"])  # the same present
    made = json.loads(json.dumps(view_as_json(use, view, "")))
    [written] = [part for part in made["parts"] if part["kind"] == "chart" and "CALs" in part["title"]]
    steps = next(one["limit_steps"] for one in written["series"] if one["label"] == "Session")
    assert [step["limit"] for step in steps] == [2, 1]
