"""The output of `calgate cals …`: times in the site's zone, names as requests have them, whole lines, safe CSV."""

import asyncio
import contextlib
import csv
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from calgate.plugin import BadRequest, Claimant, NoCal, Person, Services
from calgate_cal import Config, commands, lua
from calgate_cal.allocator import CalAllocator
from support.redis_servers import Server

from .test_commands import LICENSE, CommandContext

BERLIN = ZoneInfo("Europe/Berlin")


class Site:
    """A site in Berlin whose documents have Windows' names, and whose rules let only alice in."""

    zone: tzinfo = BERLIN

    def document(self, license: str, name: str) -> str:
        assert license == "demo"
        if len(name) > 259:
            raise BadRequest("the document's name is longer than 259 characters")
        return name.replace("\\", "/").lower()

    async def could_admit(self, person: Person) -> bool:
        return person.account == "alice"


class SiteContext(CommandContext):
    """Commands of that site."""

    @contextlib.asynccontextmanager
    async def open(self, file: Path) -> AsyncIterator[tuple[Config, Services]]:
        async with super().open(file) as (config, services):
            yield config, replace(services, site=Site())


class Bench:
    """Runs commands, and claims as a gateway does."""

    def __init__(self, context: CommandContext) -> None:
        self._context = context

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(commands(self._context), [*words, "-c", "calgate.toml"])

    def claim(self, user: str, document: str = "sales.qvw", reference: str = "R", name: str | None = None) -> str:
        """Claims once: the kind of CAL, or the code of the denial."""
        return asyncio.run(self._claim(Claimant(user, name or f"CORP\\{user}", "pc"), document, reference))

    async def _claim(self, claimant: Claimant, document: str, reference: str) -> str:
        async with self._context.open(Path()) as (config, services):
            allocator = CalAllocator(config, services.store, "gateway")
            try:
                lease = await allocator.claim("demo", claimant, document, reference=reference)
            except NoCal as refusal:
                return refusal.code
            await allocator.settle(lease, served=True)
            return lease.kind


@pytest.fixture
def site(server: Server, tmp_path: Path) -> Bench:
    return Bench(SiteContext(server.url, tmp_path, demo=LICENSE))


def test_times_are_the_sites_with_their_zone(site: Bench) -> None:
    site.claim("alice")
    assert re.search(r"\d\d:\d\d CES?T", site.run("list").output)
    assert re.search(r"comes back at .* CES?T\n", site.run("end", "alice").output)


def test_past_times_have_the_offset_of_their_own_day(site: Bench, server: Server) -> None:
    site.run("list")
    key = lua.keys("calgate", "demo")[lua.KEY_NAMES.index("audit")]
    july, january = 1_783_584_000_000, 1_768_039_200_000  # 9 July 2026, 08:00, and 10 January 2026, 10:00 UTC
    with Redis.from_url(server.url, protocol=2) as redis:
        redis.delete(key)
        for at in (january, july):
            redis.xadd(key, {"what": "denied", "user": "dan", "name": "CORP\\dan", "code": "no-cal"}, id=f"{at}-0")
    shown = site.run("log", "--since", "5000d").output
    assert "2026-01-10 11:00 CET" in shown
    assert "2026-07-09 10:00 CEST" in shown
    assert "2026-07-09 10:00 CEST" in site.run("explain", "dan", "--at", "2026-07-09 10:00").output


@pytest.mark.parametrize("name", ["Sales\\Plan.QVW", "sales/plan.qvw", "SALES/PLAN.QVW"])
def test_document_is_read_as_requests_are_by_every_command(site: Bench, name: str) -> None:
    assert site.run("allocate", name, "2").output == "sales/plan.qvw has 2 Document CALs allocated\n"
    assert site.run("dynamic", "document", "on", "--document", name).exit_code == 0
    assert site.run("assign", "alice", "--document", name).output == (
        "CORP\\alice has a Document CAL for sales/plan.qvw now\n"
    )
    assert [site.claim(user, "sales/plan.qvw") for user in ("alice", "bob")] == ["document", "document"]
    assert "CORP\\bob" in site.run("who-has", "--document", name).output
    assert site.run("remove", "bob", "--document", name).exit_code == 0
    assert site.run("undo", "bob", "--document", name).exit_code == 0


def test_document_name_that_no_request_can_have_is_refused(site: Bench) -> None:
    result = site.run("allocate", "d" * 260, "1")
    assert (result.exit_code, "longer than 259 characters" in result.output) == (1, True)


def test_document_of_one_host_is_allocated_apart(site: Bench) -> None:
    for document in ("Sales.qvw", "QVS1|Sales.qvw"):
        assert site.run("allocate", document, "1").exit_code == 0
        assert site.run("dynamic", "document", "on").exit_code == 0
    assert [site.claim(user, "qvs1|sales.qvw") for user in ("ann", "bob")] == ["document", "session"]
    assert site.claim("cid", "qvs2|sales.qvw") == "document"
    assert site.claim("dan", "sales.qvw") == "no-cal"
    held = site.run("who-has", "--document", "sales.qvw").output
    assert [name in held for name in ("ann", "cid")] == [True, True]


