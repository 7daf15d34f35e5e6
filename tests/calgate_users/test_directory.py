"""A users file as a directory, and as an NTLM verifier."""

import hmac
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from calgate.plugin.errors import AccountRefused, AuthenticationFailed
from calgate.plugin.identity import Directory, Identity, Match, NtlmVerifier, PeopleSearch
from calgate_users.directory import UsersDirectory
from calgate_users.ntlmv2 import nt_hash
from support.users_file import FILE, attempt, write


def test_nt_hash_matches_the_published_example() -> None:
    assert nt_hash("Password").hex() == "a4f49c406510bdcab6824ee7c30fd852"  # MS-NLMP 4.2.2.1.2


async def test_directory_fills_both_roles(tmp_path: Path) -> None:
    users = UsersDirectory(write(tmp_path))
    assert isinstance(users, Directory)
    assert isinstance(users, NtlmVerifier)
    assert users.domain == "DEMO"


async def test_person_is_found_in_any_case_and_shown_as_written(tmp_path: Path) -> None:
    person = await UsersDirectory(write(tmp_path)).look_up(Identity("demo", "ALICE", "ntlm"))
    assert person is not None
    assert (person.name, person.key, person.display_name) == ("DEMO\\alice", "demo\\alice", "Alice Archer")
    assert person.groups == {"demo\\bi users", "demo\\sales"}


async def test_person_of_another_domain_is_not_found(tmp_path: Path) -> None:
    assert await UsersDirectory(write(tmp_path)).look_up(Identity("EVIL", "alice", "ntlm")) is None


async def test_groups_are_resolved_with_and_without_their_domain(tmp_path: Path) -> None:
    users = UsersDirectory(write(tmp_path))
    assert await users.resolve(["Bi Users", "DEMO\\SALES", "auditors", "till", "BRANCH\\till", "S-1-5-32-544"]) == {
        "Bi Users": "demo\\bi users",
        "DEMO\\SALES": "demo\\sales",
        "auditors": "demo\\auditors",
        "till": None,
        "BRANCH\\till": "branch\\till",
        "S-1-5-32-544": None,
    }


async def test_right_password_is_verified(tmp_path: Path) -> None:
    proof = await UsersDirectory(write(tmp_path)).verify(attempt("Alice", "demo", "Demo"))
    assert proof.identity == Identity("DEMO", "alice", "ntlm")
    assert len(proof.session_key) == 16


@pytest.mark.parametrize(
    ("account", "password", "domain"),
    [("alice", "Demo", "DEMO"), ("nobody", "demo", "DEMO"), ("alice", "demo", "EVIL"), ("gone", "wrong", "DEMO")],
)
async def test_wrong_password_or_unknown_user_fails(tmp_path: Path, account: str, password: str, domain: str) -> None:
    with pytest.raises(AuthenticationFailed):
        await UsersDirectory(write(tmp_path)).verify(attempt(account, password, domain))


async def test_disabled_account_is_revealed_only_with_its_password(tmp_path: Path) -> None:
    users = UsersDirectory(write(tmp_path))
    with pytest.raises(AccountRefused):
        await users.verify(attempt("gone", "demo"))
    with pytest.raises(AccountRefused):
        await users.look_up(Identity("DEMO", "gone", "kerberos"))


async def test_attempt_without_a_domain_is_for_the_first(tmp_path: Path) -> None:
    proof = await UsersDirectory(write(tmp_path)).verify(attempt("alice", "demo", ""))
    assert proof.identity.domain == "DEMO"


async def test_sharp_s_is_kept_in_the_upper_case_account(tmp_path: Path) -> None:
    """Windows converts one character to one: Weiß becomes WEIß, not WEISS."""
    users = UsersDirectory(write(tmp_path, FILE.replace('"alice"', '"weiß"')))
    original = attempt("weiß", "demo")
    blob = original.nt_response[16:]
    key = hmac.digest(nt_hash("demo"), "WEIßDEMO".encode("utf-16-le"), "md5")
    response = replace(original, nt_response=hmac.digest(key, original.challenge + blob, "md5") + blob)
    assert (await users.verify(response)).identity.account == "weiß"


async def test_changed_file_takes_effect_with_the_next_sign_in(tmp_path: Path) -> None:
    file = write(tmp_path)
    users = UsersDirectory(file)
    write(tmp_path, FILE.replace(nt_hash("demo").hex(), nt_hash("changed").hex()))
    assert await users.verify(attempt("alice", "changed"))


async def test_broken_new_version_is_logged_once_and_the_old_one_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    users = UsersDirectory(write(tmp_path))
    write(tmp_path, "domains = [")
    with caplog.at_level(logging.ERROR):
        assert await users.verify(attempt("alice", "demo"))
        assert await users.verify(attempt("alice", "demo"))
    assert len(caplog.records) == 1
    assert "not TOML" in caplog.text
    write(tmp_path, FILE.replace('"Alice Archer"', '"Alice Cooper"'))
    person = await users.look_up(Identity("DEMO", "alice", "ntlm"))
    assert person is not None
    assert person.display_name == "Alice Cooper"


async def test_deleted_file_is_logged_and_its_content_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write(tmp_path)
    users = UsersDirectory(file)
    file.unlink()
    assert await users.verify(attempt("alice", "demo"))
    assert "No such file" in caplog.text


def test_start_fails_with_a_missing_file_and_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"users.file: .*nowhere.toml cannot be read: No such file.*calgate users add"):
        UsersDirectory(tmp_path / "nowhere.toml")


async def test_members_of_a_group_include_disabled_users(tmp_path: Path) -> None:
    directory = UsersDirectory(write(tmp_path))
    assert await directory.members_of("bi users") == ["demo\\alice", "demo\\gone"]
    assert await directory.members_of("DEMO\\Auditors") == []
    assert await directory.members_of("Strangers") is None


@pytest.mark.parametrize("text", ["al", "ALICE", "demo\\al", "alice@de", "arch", "Alice Ar"])
async def test_person_is_found_by_the_beginning_of_any_name(tmp_path: Path, text: str) -> None:
    users = UsersDirectory(write(tmp_path))
    assert isinstance(users, PeopleSearch)
    found = await users.find_people(text, 10)
    assert (found.people, found.is_cut) == ([Match("demo\\alice", "DEMO\\alice", "Alice Archer")], False)


async def test_search_marks_disabled_users_and_says_when_it_is_cut(tmp_path: Path) -> None:
    users = UsersDirectory(write(tmp_path))
    assert [one.refusal for one in (await users.find_people("gone", 10)).people] == ["account-disabled"]
    found = await users.find_people("", 2)
    assert ([one.name for one in found.people], found.is_cut) == (["DEMO\\alice", "BRANCH\\Bob"], True)
    for text in ("*", "a*", "ice", "(", "other\\al"):
        assert (await users.find_people(text, 10)).people == [], text
