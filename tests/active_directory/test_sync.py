"""`calgate cals sync` and `calgate cals unused` for a group of a real domain."""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from support.check_settings import Write, write
from support.domain import BASE, Lab, run
from support.gateway_process import calgate

__all__ = ["write"]  # a fixture

ENABLED, DISABLED = 544, 546  # userAccountControl of an account that needs no password
PEOPLE = ("nora", "dora", "gone", "rené", "otto")
Cals = Callable[..., Awaitable[tuple[int, Any]]]


def dn(name: str) -> str:
    return f"CN={name},CN=Users,{BASE}"


class Department:
    """A group with a nested one, which the test changes: otto is in neither, nora in both."""

    def __init__(self, lab: Lab) -> None:
        self._database = str(lab.folder / "dc/private/sam.ldb")
        for name in PEOPLE:
            self.change(name, f"add\nobjectClass: user\nsAMAccountName: {name}\nuserAccountControl: {ENABLED}")
        for name, members in {
            "cal-inner": ("nora", "dora", "rené"),
            "cal-users": ("nora", "gone", "cal-inner"),
        }.items():
            lines = "\n".join(f"member: {dn(member)}" for member in members)
            self.change(name, f"add\nobjectClass: group\nsAMAccountName: {name}\n{lines}")

    def change(self, name: str, ldif: str) -> None:
        run("ldbmodify", "-H", self._database, stdin=f"dn: {dn(name)}\nchangetype: {ldif}\n")

    def replace(self, name: str, attribute: str, value: object) -> None:
        self.change(name, f"modify\nreplace: {attribute}\n{attribute}: {value}")

    def leaves(self, name: str, group: str) -> None:
        self.change(group, f"modify\ndelete: member\nmember: {dn(name)}")

    def remove(self, *names: str) -> None:
        run("ldbdel", "-H", self._database, *map(dn, names))


@pytest.fixture
def department(domain: Lab) -> Iterator[Department]:
    made = Department(domain)
    yield made
    made.remove("nora", "dora", "rené", "otto", "cal-users", "cal-inner")


@pytest.fixture
def cals(department: Department, write: Write) -> Cals:
    """Runs `calgate cals` with a license whose default group is the department's."""
    file = write()
    named = 'named = { in_license = 5, group = "CORP\\\\cal-users" }'
    text = file.read_text(encoding="utf-8").replace("named = { in_license = 2 }", named)
    text = text.replace('groups = ["CORP\\\\app-users"]', 'groups = ["CORP\\\\cal-inner"]')
    file.write_text(text, encoding="utf-8")

    async def run_command(*words: str) -> tuple[int, Any]:
        code, out, errors = await calgate("cals", *words, "-c", str(file), "--json")
        return code, json.loads(out) if out else errors

    return run_command


def changes(said: Any) -> list[str]:
    return [f"{it['what']} {it['name']}" for it in said["changes"]]


async def owners(cals: Cals) -> list[str]:
    _, listed = await cals("list")
    return sorted(it["name"] for it in listed["holders"] if it["kind"] == "named" and it["state"] != "quarantined")


@pytest.mark.long
async def test_named_cals_follow_a_nested_group_and_unused_takes_those_of_people_who_left(
    domain: Lab, department: Department, cals: Cals
) -> None:
    department.replace("dora", "userAccountControl", DISABLED)
    code, said = await cals("sync")
    assert (code, changes(said), said["disabled"]) == (
        *(3, ["assign CORP\\gone", "assign CORP\\nora", "assign CORP\\rené"], 1),
    )
    code, fault = await cals("sync", "--max-changes", "2", "--apply")
    assert (code, "3 changes are more than --max-changes allows (2)" in fault) == (1, True)
    assert (await cals("sync", "--apply"))[0] == 0
    assert (await cals("assign", "otto"))[0] == 0
    assert await owners(cals) == ["CORP\\gone", "CORP\\nora", "CORP\\otto", "CORP\\rené"]

    department.replace("rené", "sAMAccountName", "renée")
    department.leaves("nora", "cal-users")
    assert (await cals("sync", "--remove"))[1]["changes"] == [], "renée is the same owner, nora still a nested member"

    department.leaves("nora", "cal-inner")
    department.remove("gone")
    department.replace("dora", "userAccountControl", ENABLED)
    domain.do("dc", "stop")
    try:
        code, fault = await cals("sync", "--remove", "--apply")
        assert (code, "no domain controller responds" in str(fault)) == (1, True)
        code, found = await cals("unused", "--remove", "--apply")
        assert (code, {(it["why"], it["removed"]) for it in found}) == (0, {("unknown", False)})
    finally:
        domain.do("dc", "start")
    code, said = await cals("sync", "--remove", "--apply")
    assert (code, changes(said)) == (0, ["remove CORP\\nora", "assign CORP\\dora"])
    assert await owners(cals) == ["CORP\\dora", "CORP\\gone", "CORP\\otto", "CORP\\renée"], "gone is left to `unused`"

    department.replace("dora", "userAccountControl", DISABLED)
    code, found = await cals("unused")
    assert (code, [(it["why"], it["name"]) for it in found]) == (
        *(0, [("gone", "CORP\\gone"), ("disabled", "CORP\\dora"), ("no rule", "CORP\\otto")]),
    )
    code, found = await cals("unused", "--remove", "--apply")
    assert (code, [it["name"] for it in found if it["removed"]]) == (0, ["CORP\\gone", "CORP\\dora"])
    assert await owners(cals) == ["CORP\\otto", "CORP\\renée"]