def test_assignment_to_a_user_whom_no_rule_lets_in_says_so(site: Bench) -> None:
    assert site.run("assign", "alice").output == "CORP\\alice has a Named CAL now\n"
    assert "no access rule lets this user in" in site.run("assign", "bob").output
    assert '"no_rule": true' in site.run("assign", "carol", "--json").output or "no Named CAL is free" in (
        site.run("assign", "carol").output
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_names_file_of_a_windows_editor_loses_no_name(site: Bench, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "users").write_bytes("\ufeffalice\r\ncarol\r\n".encode(encoding))
    output = site.run("assign", "--file", str(tmp_path / "users")).output
    assert output.splitlines()[0] == "CORP\\alice has a Named CAL now"
    assert output.splitlines()[1].startswith("CORP\\carol has a Named CAL now")


def test_names_file_in_another_encoding_is_refused_with_what_to_do(site: Bench, tmp_path: Path) -> None:
    (tmp_path / "users").write_bytes("jürgen\n".encode("latin-1"))
    result = site.run("assign", "--file", str(tmp_path / "users"))
    assert result.exit_code == 1
    assert "save it as UTF-8" in result.output


@pytest.mark.parametrize("since", ["99999999d", "999999999999999999w", "1000000000000h"])
def test_since_of_more_than_a_century_is_one_line(site: Bench, since: str) -> None:
    result = site.run("log", "--since", since)
    assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
    assert "at most 100 years" in result.output
    assert isinstance(site.run("report", "--since", since).exception, SystemExit | None)


def test_csv_has_iso_times_numbers_and_codes(site: Bench) -> None:
    site.run("allocate", "sales.qvw", "2")
    assert [site.claim("alice"), site.claim("bob")] == ["session", "no-cal"]
    site.run("end", "alice", "--force")
    rows = list(csv.DictReader(site.run("log", "--csv").output.splitlines()))
    by_what = {row["what"]: row for row in rows}
    assert datetime.fromisoformat(by_what["granted"]["at"]).utcoffset() == datetime.now(BERLIN).utcoffset()
    assert datetime.fromisoformat(by_what["ended"]["ended"]).tzinfo is not None
    assert (by_what["allocated"]["cals"], by_what["denied"]["code"]) == ("2", "no-cal")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\t=", "\r="])
def test_csv_has_no_cell_that_a_spreadsheet_would_run(site: Bench, start: str) -> None:
    site.claim("mallory", f"{start}cmd|calc", name=f"{start}mallory")
    (row,) = [row for row in csv.DictReader(site.run("log", "--csv").output.split("\n")) if row["what"] == "granted"]
    assert (row["name"][0], row["document"][0]) == ("'", "'")


@pytest.mark.parametrize(
    "reference", ["K7QP-2M9X", "k7qp-2m9x", " K7qp-2M9x ", "k7qp2m9x", "K7QP 2M9X", "K7QP\u20132M9X"]
)
def test_reference_is_found_as_a_user_reads_it_aloud(site: Bench, reference: str) -> None:
    assert [site.claim("alice"), site.claim("dave", reference="K7QP-2M9X")] == ["session", "no-cal"]
    assert "reference K7QP-2M9X, no-cal" in site.run("explain", "dave", "--reference", reference).output
    assert "no denial of dave is on record with the reference XX" in (
        site.run("explain", "dave", "--reference", "XX").output
    )
    assert "no denial" in site.run("explain", "dave", "--reference", "-").output


def test_reference_of_a_waiting_pages_poll_finds_the_denial(site: Bench) -> None:
    site.claim("alice")
    assert [site.claim("dave", reference=reference) for reference in ("FIRST", "SECOND", "THIRD")] == ["no-cal"] * 3
    assert "reference FIRST" in site.run("explain", "dave", "--reference", "third").output
    site.run("end", "alice", "--force")
    assert site.claim("dave", reference="FOURTH") == "session"
    assert "reference FIRST" in site.run("explain", "dave", "--reference", "fourth").output


def test_piped_table_folds_no_cell(site: Bench) -> None:
    document = "folder/" * 30 + "sales.qvw"
    site.claim("alice", document)
    assert any(document in line for line in site.run("log").output.splitlines())
    site.run("allocate", document, "1")
    assert any(document in line for line in site.run("list").output.splitlines())


def test_users_of_the_same_name_are_told_apart_in_lists(site: Bench) -> None:
    site.run("limit", "session", "default")
    site.run("dynamic", "named", "on")
    for key in ("S-1-5-21-1", "S-1-5-21-2"):
        assert site.claim(key, name="CORP\\ivan") == "named"
    listed = site.run("list").output
    assert "CORP\\ivan (S-1-5-21-1)" in listed
    assert "CORP\\ivan (S-1-5-21-2)" in listed
    assert "S-1-5-21-2" in site.run("who-has", "ivan").output


def test_clock_that_needs_no_setting_says_so(site: Bench) -> None:
    site.claim("alice")
    assert site.run("clock").output == "no record is ahead of the store's clock; nothing was changed\n"


def test_log_of_a_renamed_user_has_the_records_of_both_names(site: Bench) -> None:
    site.claim("S-1-5-21-9", name="CORP\\ivan")
    site.claim("S-1-5-21-9", document="hr.qvw", name="CORP\\igor")
    for name in ("CORP\\ivan", "igor", "S-1-5-21-9"):
        assert "granted" in site.run("log", "--user", name).output


def test_author_of_a_change_under_sudo_is_the_user_who_ran_it(site: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "smith")
    for uid, author in ((0, "smith@"), (1000, "")):
        monkeypatch.setattr("os.geteuid", lambda uid=uid: uid)
        site.run("limit", "session", "default")
        last = list(csv.DictReader(site.run("log", "--csv", "--what", "limited").output.splitlines()))[-1]["by"]
        assert last.startswith("smith@") is bool(author)
