"""The settings file as a plugin's commands see it: zone, names of documents, rules."""

from typing import Any

import pytest

from calgate.commands.site import SettingsSite
from calgate.config.model import Core
from calgate.plugin import BadRequest, Person
from support.directory import People

ALICE = Person("alice", "CORP", "alice", "Alice", frozenset({"CORP\\Sales"}))


def site(**core: Any) -> SettingsSite:
    route = {"path": "/", "license": "demo", "dialect": "qlikview", "upstreams": ["http://127.0.0.1:1"]}
    whole = {
        "state_dir": "/nowhere",
        "listen": {"bind": "127.0.0.1:1"},
        "routes": [route],
        "access": [{"name": "all", "everybody": True}],
    }
    return SettingsSite(Core.model_validate(whole | core), People())


def test_document_is_read_as_requests_are() -> None:
    assert site().document("demo", "Sales\\Plan.QVW") == "sales/plan.qvw"
    assert site().document("demo", "QVS@BI01|Sales.qvw") == "qvs@bi01|sales.qvw"


@pytest.mark.parametrize("name", ["sales.qvw.", "d" * 300, "../sales.qvw", "a|b|sales.qvw", "sales.qvw::$DATA"])
def test_document_name_that_no_request_can_have_is_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        site().document("demo", name)


@pytest.mark.parametrize(
    ("rules", "could"),
    [
        ([{"everybody": True}], True),
        ([{"groups": ["CORP\\Sales"]}], True),
        ([{"groups": ["CORP\\Sales"], "documents": ["a.qvw"], "hours": "mon 08:00-09:00"}], True),
        ([{"users": ["corp\\ALICE"]}], True),
        ([{"groups": ["CORP\\Others"]}], False),
        ([{"users": ["CORP\\bob"]}], False),
        ([{"users": ["CORP\\alice"], "deny": True}, {"everybody": True}], False),
        ([{"users": ["CORP\\alice"], "deny": True, "hours": "mon 08:00-09:00"}, {"everybody": True}], True),
        ([{"users": ["CORP\\alice"], "deny": True, "enforce": False}, {"everybody": True}], True),
        ([{"users": ["CORP\\bob"], "deny": True}, {"everybody": True}], True),
    ],
)
async def test_user_could_be_admitted_if_some_rule_lets_them_have_something(
    rules: list[dict[str, Any]], could: bool
) -> None:
    named = [{"name": f"rule {number}"} | rule for number, rule in enumerate(rules)]
    assert await site(access=named).could_admit(ALICE) is could


def test_zone_is_that_of_the_setting() -> None:
    assert str(site(timezone="Europe/Berlin").zone) == "Europe/Berlin"
