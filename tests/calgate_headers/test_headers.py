"""The sign-on headers: the exact name, or a refusal."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import cast
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from calgate.plugin.access import Grant
from calgate.plugin.errors import Forbidden, Unavailable
from calgate.plugin.identity import Identity, Person
from calgate.plugin.services import Services
from calgate.plugin.sign_on import SignOn
from calgate_headers import Config, start
from calgate_headers.headers import Headers
from calgate_headers.template import Encoding, parse

ALICE = Person("S-1-5-21-7", "CORP", "alice", "Alice Archer", frozenset())
GRANT = Grant("everybody in BI")


def sign_on(template: str, encoding: Encoding = "utf-8") -> Headers:
    return Headers({"QVUSER": parse(template)}, encoding)


async def value(template: str, person: Person, encoding: Encoding = "utf-8") -> str:
    return (await sign_on(template, encoding).headers(person, GRANT, None))["QVUSER"]


async def test_every_field_is_filled_from_the_directory() -> None:
    assert await value("{domain}\\{account}", ALICE) == "CORP\\alice"
    assert await value("{name}|{display_name}|{key}", ALICE) == "CORP\\alice|Alice Archer|S-1-5-21-7"
    assert await value("{{{account}}}", ALICE) == "{alice}"
    assert await value("constant", ALICE) == "constant"


async def test_name_outside_ascii_is_written_in_the_encoding() -> None:
    bjoern = dataclasses.replace(ALICE, account="björn")
    assert (await value("{account}", bjoern, "utf-8")).encode("latin-1") == "björn".encode()
    assert (await value("{account}", bjoern, "latin-1")).encode("latin-1") == b"bj\xf6rn"
    assert await value("{domain}\\{account}", bjoern, "percent") == "CORP\\bj%C3%B6rn"


async def test_name_that_cannot_be_encoded_is_refused() -> None:
    with pytest.raises(Forbidden, match="cannot be written in latin-1"):
        await value("{account}", dataclasses.replace(ALICE, account="Ōe"), "latin-1")


@pytest.mark.parametrize("account", ["a\r\nX: y", "a\nb", "a\0", "a\x85b", "a\u2028b", "\x7f", "a\x1b", ""])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "percent"])
async def test_empty_name_and_control_characters_are_refused(account: str, encoding: Encoding) -> None:
    with pytest.raises(Forbidden):
        await value("{account}", dataclasses.replace(ALICE, account=account), encoding)


@pytest.mark.parametrize("account", ["EVIL\\alice", "alice@evil", "a/b"])
@pytest.mark.parametrize("template", ["{account}", "{name}"])
async def test_name_with_a_separator_is_refused(account: str, template: str) -> None:
    with pytest.raises(Forbidden):
        await value(template, dataclasses.replace(ALICE, account=account))


@pytest.mark.parametrize("account", [" alice", "alice "])
async def test_blank_that_http_would_strip_is_refused(account: str) -> None:
    with pytest.raises(Forbidden):
        await value("{account}", dataclasses.replace(ALICE, account=account))
    assert await value("'{account}'", dataclasses.replace(ALICE, account=account)) == f"'{account}'"


@given(st.text(min_size=1, max_size=30), st.sampled_from(["utf-8", "latin-1", "percent"]))
async def test_display_name_is_sent_unchanged_or_refused(name: str, encoding: Encoding) -> None:
    try:
        sent = await value("{display_name}", dataclasses.replace(ALICE, display_name=name), encoding)
    except Forbidden:
        return
    wire = sent.encode("latin-1")
    assert not {0, 10, 13} & set(wire)
    assert (unquote(sent) if encoding == "percent" else wire.decode(encoding)) == name


def test_headers_are_owned_by_the_sign_on_that_sets_them() -> None:
    both = Headers({"QVUSER": parse("{name}"), "X-Display": parse("{display_name}")}, "utf-8")
    assert both.owned == {"qvuser", "x-display"}
    assert isinstance(both, SignOn)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"headers": {"QVUSER": "{user}"}}, r"unknown field \{user\}.*\{account\}"),
        ({"headers": {"QVUSER": "{account!r}"}}, "unknown field"),
        ({"headers": {"QVUSER": "{account:>9}"}}, "unknown field"),
        ({"headers": {"QVUSER": "{person.key}"}}, "unknown field"),
        ({"headers": {"QVUSER": "{account"}}, "write a brace as"),
        ({"headers": {"QVUSER": "a\r\nb"}}, "only ASCII"),
        ({"headers": {"QV USER": "x"}}, "is not a header name"),
        ({"headers": {"Host": "{account}"}}, "a meaning in HTTP"),
        ({"headers": {"Proxy-User": "{account}"}}, "a meaning in HTTP"),
        ({"headers": {}}, "at least 1"),
        ({"headers": {"QVUSER": "x"}, "encoding": "ebcdic"}, "'utf-8', 'latin-1' or 'percent'"),
        ({"headers": {"QVUSER": "x"}, "encodng": "utf-8"}, "Extra inputs"),
    ],
)
def test_unusable_settings_are_faults_of_the_file(settings: dict[str, object], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Config.model_validate(settings)


# ---------------------------------------------------------------- attributes and groups

BJÖRN = dataclasses.replace(
    ALICE,
    account="björn",
    groups=frozenset({"g-sales", "g-hr"}),
    attributes={"mail": "bjorn@corp.example", "employeeid": ""},
)
GRAFANA = {"X-Remote-User": "{account}", "X-Remote-Email": "{attributes.mail}", "X-Remote-Groups": "{groups}"}


class Groups:
    """As much of a directory as group names need."""

    async def look_up(self, identity: Identity) -> Person | None:
        return None

    async def resolve(self, groups: Sequence[str]) -> Mapping[str, str | None]:
        return {name: {"Sales": "g-sales", "HR": "g-hr", "Böards": "g-boards"}.get(name) for name in groups}


async def remote(person: Person, **settings: object) -> Mapping[str, str]:
    """Returns the headers that Grafana-like servers read."""
    config = Config.model_validate({"headers": GRAFANA, "groups": ("Sales", "Böards", "HR"), **settings})
    services = cast(Services, SimpleNamespace(directory=Groups()))
    async with start(config, services) as sign_on:
        assert sign_on.owned == {"x-remote-user", "x-remote-email", "x-remote-groups"}
        return await sign_on.headers(person, GRANT, None)


async def test_attributes_and_chosen_groups_are_named() -> None:
    assert await remote(BJÖRN, encoding="latin-1") == {
        "X-Remote-User": "björn",
        "X-Remote-Email": "bjorn@corp.example",
        "X-Remote-Groups": "Sales,HR",
    }
    assert (await remote(BJÖRN, separator="; "))["X-Remote-Groups"] == "Sales; HR"


async def test_user_without_a_value_has_no_such_header() -> None:
    """Absent is not empty: an empty e-mail could be everybody's."""
    nobody = dataclasses.replace(BJÖRN, groups=frozenset(), attributes={"mail": ""})
    assert list(await remote(nobody)) == ["X-Remote-User"]


