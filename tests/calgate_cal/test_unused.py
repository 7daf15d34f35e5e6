"""CALs that nobody uses: `calgate cals unused`."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from calgate.plugin import AccountRefused, Identity, Person, Unavailable
from calgate.plugin.services import Services
from calgate.store import StoreSection, open_store
from calgate_cal import Config, commands
from calgate_cal.replies import Holder
from calgate_cal.settings import License
from calgate_cal.unused import find
from support.directory import People
from support.redis_servers import Server

DAY = 86400.0
NOW = 1_000 * DAY


class Staff(People):
    """People of whom some have left, are disabled, or cannot be looked up now."""

    def __init__(self) -> None:
        self.gone: set[str] = set()
        self.refused: dict[str, str] = {}
        self.away = False

    async def look_up(self, identity: Identity) -> Person | None:
        account = identity.account.casefold()
        if self.away:
            raise Unavailable("no domain controller answers")
        if account in self.refused:
            raise AccountRefused("the account may not sign in", code=self.refused[account])
        return None if account in self.gone else await super().look_up(identity)


class Site:
    """A site whose rules let everybody in but strangers."""

    zone: tzinfo = UTC

    def document(self, license: str, name: str) -> str:
        return name.casefold()

    async def could_admit(self, person: Person) -> bool:
        return not person.account.startswith("stranger")


def holder(user: str, kind: str = "named", used: float | None = 1, since: float = 400) -> Holder:
    """A CAL last used, and assigned, so many days ago."""
    document = "sales.qvw" if kind == "document" else ""
    last_used = None if used is None else NOW - used * DAY
    return Holder(
        *(kind, user, f"CORP\\{user}", "pc", document, f"{user}-{kind}", NOW - since * DAY, last_used, None, "held", "")
    )


async def reasons(holders: Sequence[Holder], staff: Staff, days: float = 90) -> Mapping[str, str]:
    found = await find(holders, staff, Site(), License(), days=days, now=NOW)
    return {f"{it.holder.user} {it.holder.kind}": it.why for it in found}


async def test_cals_are_listed_with_the_worst_reason_first() -> None:
    staff = Staff()
    staff.gone, staff.refused = {"ann"}, {"bob": "account-disabled", "cid": "account-locked"}
    held = [
        *(
            holder("stranger"),
            holder("fay", used=None),
            holder("eve", used=90),
            holder("dan"),
            holder("dan", "document"),
        ),
        *(holder("cid"), holder("bob"), holder("ann"), holder("gus", used=89.9), holder("hal", used=None, since=89)),
    ]
    found = await reasons(held, staff)
    assert list(found.items()) == [
        ("ann named", "gone"),
        ("bob named", "disabled"),
        ("eve named", "unused"),
        ("fay named", "never used"),
        ("dan named", "both kinds"),
        ("dan document", "both kinds"),
        ("stranger named", "no rule"),
    ]


async def test_a_directory_that_does_not_answer_makes_owners_unknown_and_never_gone() -> None:
    staff = Staff()
    staff.away = True
    assert await reasons([holder("ann")], staff) == {"ann named": "unknown"}
    assert await reasons([holder("ann", used=100)], staff) == {"ann named": "unused"}


async def test_a_cal_in_quarantine_is_not_listed() -> None:
    quarantined = Holder("named", "ann", "CORP\\ann", "", "", "1-0", 0, 0, NOW, "quarantined", "")
    assert await reasons([quarantined], Staff()) == {}


async def test_removal_gives_a_cal_back_when_its_quarantine_is_over() -> None:
    staff = Staff()
    staff.gone = {"ann", "bob"}
    found = await find([holder("ann", used=2), holder("bob", used=8)], staff, None, License(), days=90, now=NOW)
    assert [it.back_at for it in found] == [NOW + 5 * DAY, None]


class Context:
    """A command context with one license and a directory that the test changes."""

    def __init__(self, url: str, folder: Path) -> None:
        self.staff = Staff()
        self._url = url
        self._folder = folder
        self._config = Config.model_validate({"demo": {"named": {"in_license": 9}, "document": {"in_license": 3}}})

    def document_of(self, method: str, target: str) -> str | None:
        return None

    def read(self, _: Path) -> Config:
        return self._config

    @contextlib.asynccontextmanager
    async def open(self, file: Path) -> AsyncIterator[tuple[Config, Services]]:
        async with open_store(StoreSection(url=self._url), self._folder) as store:
            yield self._config, Services(store, self._folder, self.staff, site=Site())


@pytest.fixture
def context(server: Server, tmp_path: Path) -> Context:
    return Context(server.url, tmp_path)


@pytest.fixture
def cals(context: Context) -> Callable[..., Result]:
    group = commands(context)
    return lambda *words: CliRunner().invoke(group, [*words, "-c", "calgate.toml"])


def listed(result: Result) -> Any:
    return json.loads(result.output)


def test_nothing_is_removed_without_apply_and_then_only_what_is_gone_disabled_or_unused(
    context: Context, cals: Callable[..., Result]
) -> None:
    for user in ("alice", "bob", "stranger"):
        assert cals("assign", user).exit_code == 0
    assert cals("unused").exit_code == 0
    context.staff.gone = {"alice"}
    context.staff.refused = {"bob": "account-disabled"}
    plan = cals("unused", "--remove", "--json")
    assert plan.exit_code == 3
    assert [(it["name"], it["why"], it["removed"]) for it in listed(plan)] == [
        ("CORP\\alice", "gone", False),
        ("CORP\\bob", "disabled", False),
        ("CORP\\stranger", "no rule", False),
    ]
    assert len(listed(cals("list", "--json"))["holders"]) == 3
    done = cals("unused", "--remove", "--apply")
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "2 CALs were removed")
    assert [it["name"] for it in listed(cals("list", "--json"))["holders"]] == ["CORP\\stranger"]
    removed = [it["by"] for it in listed(cals("log", "--what", "removed", "--json"))]
    assert len(removed) == 2
    assert len(set(removed)) == 1
    assert " unused " in removed[0]


def test_apply_without_remove_is_refused(cals: Callable[..., Result]) -> None:
    result = cals("unused", "--apply")
    assert (result.exit_code, result.output) == (1, "Error: --apply goes with --remove\n")
    assert cals("unused").output == "no CAL is unused\n"


def test_csv_has_a_row_for_each_cal(context: Context, cals: Callable[..., Result]) -> None:
    assert cals("assign", "alice").exit_code == 0
    context.staff.gone = {"alice"}
    lines = cals("unused", "--csv").output.splitlines()
    assert lines[0] == "why,kind,user,name,document,since,last_used,back_at,removed"
    assert lines[1].startswith("gone,named,alice,CORP\\alice,,")


def test_a_directory_that_is_away_removes_nothing(context: Context, cals: Callable[..., Result]) -> None:
    assert cals("assign", "alice").exit_code == 0
    context.staff.away = True
    result = cals("unused", "--remove", "--apply", "--json")
    assert (result.exit_code, [it["why"] for it in listed(result)]) == (0, ["unknown"])
    assert asyncio.run(_count(context)) == 1


async def _count(context: Context) -> int:
    async with context.open(Path()) as (_, services):
        return int(await services.store.execute("ZCARD", "calgate:{demo}:named"))
