"""The access rules decide alone: nothing here needs a server, a directory or a clock."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from calgate.access.rules import AccessRequest, Rules, Verdict
from calgate.access.settings import Rule, groups_of
from calgate.access.warnings import warnings
from calgate.dialect.document_names import canonical_name
from calgate.plugin.access import Grant
from calgate.plugin.errors import Forbidden, Unavailable
from calgate.plugin.identity import Person

BERLIN = "Europe/Berlin"
GROUPS = {
    "CORP\\BI Users": "S-1-bi",
    "CORP\\Sales": "S-1-sales",
    "CORP\\Contractors": "S-1-contract",
    "CORP\\Gone": None,
}


def person(*groups: str, account: str = "alice") -> Person:
    return Person(f"S-1-{account}", "CORP", account, account.title(), frozenset(groups))


def asked(
    *groups: str, document: str | None = None, path: str = "/", address: str = "10.1.2.3", account: str = "alice"
) -> AccessRequest:
    return AccessRequest(person(*groups, account=account), address, path, document)


def at(text: str, zone: str = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def rules(*tables: Mapping[str, object]) -> Rules:
    return Rules([Rule.model_validate(table) for table in tables], GROUPS, BERLIN)


BI = {"name": "everybody in BI", "groups": ["CORP\\BI Users"]}
SALES = {"name": "sales documents", "documents": ["Sales/*.qvw"], "groups": ["CORP\\Sales"]}
SALES_ONLY = {"name": "sales documents: nobody else", "documents": ["Sales/*.qvw"], "deny": True}
NOON = at("2026-03-04 12:00")


def test_first_rule_that_matches_decides() -> None:
    judge = rules(SALES, SALES_ONLY, BI)
    assert judge.decide(asked("S-1-sales", document="sales/q1.qvw"), NOON) == Grant("sales documents")
    assert judge.decide(asked("S-1-bi", document="hr.qvw"), NOON) == Grant("everybody in BI")
    with pytest.raises(Forbidden) as refused:
        judge.decide(asked("S-1-bi", document="sales/q1.qvw"), NOON)
    assert refused.value.rule == "sales documents: nobody else"


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/docs/secret.pdf", "/docs/secret.pdf/"),
        ("/docs/*.pdf", "/docs/secret.pdf/"),
        ("/admin/**", "/admin"),
        ("/Admin/", "/admin"),
    ],
)
def test_slash_at_the_end_gets_no_path_past_a_deny_rule_and_none_under_another(pattern: str, path: str) -> None:
    deny = {"name": "closed", "paths": [pattern], "deny": True}
    with pytest.raises(Forbidden) as refused:
        rules(deny, BI).decide(asked("S-1-bi", path=path), NOON)
    assert refused.value.rule == "closed"
    with pytest.raises(Forbidden) as refused:
        rules({**BI, "paths": [pattern]}).decide(asked("S-1-bi", path=path), NOON)
    assert refused.value.rule != "closed"
    assert rules(deny, BI).decide(asked("S-1-bi", path="/docs/public.txt"), NOON) == Grant("everybody in BI")


def test_rule_for_documents_of_one_host_leaves_those_of_another_alone() -> None:
    closed = rules({"name": "closed", "documents": ["QVS@A|HR/**"], "deny": True}, BI)
    for document in ("qvs@b|hr/pay.qvw", "qvs@a|sales.qvw", "hr.qvw"):
        assert closed.decide(asked("S-1-bi", document=document), NOON) == Grant("everybody in BI")
    with pytest.raises(Forbidden):
        closed.decide(asked("S-1-bi", document="qvs@a|hr/pay.qvw"), NOON)


def test_request_without_a_host_meets_deny_rules_of_every_host_and_no_other() -> None:
    """Otherwise leaving `host` out of the URL would get past the deny rule, or into the host that is allowed."""
    of_one_host = {"documents": ["QVS@A|HR/**"], "groups": ["CORP\\BI Users"]}
    for judge in (rules({"name": "closed", "deny": True, **of_one_host}, BI), rules({"name": "open", **of_one_host})):
        with pytest.raises(Forbidden):
            judge.decide(asked("S-1-bi", document="hr/pay.qvw"), NOON)


def test_names_that_windows_tells_apart_are_two() -> None:
    """Its file systems fold one character to one: Straße.qvw and Strasse.qvw lie in one folder."""
    judge = rules({"name": "streets", "documents": ["Strasse.qvw", "ΟΔΟΣ.qvw", "Ärzte.qvw"], "everybody": True})
    for name in ("STRASSE.qvw", "οδος.qvw", "οδοσ.qvw", "ärzte.QVW"):
        assert judge.decide(asked(document=canonical_name(name)), NOON) == Grant("streets")
    for name in ("Straße.qvw", "STRAẞE.qvw", "Arzte.qvw"):
        with pytest.raises(Forbidden):
            judge.decide(asked(document=canonical_name(name)), NOON)


def test_user_who_matches_no_rule_is_refused_by_no_rule() -> None:
    with pytest.raises(Forbidden) as refused:
        rules(BI).decide(asked("S-1-other"), NOON)
    assert refused.value.rule is None
    with pytest.raises(Forbidden):
        rules().decide(asked("S-1-bi"), NOON)


@pytest.mark.parametrize("document", ["Sales/Q1.QVW", "sales/q1.qvw", "SALES\\q1.qvw"])
def test_documents_are_compared_in_one_spelling(document: str) -> None:
    with pytest.raises(Forbidden):
        rules(SALES_ONLY, BI).decide(asked("S-1-bi", document=document), NOON)


@pytest.mark.parametrize(
    ("pattern", "document", "matches"),
    [
        ("Sales/*.qvw", "sales/2026/q1.qvw", False),
        ("Sales/**", "sales/2026/q1.qvw", True),
        ("**/Plan.qvw", "plan.qvw", True),
        ("**/Plan.qvw", "a/b/plan.qvw", True),
        ("**/Plan.qvw", "myplan.qvw", False),
        ("Sales.qvw", "mysales.qvw", False),
        ("Sales.qvw", "sales.qvw\nx", False),
        ("Sales?qvw", "sales/qvw", False),
        ("Q[1].qvw", "q[1].qvw", True),
    ],
)
def test_patterns_are_anchored_and_keep_to_their_folder(pattern: str, document: str, matches: bool) -> None:
    judge = rules({"name": "r", "documents": [pattern]})
    if matches:
        assert judge.decide(asked(document=document), NOON)
    else:
        with pytest.raises(Forbidden):
            judge.decide(asked(document=document), NOON)


def test_request_without_a_document_matches_no_rule_about_documents() -> None:
    with pytest.raises(Forbidden):
        rules({"name": "all documents", "documents": ["**"]}).decide(asked(), NOON)


def test_users_are_named_in_any_case_or_by_sid() -> None:
    judge = rules({"name": "two", "users": ["corp\\ALICE", "S-1-bob"]})
    assert judge.decide(asked(), NOON)
    assert judge.decide(asked(account="bob"), NOON)
    with pytest.raises(Forbidden):
        judge.decide(asked(account="carol"), NOON)


@pytest.mark.parametrize(
    ("address", "inside"),
    [("10.0.0.9", True), ("::ffff:10.0.0.9", True), ("fd00::7%eth0", True), ("11.0.0.1", False), ("unix", False)],
)
def test_networks_are_compared_as_addresses(address: str, inside: bool) -> None:
    judge = rules({"name": "office", "networks": ["10.0.0.0/8", "fd00::/8"]})
    if inside:
        assert judge.decide(asked(address=address), NOON)
    else:
        with pytest.raises(Forbidden):
            judge.decide(asked(address=address), NOON)


def test_address_that_cannot_be_read_is_in_every_denied_network() -> None:
    with pytest.raises(Forbidden):
        rules({"name": "not from there", "networks": ["192.0.2.0/24"], "deny": True}, BI).decide(
            asked("S-1-bi", address="unix"), NOON
        )


def test_group_that_cannot_be_resolved_fails_closed() -> None:
    gone = {"name": "not these", "groups": ["CORP\\Gone"], "deny": True}
    with pytest.raises(Unavailable) as unavailable:
        rules(gone, BI).decide(asked("S-1-bi"), NOON)
    assert unavailable.value.code == "rules-unresolved"
    assert rules(BI, gone).decide(asked("S-1-bi"), NOON), "an earlier rule decided"


def test_group_that_cannot_be_resolved_matters_only_where_its_rule_could_match() -> None:
    gone = {"name": "not these", "groups": ["CORP\\Gone"], "documents": ["HR.qvw"], "deny": True}
    assert rules(gone, BI).decide(asked("S-1-bi", document="sales.qvw"), NOON)
    either = {"name": "either", "groups": ["CORP\\Gone", "CORP\\BI Users"]}
    assert rules(either).decide(asked("S-1-bi"), NOON)
    assert rules(either).unresolved == ("CORP\\Gone",)


def test_rule_on_trial_is_heard_of_and_refuses_nobody() -> None:
    heard: list[Verdict] = []
    trial = {"name": "trial", "everybody": True, "deny": True, "enforce": False}
    lost = {"name": "lost", "groups": ["CORP\\Gone"], "deny": True, "enforce": False}
    assert rules(trial, lost, BI).decide(asked("S-1-bi"), NOON, trial=heard.append) == Grant("everybody in BI")
    assert [(v.rule, v.outcome) for v in heard] == [("trial", "deny"), ("lost", "unresolved")]


def test_every_rule_explains_itself_also_those_below_the_one_that_decides() -> None:
    verdicts = rules(SALES, SALES_ONLY, BI).explain(asked("S-1-bi", document="sales/q1.qvw"), NOON)
    assert [(v.outcome, v.decides) for v in verdicts] == [("no match", False), ("deny", True), ("allow", False)]
    assert verdicts[0].why == "the user is in none of its groups"
    assert verdicts[2].why == "the user is in CORP\\BI Users"


def test_groups_to_resolve_are_named_once() -> None:
    assert groups_of([Rule.model_validate(BI), Rule.model_validate(BI | {"name": "again"})]) == ["CORP\\BI Users"]


# ---------------------------------------------------------------- hours

LATE = {"name": "no contractors late", "groups": ["CORP\\Contractors"], "hours": "mon-fri 19:00-24:00", "deny": True}


@pytest.mark.parametrize(
    ("hours", "when", "inside"),
    [
        ("mon-fri 19:00-24:00", "2026-03-04 19:00", True),
        ("mon-fri 19:00-24:00", "2026-03-04 18:59:59", False),
        ("mon-fri 19:00-24:00", "2026-03-04 23:59:59", True),
        ("mon-fri 19:00-24:00", "2026-03-07 20:00", False),  # a Saturday
        ("fri 22:00-06:00", "2026-03-07 05:59", True),  # begun on Friday
        ("fri 22:00-06:00", "2026-03-06 05:59", False),
        ("fri 22:00-06:00", "2026-03-07 06:00", False),
        ("sat,sun", "2026-03-08 03:00", True),
        ("sat-mon", "2026-03-09 03:00", True),
        ("sat-mon", "2026-03-10 03:00", False),
        ("08:00-18:00", "2026-03-08 08:00", True),
        (["mon 08:00-09:00", "wed 08:00-09:00"], "2026-03-04 08:30", True),
    ],
)
def test_hours_are_those_of_the_wall_clock(hours: str | Sequence[str], when: str, inside: bool) -> None:
    judge = rules({"name": "open", "hours": hours})
    if inside:
        assert judge.decide(asked(), at(when))
    else:
        with pytest.raises(Forbidden):
            judge.decide(asked(), at(when))


def test_grant_ends_at_the_next_boundary_of_any_hours() -> None:
    judge = rules(LATE, BI)
    assert judge.decide(asked("S-1-bi"), at("2026-03-04 12:00")).until == at("2026-03-04 19:00")
    assert judge.decide(asked("S-1-bi"), at("2026-03-04 19:00")).until == at("2026-03-05 00:00")
    assert judge.decide(asked("S-1-bi"), at("2026-03-06 23:59:59")).until == at("2026-03-07 00:00")
    assert judge.decide(asked("S-1-bi"), at("2026-03-07 00:00")).until == at("2026-03-09 19:00")
    assert judge.decide(asked("S-1-bi"), at("2026-03-04 12:00")).until == at("2026-03-04 19:00"), "the clock set back"
    assert rules(BI).decide(asked("S-1-bi"), NOON).until is None


def test_hours_follow_the_clock_into_summer_and_out_of_it() -> None:
    judge = rules({"name": "closed", "hours": "02:30-04:00", "deny": True}, BI)
    # 29 March 2026: the clock goes from 01:59:59 to 03:00, so what begins at 02:30 begins with the jump.
    jump = at("2026-03-29 03:00")
    assert judge.decide(asked("S-1-bi"), jump - 1).until == jump
    with pytest.raises(Forbidden):
        judge.decide(asked("S-1-bi"), jump)
    # 25 October 2026: the clock shows 02:00-03:00 twice; closed, open again, closed.
    first = at("2026-10-25 02:30")
    assert judge.decide(asked("S-1-bi"), first - 1).until == first
    back = first + 1800
    with pytest.raises(Forbidden):
        judge.decide(asked("S-1-bi"), back - 1)
    assert judge.decide(asked("S-1-bi"), back).until == back + 1800


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"name": "r"}, "has no condition"),
        ({"name": "r", "everybody": True, "groups": ["x"]}, "cannot be combined"),
        ({"name": "r", "users": ["alice"]}, "a user is written"),
        ({"name": "r", "networks": ["10.0.0.1/8"]}, "host bits"),
        ({"name": "r", "hours": "late"}, "not a day"),
        ({"name": "r", "hours": "25:00-26:00"}, "not a time of day"),
        ({"name": "r", "hours": "24:00-06:00"}, "cannot begin at 24:00"),
        ({"name": "r", "hours": ""}, "hours are written like"),
        ({"name": "r", "hours": 7}, "hours are a string"),
        ({"name": "r", "documents": ["Sales**"]}, "alone between slashes"),
        ({"name": "r", "documents": ["/Sales/*.qvw"]}, "without a leading slash"),
        ({"name": "r", "documents": ["Sales\\"]}, "no empty folder"),
        ({"name": "r", "paths": ["admin/**"], "everybody": True, "deny": True}, "begins with a slash"),
        ({"name": "r", "paths": ["*"]}, "begins with a slash"),
        *(({"name": "r", "paths": ["/x"], kind: []}, "at least 1 item") for kind in ("groups", "users", "networks")),
        *(({"name": "r", "groups": ["x"], kind: []}, "at least 1 item") for kind in ("paths", "documents", "hours")),
        ({"name": "r", "everybody": True, "enforce": False}, "on trial"),
        ({"name": "r", "everybody": True, "dny": True}, "Extra inputs"),
    ],
)
def test_rule_that_cannot_be_meant_is_a_fault_of_the_file(table: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Rule.model_validate(table)


def advice(*tables: Mapping[str, object]) -> Sequence[str]:
    return warnings([Rule.model_validate(table) for table in tables])


def test_later_rule_that_widens_a_document_rule_is_warned_about() -> None:
    (sentence,) = advice(SALES, BI)
    assert "'everybody in BI' also lets its users open the documents of 'sales documents'" in sentence
    assert advice(SALES, SALES_ONLY, BI) == []
    assert advice(SALES, {"name": "wide", "documents": ["**"], "groups": ["CORP\\BI Users"]}) != []
    assert advice(SALES, {"name": "other", "documents": ["HR/*"], "groups": ["CORP\\BI Users"]}) == []


def test_deny_rule_that_is_narrow_or_on_trial_does_not_close_the_gap() -> None:
    assert advice(SALES, SALES_ONLY | {"enforce": False}, BI) != []
    assert advice(SALES, SALES_ONLY | {"hours": "sat"}, BI) != []
    assert advice(SALES, SALES_ONLY | {"groups": ["CORP\\Contractors"]}, BI) != []


def test_rules_that_are_never_reached_are_warned_about() -> None:
    (sentence,) = advice({"name": "all", "everybody": True}, BI)
    assert "no rule below it is ever reached" in sentence


def anonymous(document: str, address: str = "10.1.2.3") -> AccessRequest:
    return AccessRequest(None, address, "/", document)


def test_only_a_rule_that_says_anonymous_allows_a_request_without_sign_in() -> None:
    for rule in ({"name": "all", "everybody": True}, BI, {"name": "office", "networks": ["10.0.0.0/8"]}):
        with pytest.raises(Forbidden):
            rules(rule).decide(anonymous("public.qvw"), NOON)
    public = {"name": "public", "anonymous": True, "documents": ["public.qvw"]}
    assert rules(BI, public).decide(anonymous("public.qvw"), NOON) == Grant("public")
    with pytest.raises(Forbidden):
        rules(BI, public).decide(anonymous("hr.qvw"), NOON)


def test_anonymous_rule_lets_no_signed_in_user_in() -> None:
    judge = rules({"name": "public", "anonymous": True})
    with pytest.raises(Forbidden):
        judge.decide(asked("S-1-bi", document="public.qvw"), NOON)
    assert not judge.could_admit(person("S-1-bi"))


def test_rule_that_denies_everybody_denies_requests_without_sign_in_too() -> None:
    public = {"name": "public", "anonymous": True}
    denied = {"name": "not from there", "networks": ["10.0.0.0/8"], "deny": True}
    with pytest.raises(Forbidden) as refused:
        rules(denied, public).decide(anonymous("public.qvw"), NOON)
    assert refused.value.rule == "not from there"
    assert rules(denied, public).decide(anonymous("public.qvw", "192.0.2.1"), NOON) == Grant("public")


@pytest.mark.parametrize("other", [{"everybody": True}, {"groups": ["CORP\\Sales"]}, {"users": ["CORP\\alice"]}])
def test_anonymous_rule_with_users_is_a_fault(other: Mapping[str, object]) -> None:
    with pytest.raises(ValidationError, match="anonymous = true is for requests without a user"):
        Rule.model_validate({"name": "public", "anonymous": True, **other})


def test_anonymous_rule_below_one_for_everybody_is_reached_and_widens_nothing() -> None:
    sales, everybody, public = (
        Rule.model_validate(table)
        for table in (SALES, {"name": "all", "everybody": True, "paths": ["/x"]}, {"name": "public", "anonymous": True})
    )
    assert warnings([sales, public]) == []
    assert warnings([everybody.model_copy(update={"paths": ()}), public]) == []
