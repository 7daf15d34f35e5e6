"""`calgate users`: add, remove, list."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import calgate_users
from calgate.plugin.checks import CheckContext
from calgate.plugin.services import Services
from calgate_users import edit, users_file
from calgate_users.commands import commands
from calgate_users.directory import UsersDirectory
from calgate_users.ntlmv2 import nt_hash
from calgate_users.settings import Config
from support.users_file import FILE, write


class CommandContext:
    """Reads one section and has nothing to open."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def document_of(self, method: str, target: str) -> str | None:
        return None

    def read(self, file: Path) -> Config:
        return Config(file=self._file)

    def open(self, file: Path) -> AbstractAsyncContextManager[tuple[Any, Services]]:
        raise NotImplementedError


def run(file: Path, *words: str, typed: str = "") -> Result:
    return CliRunner().invoke(commands(CommandContext(file)), [*words, "-c", "calgate.toml"], input=typed)


def test_add_creates_the_file_readable_by_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "new.toml"
    result = run(file, "add", "alice", "--domain", "DEMO", "--group", "BI Users", "--password-stdin", typed="demo\n")
    assert result.exit_code == 0, result.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    alice = users_file.read(file).users["demo\\alice"]
    assert alice.nt_hash == nt_hash("demo")
    assert alice.groups == {"demo\\bi users"}


def test_add_to_a_new_file_requires_a_domain(tmp_path: Path) -> None:
    result = run(tmp_path / "new.toml", "add", "alice", "--password-stdin", typed="demo\n")
    assert result.exit_code == 1
    assert "--domain" in result.output
    assert not (tmp_path / "new.toml").exists()


def test_add_prompts_for_the_password_twice_without_showing_it(tmp_path: Path) -> None:
    file = write(tmp_path)
    result = run(file, "add", "erin", typed="s3cret\ns3cret\n")
    assert result.exit_code == 0, result.output
    assert "s3cret" not in result.output
    assert users_file.read(file).users["demo\\erin"].nt_hash == nt_hash("s3cret")


def test_empty_password_is_not_accepted(tmp_path: Path) -> None:
    file = write(tmp_path)
    assert run(file, "add", "erin", "--password-stdin", typed="\n").exit_code == 1
    assert "demo\\erin" not in users_file.read(file).users


def test_add_replaces_the_user_of_that_name_and_keeps_comments(tmp_path: Path) -> None:
    file = write(tmp_path)
    result = run(file, "add", "ALICE", "--password-stdin", typed="changed\n")
    assert "replaced" in result.output
    people = users_file.read(file)
    assert people.users["demo\\alice"].nt_hash == nt_hash("changed")
    assert len(people.users) == 3
    assert "# who may enter the demonstration" in file.read_text()


def test_add_puts_a_user_into_a_second_domain(tmp_path: Path) -> None:
    file = write(tmp_path)
    assert run(file, "add", "dora", "--domain", "branch", "--password-stdin", typed="x\n").exit_code == 0
    assert users_file.read(file).users["branch\\dora"].domain == "BRANCH"


def test_change_that_would_break_the_file_leaves_it_unchanged(tmp_path: Path) -> None:
    file = write(tmp_path)
    before = file.read_bytes()
    result = run(file, "add", "a/b", "--password-stdin", typed="x\n")
    assert result.exit_code == 1
    assert "name: must be a name without" in result.output
    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["users.toml"]


def test_remove_keeps_groups_that_lose_their_last_member(tmp_path: Path) -> None:
    file = write(tmp_path)
    assert run(file, "remove", "alice").exit_code == 0
    people = users_file.read(file)
    assert set(people.users) == {"branch\\bob", "demo\\gone"}
    assert "demo\\sales" in people.groups


def test_remove_of_an_unknown_user_fails(tmp_path: Path) -> None:
    result = run(write(tmp_path), "remove", "nobody")
    assert result.exit_code == 1
    assert "no user nobody" in result.output


def test_list_shows_no_hash(tmp_path: Path) -> None:
    file = write(tmp_path)
    result = run(file, "list", "--json")
    rows = json.loads(result.output)
    assert rows[1] == {
        "domain": "DEMO",
        "name": "alice",
        "display_name": "Alice Archer",
        "groups": ["BI Users", "Sales"],
        "disabled": False,
    }
    table = run(file, "list").output
    assert "DEMO\\alice" in table
    assert nt_hash("demo").hex() not in result.output + table


def test_list_of_a_faulty_file_fails_with_its_faults(tmp_path: Path) -> None:
    result = run(write(tmp_path, "domains = 1"), "list")
    assert result.exit_code == 1
    assert "domains: must be a list" in result.output


def test_add_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    file = write(tmp_path)
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    assert run(link, "add", "erin", "--password-stdin", typed="x\n").exit_code == 0
    assert link.is_symlink()
    assert "demo\\erin" in users_file.read(file).users


def test_concurrent_changes_are_all_kept(tmp_path: Path) -> None:
    file = write(tmp_path)

    def add(number: int) -> None:
        edit.add(file, f"u{number}", domain=None, display_name=None, groups=(), nt_hash=bytes(16))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(16)))
    assert len(users_file.read(file).users) == 3 + 16


@pytest.mark.parametrize("words", [("list",), ("remove", "alice")])
def test_missing_file_ends_the_command_with_a_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    result = run(tmp_path / "nowhere.toml", *words)
    assert result.exit_code == 1
    assert "nowhere.toml" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("text", "level", "expected"),
    [
        (None, "fail", "cannot be read"),
        ("domains = 1", "fail", "domains: must be a list"),
        (FILE, "ok", "3 users, 4 groups"),
    ],
)
async def test_check_reports_the_faults_of_the_file_or_its_size(
    tmp_path: Path, text: str | None, level: str, expected: str
) -> None:
    file = write(tmp_path, text) if text is not None else tmp_path / "nowhere.toml"
    context = CheckContext(services=None, hosts=())  # type: ignore[arg-type]
    found = [finding async for finding in calgate_users.check(Config(file=file), context)]
    assert found[0].level == level
    assert any(expected in finding.what for finding in found)


def test_list_prints_markup_characters_as_they_are(tmp_path: Path) -> None:
    file = write(tmp_path)
    run(file, "add", "erin", "--display-name", "Erin [/HR]", "--password-stdin", typed="demo\n")
    result = run(file, "list")
    assert result.exit_code == 0
    assert "Erin [/HR]" in result.output


async def test_check_tells_who_may_read_an_unreadable_file_and_does_not_recreate_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(file: Path) -> users_file.UsersFile:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(users_file, "read", unreadable)
    context = CheckContext(services=None, hosts=())  # type: ignore[arg-type]
    (finding,) = [one async for one in calgate_users.check(Config(file=write(tmp_path)), context)]
    assert "chown" in finding.remedy
    assert "users add" not in finding.remedy
    with pytest.raises(ValueError, match=r"Permission denied.*chown") as caught:
        UsersDirectory(tmp_path / "users.toml")
    assert "users add" not in str(caught.value)


def test_list_is_not_folded_in_a_pipe(tmp_path: Path) -> None:
    file = write(tmp_path)
    groups = [f"A rather long name of a group {number}" for number in range(9)]
    run(
        file, "add", "erin", *(word for group in groups for word in ("--group", group)), "--password-stdin", typed="x\n"
    )
    line = next(line for line in run(file, "list").output.splitlines() if "erin" in line)
    assert ", ".join(groups) in line
