"""The users file: its format, and the report of its faults."""

from pathlib import Path

import pytest

from calgate_users import users_file
from calgate_users.users_file import UsersFileError
from support.users_file import FILE, write

HASH = "ec7a56ee1fbcd9b0ccd2d4ec32dd3a1f"


def test_users_groups_and_domains_are_read(tmp_path: Path) -> None:
    people = users_file.read(write(tmp_path))
    alice = people.find("demo", "ALICE")
    assert alice is not None
    assert (alice.key, alice.display_name) == ("demo\\alice", "Alice Archer")
    assert alice.groups == {"demo\\bi users", "demo\\sales"}
    assert people.groups == {"demo\\auditors", "demo\\bi users", "demo\\sales", "branch\\till"}
    assert people.domains == ("DEMO", "BRANCH")


@pytest.mark.parametrize(
    ("domain", "account", "key"),
    [
        ("", "alice", "demo\\alice"),
        ("", "alice@demo", "demo\\alice"),
        ("", "bob@BRANCH", "branch\\bob"),
        ("BRANCH", "alice", None),
        ("EVIL", "alice", None),
        ("", "alice@evil", None),
        ("DEMO", "alice@demo", None),
    ],
)
def test_user_is_found_by_domain_and_account_only(tmp_path: Path, domain: str, account: str, key: str | None) -> None:
    found = users_file.read(write(tmp_path)).find(domain, account)
    assert (found.key if found else None) == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_file_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    file = write(tmp_path)
    file.chmod(mode)
    with pytest.raises(UsersFileError, match=f"chmod 600 {file}"):
        users_file.read(file)


def test_all_faults_are_reported_at_once_with_their_entries() -> None:
    text = f"""
domains = ["DEMO"]
colour = "red"
[[users]]
name = "a\\\\b"
nt_hash = "{HASH}"
[[users]]
name = "carol"
nt_hash = "short"
groups = "BI"
[[users]]
name = "dave"
domain = "OTHER"
nt_hash = "{HASH}"
[[users]]
name = "erin"
nt_hash = "{HASH}"
[[users]]
name = "Erin"
nt_hash = "{HASH}"
password = "x"
"""
    with pytest.raises(UsersFileError) as caught:
        users_file.parse(text, "u.toml")
    lines = str(caught.value).splitlines()
    assert all(line.startswith("u.toml: ") for line in lines)
    for expected in (
        "colour: unknown key; known are domains, groups, users",
        "users entry 1: name: must be a name without",
        "users entry 2 (carol): groups: must be a list",
        "users entry 2 (carol): nt_hash: must be 32 hexadecimal digits",
        "users entry 3 (dave): domain: 'OTHER' is not in domains (DEMO)",
        "users entry 5 (Erin): the user is listed twice",
        "users entry 5 (Erin): password: unknown",
    ):
        assert any(expected in line for line in lines), expected
    assert len(lines) == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("domains = [", "not TOML"),
        ("", "domains: missing or malformed"),
        ("domains = []", "domains: missing or malformed"),
        ('domains = "DEMO"', "domains: must be a list"),
        ('domains = ["DEMO"]\nusers = [1]', "users entry 1: not a table"),
        ('domains = ["DEMO"]\ngroups = ["a\\\\b\\\\c"]', "is not a group's name"),
    ],
)
def test_malformed_file_has_one_line_for_each_fault(text: str, expected: str) -> None:
    with pytest.raises(UsersFileError, match=r"u\.toml: ") as caught:
        users_file.parse(text, "u.toml")
    assert expected in str(caught.value)


def test_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path)
    file.write_bytes(FILE.encode() + b"# \xff")
    with pytest.raises(UsersFileError, match="not UTF-8"):
        users_file.read(file)


def test_hash_is_not_in_a_printed_user(tmp_path: Path) -> None:
    people = users_file.read(write(tmp_path))
    assert people.users["demo\\alice"].nt_hash.hex() not in repr(people)
    assert repr(people.users["demo\\alice"].nt_hash) not in repr(people)