async def test_attribute_that_the_directory_was_not_told_to_read_is_refused() -> None:
    with pytest.raises(Forbidden, match="nothing is known of the attribute mail"):
        await remote(dataclasses.replace(BJÖRN, attributes={}))


async def test_value_beyond_the_limit_is_refused_and_never_cut() -> None:
    long = dataclasses.replace(BJÖRN, attributes={"mail": "x" * 65})
    with pytest.raises(Forbidden, match="X-Remote-Email of CORP"):
        await remote(long, limit=64)


@pytest.mark.parametrize("mail", ["a\r\nX-Remote-User: boss", "a\0b", " a"])
async def test_attribute_that_would_change_the_request_is_refused(mail: str) -> None:
    with pytest.raises(Forbidden):
        await remote(dataclasses.replace(BJÖRN, attributes={"mail": mail}))


async def test_group_that_no_directory_has_makes_the_sign_on_unavailable() -> None:
    with pytest.raises(Unavailable, match="no directory has the group Nowhere"):
        await remote(BJÖRN, groups=("Sales", "Nowhere"))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"groups": ()}, "belong together"),
        ({"groups": ("Sales, North",)}, "contains the separator"),
        ({"separator": "\n"}, "pattern"),
        ({"headers": {"X-Remote-Email": "{attributes.}"}}, "unknown field"),
        ({"headers": {"X-Remote-Email": "{groups!r}"}}, "unknown field"),
    ],
    ids=["no-groups", "separator", "line-break", "attribute", "conversion"],
)
def test_groups_that_could_not_be_told_apart_are_a_fault(settings: dict[str, object], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        Config.model_validate({"headers": GRAFANA, "groups": ("Sales",), **settings})
