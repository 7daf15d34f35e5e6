"""Names in a password form, and the verifier of each."""

import pytest

from calgate.plugin import AuthenticationFailed
from calgate_negotiate.password_names import PasswordName, Realms

REALMS = Realms({"CORP": "CORP.EXAMPLE", "BRANCH": "BRANCH.CORP.EXAMPLE"}, "OTHER.EXAMPLE")


@pytest.mark.parametrize(
    "text",
    ["alice", "ALICE", " alice ", "CORP\\Alice", "corp.example\\alice", "alice@corp.example", "alice@mail.example"],
)
def test_every_spelling_of_a_name_is_one_account_for_the_guard(text: str) -> None:
    assert REALMS.canonical(PasswordName.read(text)) == "corp\\alice"


@pytest.mark.parametrize(
    ("text", "realm"),
    [
        ("alice", "CORP.EXAMPLE"),
        ("branch\\alice", "BRANCH.CORP.EXAMPLE"),
        ("alice@branch.corp.example", "BRANCH.CORP.EXAMPLE"),
        ("alice@mail.example", "CORP.EXAMPLE"),
        ("EVIL\\alice", None),
    ],
)
def test_realm_follows_from_the_domain_and_a_strange_domain_has_none(text: str, realm: str | None) -> None:
    assert REALMS.realm_of(PasswordName.read(text)) == realm


def test_keytabs_realm_counts_where_no_setting_names_one() -> None:
    realms = Realms({}, "CORP.EXAMPLE")
    assert realms.realm_of(PasswordName.read("corp\\alice")) == "CORP.EXAMPLE"
    assert realms.canonical(PasswordName.read("alice")) == "corp\\alice"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a@b@c",
        "A\\B\\c",
        "EVIL\\alice@corp",
        "S-1-5-21-1-2-3-500",
        "CN=x,DC=corp",
        "al\u202eice",
        "\\alice",
        "x" * 300,
    ],
)
def test_name_with_two_readings_is_refused(text: str) -> None:
    with pytest.raises(AuthenticationFailed):
        PasswordName.read(text)
