"""Whose sessions `calgate sessions end` means, after names have changed."""

import time
from collections.abc import Mapping, Sequence

import pytest

from calgate.authentication.session import Session
from calgate.commands.sessions import _is_of, _key_of
from calgate.plugin.errors import AccountRefused, Refusal, Unavailable
from calgate.plugin.identity import Identity, Person


def session_of(name: str, key: str) -> Session:
    domain, _, account = name.partition("\\")
    identity = Identity(domain, account, "kerberos")
    return Session(
        key="k", person_key=key, name=name, identity=identity, address="192.0.2.1", is_browser=True, created=time.time()
    )


@pytest.mark.parametrize(
    ("user", "key_now", "is_meant"),
    [
        ("CORP\\before", None, True),  # the name at the sign-in
        ("CORP\\after", "S-1-5-21-1", True),  # the name now
        ("before@corp.example", None, True),
        ("S-1-5-21-1", "S-1-5-21-1", True),
        ("S-1-5-21-1", None, True),  # the directory has deleted the account
        (" s-1-5-21-1 ", None, True),
        ("CORP/before", None, True),
        (" corp \\ BEFORE ", None, True),
        ("corp.example\\before", None, True),
        ("CORP\\after", None, False),
        ("CORP\\somebody", "S-1-5-21-9", False),
        ("OTHER\\before", None, False),
    ],
)
def test_session_is_found_by_every_name_that_its_user_has_or_had(
    user: str, key_now: str | None, is_meant: bool
) -> None:
    assert _is_of(session_of("CORP\\before", "S-1-5-21-1"), user, key_now) is is_meant


def test_session_of_a_domain_with_a_dot_is_found_by_the_whole_name() -> None:
    session = session_of("corp.example\\before", "corp.example\\before")
    assert _is_of(session, "CORP.example\\before", None)
    assert not _is_of(session, "corp.example.net\\before", None)


@pytest.mark.parametrize("refusal", [AccountRefused("disabled"), Unavailable("no server")])
async def test_name_still_finds_sessions_if_the_directory_refuses_the_user(refusal: Refusal) -> None:
    class Refusing:
        async def look_up(self, identity: Identity) -> Person | None:
            raise refusal

        async def resolve(self, groups: Sequence[str]) -> Mapping[str, str | None]:
            return {}

    assert await _key_of(Refusing(), "CORP\\before") is None
