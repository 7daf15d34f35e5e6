"""People of a users file as a directory, and as a prover of NTLM."""

import hmac
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from calgate.plugin.errors import AccountRefused, AuthenticationFailed
from calgate.plugin.identity import Directory, Identity, NtlmVerifier
from calgate_users.directory import UsersDirectory
from calgate_users.ntlmv2 import nt_hash
from support.users_file import FILE, attempt, write


def test_an_nt_hash_is_the_published_one() -> None:
    assert nt_hash("Password").hex() == "a4f49c406510bdcab6824ee7c30fd852"  # MS-NLMP 4.2.2.1.2


async def test_one_object_fills_both_roles(tmp_path: Path) -> None:
    users = UsersDirectory(write(tmp_path))
    assert isinstance(users, Directory)
    assert isinstance(users, NtlmVerifier)
    assert users.domain == "DEMO"


async def test_a_person_is_found_in_any_case_and_shown_as_written(tmp_path: Path) -> None:
    person = await UsersDirectory(write(tmp_path)).look_up(Identity("demo", "ALICE", "ntlm"))
    assert person is not None
    assert (person.name, person.key, person.display_name) == ("DEMO\\alice", "demo\\alice", "Alice Archer")
    assert person.groups == {"demo\\bi users", "demo\\sales"}


async def test_nobody_of_another_domain_is_found(tmp_path: Path) -> None:
    assert await UsersDirectory(write(tmp_path)).look_up(Identity("EVIL", "alice", "ntlm")) is None


async def test_groups_resolve_with_and_without_their_domain(tmp_path: Path) -> None:
    users = UsersDirectory(write(tmp_path))
    assert await users.resolve(["Bi Users", "DEMO\\SALES", "auditors", "till", "BRANCH\\till", "S-1-5-32-544"]) == {
        "Bi Users": "demo\\bi users",
        "DEMO\\SALES": "demo\\sales",
        "auditors": "demo\\auditors",
        "till": None,
        "BRANCH\\till": "branch\\till",
        "S-1-5-32-544": None,
    }


async def test_the_right_password_is_proven(tmp_path: Path) -> None:
    proof = await UsersDirectory(write(tmp_path)).verify(attempt("Alice", "demo", "Demo"))
    assert proof.identity == Identity("DEMO", "alice", "ntlm")
    assert len(proof.session_key) == 16


@pytest.mark.parametrize(
    ("account", "password", "domain"),
    [("alice", "Demo", "DEMO"), ("nobody", "demo", "DEMO"), ("alice", "demo", "EVIL"), ("gone", "wrong", "DEMO")],
)
async def test_anything_else_is_unproven(tmp_path: Path, account: str, password: str, domain: str) -> None:
    with pytest.raises(AuthenticationFailed):
        await UsersDirectory(write(tmp_path)).verify(attempt(account, password, domain))


async def test_a_disabled_account_is_refused_only_to_who_knows_its_password(tmp_path: Path) -> None:
    users = UsersDirectory(write(tmp_path))
    with pytest.raises(AccountRefused):
        await users.verify(attempt("gone", "demo"))
    with pytest.raises(AccountRefused):
        await users.look_up(Identity("DEMO", "gone", "kerberos"))


async def test_a_client_that_names_no_domain_means_the_first(tmp_path: Path) -> None:
    proof = await UsersDirectory(write(tmp_path)).verify(attempt("alice", "demo", ""))
    assert proof.identity.domain == "DEMO"


async def test_sharp_s_stays_when_the_account_is_upper_cased(tmp_path: Path) -> None:
    """Windows upper-cases one character for one: what it makes of Weiß is WEIß, not WEISS."""
    users = UsersDirectory(write(tmp_path, FILE.replace('"alice"', '"weiß"')))
    asked = attempt("weiß", "demo")
    blob = asked.nt_response[16:]
    key = hmac.digest(nt_hash("demo"), "WEIßDEMO".encode("utf-16-le"), "md5")
    answer = replace(asked, nt_response=hmac.digest(key, asked.challenge + blob, "md5") + blob)
    assert (await users.verify(answer)).identity.account == "weiß"


async def test_a_changed_file_counts_from_the_next_sign_in(tmp_path: Path) -> None:
    file = write(tmp_path)
    users = UsersDirectory(file)
    write(tmp_path, FILE.replace(nt_hash("demo").hex(), nt_hash("changed").hex()))
    assert await users.verify(attempt("alice", "changed"))


async def test_a_broken_new_version_is_logged_once_and_the_old_one_kept(
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


async def test_a_file_that_vanishes_is_logged_and_the_old_one_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path)
    users = UsersDirectory(file)
    file.unlink()
    assert await users.verify(attempt("alice", "demo"))
    assert "No such file" in caplog.text


def test_a_missing_file_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"users.file .*nowhere.toml cannot be read: No such file.*calgate users add"):
        UsersDirectory(tmp_path / "nowhere.toml")
