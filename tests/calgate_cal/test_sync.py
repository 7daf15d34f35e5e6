"""Named CALs in step with a group: `calgate cals sync`."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from calgate.plugin import AccountRefused, Identity, Person, Unavailable
from calgate.plugin.services import Services
from calgate.store import StoreSection, open_store
from calgate_cal import Config, commands
from support.redis_servers import Server

Cals = Callable[..., Result]


class Staff:
    """A domain CORP with groups that the test changes."""

    def __init__(self) -> None:
        self.groups: dict[str, set[str]] = {"Analysts": {"ann", "bob"}, "Analysts 2": set(), "Nobody": set()}
        self.disabled: set[str] = set()
        self.away = False

    async def look_up(self, identity: Identity) -> Person | None:
        account = identity.account.casefold()
        if self.away:
            raise Unavailable("no domain controller answers")
        if account in self.disabled:
            raise AccountRefused("disabled", code="account-disabled")
        groups = frozenset(name for name, members in self.groups.items() if account in members)
        return Person(account, "CORP", account, account.title(), groups)

    async def resolve(self, groups: Sequence[str]) -> Mapping[str, str | None]:
        return {group: group if group in self.groups else None for group in groups}

    async def members_of(self, group: str) -> Sequence[str] | None:
        return sorted(self.groups[group]) if group in self.groups else None


class Context:
    """A command context with one license."""

    def __init__(self, url: str, folder: Path, cals: int) -> None:
        self.staff = Staff()
        self._url = url
        self._folder = folder
        self._config = Config.model_validate({"demo": {"named": {"in_license": cals, "group": "Analysts"}}})

    def document_of(self, method: str, target: str) -> str | None:
        return None

    def read(self, _: Path) -> Config:
        return self._config

    @contextlib.asynccontextmanager
    async def open(self, file: Path) -> AsyncIterator[tuple[Config, Services]]:
        async with open_store(StoreSection(url=self._url), self._folder) as store:
            yield self._config, Services(store, self._folder, self.staff)


@pytest.fixture
def context(server: Server, tmp_path: Path) -> Context:
    return Context(server.url, tmp_path, cals=4)


@pytest.fixture
def cals(context: Context) -> Cals:
    group = commands(context)
    return lambda *words: CliRunner().invoke(group, [*words, "-c", "calgate.toml"])


def said(result: Result) -> Any:
    return json.loads(result.output)


def owners(cals: Cals) -> list[str]:
    """The accounts that a Named CAL serves."""
    held = said(cals("list", "--json"))["holders"]
    return sorted(it["user"] for it in held if it["state"] != "quarantined")


def test_members_get_named_cals_only_with_apply(cals: Cals) -> None:
    plan = cals("sync", "--json")
    assert plan.exit_code == 3
    assert [(it["what"], it["user"]) for it in said(plan)["changes"]] == [("assign", "ann"), ("assign", "bob")]
    assert owners(cals) == []
    done = cals("sync", "--apply")
    assert (done.exit_code, done.output.splitlines()) == (
        *(0, ["CORP\\ann has a Named CAL now", "CORP\\bob has a Named CAL now"]),
    )
    assert owners(cals) == ["ann", "bob"]
    assert all(" sync Analysts " in it["by"] for it in said(cals("log", "--what", "assigned", "--json")))
    assert (cals("sync").exit_code, cals("sync").output) == (0, "nothing to do\n")


def test_former_members_lose_only_cals_that_a_sync_of_this_group_gave(cals: Cals, context: Context) -> None:
    context.staff.groups["Analysts 2"] = {"eve"}
    assert cals("assign", "cid").exit_code == 0
    assert cals("sync", "--apply").exit_code == 0
    assert cals("sync", "--group", "Analysts 2", "--apply").exit_code == 0
    context.staff.groups |= {"Analysts": {"ann"}, "Analysts 2": {"dan"}}
    assert owners(cals) == ["ann", "bob", "cid", "eve"]
    assert cals("sync").output == "nothing to do\n"
    plan = said(cals("sync", "--remove", "--json"))
    assert [(it["what"], it["user"]) for it in plan["changes"]] == [("remove", "bob")]
    assert cals("sync", "--remove", "--apply").exit_code == 0
    assert owners(cals) == ["ann", "cid", "eve"]


def test_owners_who_are_disabled_are_left_to_unused(cals: Cals, context: Context) -> None:
    assert cals("sync", "--apply").exit_code == 0
    context.staff.groups["Analysts"] = {"ann"}
    context.staff.disabled = {"bob"}
    assert cals("sync", "--remove").output == "nothing to do\n"


@pytest.mark.parametrize(
    ("group", "fault"),
    [("Strangers", "the directory has no group Strangers"), ("Nobody", "the group Nobody has no members")],
)
def test_a_group_that_is_unknown_or_empty_stops_everything(cals: Cals, group: str, fault: str) -> None:
    assert cals("sync", "--apply").exit_code == 0
    result = cals("sync", "--group", group, "--remove", "--apply")
    assert result.exit_code == 1
    assert fault in result.output
    assert owners(cals) == ["ann", "bob"]


def test_a_directory_that_does_not_answer_stops_everything(cals: Cals, context: Context) -> None:
    assert cals("sync", "--apply").exit_code == 0
    context.staff.away = True
    assert cals("sync", "--remove", "--apply").exit_code == 1
    assert owners(cals) == ["ann", "bob"]


def test_more_changes_than_allowed_stop_everything(cals: Cals, context: Context) -> None:
    for most in ("1", "25%"):
        result = cals("sync", "--max-changes", most, "--apply")
        assert (result.exit_code, "2 changes are more than --max-changes allows (1)" in result.output) == (1, True)
    assert owners(cals) == []
    assert cals("sync", "--max-changes", "50%", "--apply").exit_code == 0
    assert "write 10 or 10%" in cals("sync", "--max-changes", "few").output


def test_members_are_assigned_in_a_stable_order_and_the_rest_is_counted(cals: Cals, context: Context) -> None:
    context.staff.groups["Analysts"] = set("fedcba")
    context.staff.disabled = {"a"}
    output = cals("sync").output
    assert "1 member gets none: no Named CAL is free for them" in output
    assert "1 member gets none: the account is disabled, expired or locked" in output
    plan = said(cals("sync", "--apply", "--json"))
    assert ([it["user"] for it in plan["changes"]], plan["short"], plan["disabled"]) == (["b", "c", "d", "e"], 1, 1)


def test_a_member_whose_cal_is_in_quarantine_gets_it_back(cals: Cals, context: Context, server: Server) -> None:
    assert cals("sync", "--apply").exit_code == 0
    with Redis.from_url(server.url, protocol=2) as redis:  # bob has used it, so a removal leads to quarantine
        now = redis.time()
        redis.zadd("calgate:{demo}:used", {"named|bob": int(now[0]) * 1000})
    assert "in quarantine" in cals("remove", "bob").output
    assert [(it["what"], it["user"]) for it in said(cals("sync", "--json"))["changes"]] == [("undo", "bob")]
    assert cals("sync", "--apply").exit_code == 0
    assert owners(cals) == ["ann", "bob"]


def test_a_second_run_at_the_same_time_is_refused(cals: Cals, server: Server) -> None:
    with Redis.from_url(server.url, protocol=2) as redis:
        redis.set("calgate:{demo}:sync", "another")
        assert "another run is at work" in cals("sync", "--apply").output
        assert redis.get("calgate:{demo}:sync") == b"another"
        redis.delete("calgate:{demo}:sync")
    assert cals("sync", "--apply").exit_code == 0
