"""From claims to a user of the directory."""

from typing import Any

import pytest

from calgate.plugin import AccountRefused
from calgate_oidc.person import identity_of
from calgate_oidc.settings import Config

SID = "S-1-5-21-1004336348-1177238915-682003330-1104"
CLIENT = {"id": "c", "secret": "s"}
BY_SID = Config.model_validate({"issuer": "https://idp.example/t", "client": CLIENT, "person": {"sid": "onprem_sid"}})
BY_ACCOUNT = Config.model_validate(
    {"issuer": "https://idp.example/t", "client": CLIENT, "person": {"account": "sam", "domain": "CORP"}}
)


def test_sid_names_the_user_and_nothing_else_does() -> None:
    identity = identity_of({"onprem_sid": SID, "preferred_username": "bob@corp.example", "groups": ["x"]}, BY_SID)
    assert (identity.sid, identity.mechanism, identity.groups) == (SID, "oidc", frozenset())
    assert (identity.domain, identity.account) == ("idp.example", SID)


@pytest.mark.parametrize("account", ["alice", "CORP\\alice", "corp\\alice", "björn", "svc$"])
def test_account_belongs_to_the_configured_domain(account: str) -> None:
    identity = identity_of({"sub": "x", "sam": account}, BY_ACCOUNT)
    assert (identity.name, identity.sid) == (f"CORP\\{account.rpartition(chr(92))[2]}", None)


@pytest.mark.parametrize(
    "value",
    ["S-1-5-32-544", "S-1-1-0", f"{SID}-1", "S-1-5-21-1-2-3", f" {SID}", f"{SID}\n", "", None, 7, [SID], "alice"],
)
def test_claim_without_an_account_sid_is_refused(value: Any) -> None:
    with pytest.raises(AccountRefused) as caught:
        identity_of({"sub": "x", "onprem_sid": value}, BY_SID)
    assert caught.value.code == "account-unknown"


@pytest.mark.parametrize(
    "value",
    ["EVIL\\alice", "alice@corp.example", "", " alice", "alice\n", "a/b", "*", None, 7, {"a": 1}, "CORP\\", "x" * 300],
)
def test_claim_that_is_not_an_account_of_the_domain_is_refused(value: Any) -> None:
    with pytest.raises(AccountRefused) as caught:
        identity_of({"sub": "x", "sam": value}, BY_ACCOUNT)
    assert caught.value.code == "account-unknown"


def test_missing_claim_is_explained_in_the_log() -> None:
    with pytest.raises(AccountRefused, match="not synchronized from the directory, or the claim is not requested"):
        identity_of({"sub": "x"}, BY_SID)
