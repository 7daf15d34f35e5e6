"""The column with CALs on the screen of the sessions."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cal_model.license import Lab
from calgate.plugin import Cell, ConsoleContext, Services, SignedIn, Visitor
from calgate_cal.screens import background, screens

Make = Callable[..., Awaitable[Lab]]
READER = Visitor("CORP\\rita", "rita", "reader", "10.0.0.1")
POOLS = {
    "named": {"in_license": 5, "quarantine": "7d"},
    "document": {"in_license": 5, "dynamic": True},
    "session": {"in_license": 5},
}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for what is read for the first time, however slow the machine is."""
    monkeypatch.setattr(background, "PATIENCE", 60.0)


def column_of(lab: Lab, folder: Path) -> Callable[..., Awaitable[list[Cell] | None]]:
    services = Services(lab.store, folder, directory=lab.people)
    [column] = [one.on_sessions for one in screens(ConsoleContext(lab.config, services)) if one.on_sessions is not None]

    async def show(*sessions: SignedIn) -> list[Cell] | None:
        cells = await column.show(READER, sessions)
        return None if cells is None else list(cells)

    return show


def session(user: str, address: str = "pc", browser: str = "b1") -> SignedIn:
    return SignedIn(user, f"CORP\\{user}", {"address": address, "browser": browser, "user": ""})


async def test_session_has_the_cals_of_its_user_and_the_session_cal_of_its_client(
    license: Make, tmp_path: Path
) -> None:
    lab = await license(**POOLS)
    await lab.license_admin.allocate("sales.qvw", 2)
    await lab.license_admin.allocate("hr.qvw", 2)
    await lab.license_admin.assign("ann")
    for document in ("sales.qvw", "hr.qvw"):
        assert await lab.open("bob", document) == "document"
    assert await lab.open("bob", "other.qvw", client="phone") == "session"
    show = column_of(lab, tmp_path)
    assert await show(session("ann"), session("bob"), session("bob", "phone"), session("cid")) == [
        "Named",
        "Document (2 documents)",
        "Document (2 documents), Session",
        "",
    ]
    await lab.license_admin.remove("ann")
    assert await show(session("ann")) == [""]


async def test_client_is_what_the_license_counts(license: Make, tmp_path: Path) -> None:
    lab = await license(session={"in_license": 5}, client="browser")
    assert await lab.open("ann", client="b1") == "session"
    assert await column_of(lab, tmp_path)(session("ann"), session("ann", browser="b2")) == ["Session", ""]


async def test_column_of_ten_thousand_sessions_takes_less_than_a_second(license: Make, tmp_path: Path) -> None:
    lab = await license(session={"in_license": 5})
    assert await lab.open("ann") == "session"
    show = column_of(lab, tmp_path)
    sessions = [session(f"user{number}") for number in range(9_999)]
    await show(session("ann"))
    began = time.process_time()
    cells = await show(*sessions, session("ann"))
    assert time.process_time() - began < 1
    assert cells == [*[""] * 9_999, "Session"]


async def test_column_is_absent_while_the_holders_are_read_for_the_first_time(
    license: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = await license(session={"in_license": 5})
    column = column_of(lab, tmp_path)
    monkeypatch.setattr(background, "PATIENCE", 0.0)
    assert await column(session("ann")) is None
    monkeypatch.setattr(background, "PATIENCE", 60.0)
    assert await column(session("ann")) is not None
