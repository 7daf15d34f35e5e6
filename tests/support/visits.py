"""Visits and wishes for the planner's tests: made-up people, times in minutes from 2 March 2026 08:00 UTC."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn
from zoneinfo import ZoneInfo

from calgate.dialect.logged import logged_document
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.replay import VENDOR, denied
from calgate_cal.planner.sources import read_files
from calgate_cal.planner.wishes import Visit, Wish, link

BEGIN = datetime(2026, 3, 2, 8, tzinfo=UTC).timestamp()
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
SMALL = Path(__file__).parents[1] / "calgate_cal/planner/small"
BERLIN = ZoneInfo("Europe/Berlin")

_COLUMNS = """\
Exe Type,Exe Version,Server Started,Timestamp,Document,Document Timestamp,QlikView User,Exit Reason,Session Start
Session Duration,CPU Spent (s),Bytes Received,Bytes Sent,Calls,Selections,Authenticated User,Identifying User
Client Machine Identification,Serial Number,Client Type,Client Build Version,Secure Protocol,Tunnel Protocol,Server Port
Client Address,Client Port,Cal Type,Cal Usage Count"""
HEADER = _COLUMNS.replace("\n", ",").split(",")


def visit(begin: float, end: float, user: str, machine: str = "pc", ends: str = "signed-out") -> Visit:
    """A visit from one minute to another."""
    at, until = BEGIN + begin * MINUTE, BEGIN + end * MINUTE
    return Visit(at, until, until, ends, user.casefold(), machine, "session", "")


def wish(begin: float, end: float, user: str, machine: str = "pc") -> Wish:
    """A wish of a user who signs out."""
    at = BEGIN + begin * MINUTE
    return Wish(at, False, BEGIN + end * MINUTE, True, user, (user, machine), "session")


def of_file(name: str) -> list[Wish]:
    """The wishes of one of the small tables."""
    return link(sorted(read_files([SMALL / name], UTC).visits), [], HOUR)[0]


def each_its_own(wishes: Sequence[Wish]) -> list[Wish]:
    """The same wishes, each of a user and machine of its own."""
    return [it._replace(user=str(number), holder=(str(number), "pc")) for number, it in enumerate(wishes)]


def calendar() -> Calendar:
    return Calendar(UTC)


def session_row(begin: datetime, minutes: float, user: str, machine: str = "{pc}", **columns: str) -> dict[str, str]:
    """A row of QlikView's session log."""
    length = timedelta(minutes=minutes)
    hours, rest = divmod(round(length.total_seconds()), 3600)
    return {
        "Timestamp": f"{begin + length:%Y-%m-%d %H:%M:%S}",
        "Document": "D:\\QV\\Sales.qvw",
        "Exit Reason": "Socket closed",
        "Session Start": f"{begin:%Y-%m-%d %H:%M:%S}",
        "Session Duration": f"{hours:02}:{rest // 60:02}:{rest % 60:02}",
        "Authenticated User": user,
        "Identifying User": user,
        "Client Machine Identification": machine,
        "Client Address": "10.0.0.9",
        "Cal Type": "Session",
    } | columns


def session_log(rows: Sequence[dict[str, str]], header: Sequence[str] = HEADER) -> str:
    """A session log with these rows."""
    lines = ["\t".join(header), *("\t".join(row.get(name, "") for name in header) for row in rows)]
    return "\r\n".join(lines) + "\r\n"


def site_logs(folder: Path, weeks: int, users: int = 60, seed: int = 1, **columns: str) -> Path:
    """Session logs of a made-up site, a file a day."""
    folder.mkdir(exist_ok=True)
    generator = random.Random(seed)
    weight = [1 / (number + 1) for number in range(users)]
    monday = datetime(2026, 1, 5)
    for day in (monday + timedelta(days=number) for number in range(7 * weeks)):
        if day.weekday() > 4:
            continue
        rows = []
        for user in generator.choices(range(users), weight, k=60):
            begin = day + timedelta(seconds=round(generator.triangular(7, 18, 10) * 3600))
            minutes = round(min(120, generator.lognormvariate(2.5, 1)), 1)
            rows.append(session_row(begin, minutes, f"CORP\\user{user:02}", f"{{pc{user}}}", **columns))
        (folder / f"Sessions_QVS1_{day:%Y-%m-%d}.log").write_text(session_log(rows))
    return folder


def site(seed: int) -> list[Wish]:
    """Twelve weeks of 100 users, of whom a third sign out."""
    generator = random.Random(seed)
    weight = [1 / (number + 1) ** 0.8 for number in range(100)]
    wishes = []
    for day in (number for number in range(84) if number % 7 < 5):
        for user in generator.choices(range(100), weight, k=round(110 * generator.uniform(0.7, 1.3))):
            begin = BEGIN - HOUR + day * DAY + generator.triangular(0, 11, 3) * HOUR
            used = begin + min(3 * HOUR, generator.lognormvariate(6.6, 1))
            name = f"u{user}"
            wishes.append(Wish(begin, False, used, generator.random() < 0.3, name, (name, "pc"), "session"))
    return sorted(wishes)


def logged(wishes: list[Wish], seats: int) -> tuple[list[Visit], int]:
    """Returns the log of a server with so many seats, and how many people it turned away."""
    gone = set(denied(wishes, seats).denied)
    visits = [
        Visit(
            *(it.begin, it.used if it.signed_out else it.used + VENDOR.idle_timeout, it.used),
            *("signed-out" if it.signed_out else "expired", it.user, "pc", "session", ""),
        )
        for number, it in enumerate(wishes)
        if number not in gone
    ]
    return visits, len(gone)


class NoContext:
    """The command context of a machine without calgate: only the dialect is there."""

    def read(self, file: Path) -> NoReturn:
        raise AssertionError(f"{file} must not be read")

    def open(self, file: Path) -> NoReturn:
        raise AssertionError(f"{file} must not be opened")

    def document_of(self, method: str, target: str) -> str | None:
        return logged_document(method, target)
