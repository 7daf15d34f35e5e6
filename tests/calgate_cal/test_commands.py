"""`calgate cals …` as an administrator types it."""

import asyncio
import contextlib
import csv
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from cal_model.license import who
from calgate.plugin.licensing import NoCal
from calgate.plugin.services import Services
from calgate.store import StoreSection, open_store
from calgate_cal import Config, commands, lua
from calgate_cal.allocator import CalAllocator
from support.directory import People
from support.redis_servers import Server


class CommandContext:
    """A command context with licenses on one server."""

    def __init__(self, url: str, folder: Path, **licenses: Any) -> None:
        self._url = url
        self._folder = folder
        self._config = Config.model_validate(licenses)

    def document_of(self, method: str, target: str) -> str | None:
        return None

    def read(self, _: Path) -> Config:
        return self._config

    @contextlib.asynccontextmanager
    async def open(self, file: Path) -> AsyncIterator[tuple[Config, Services]]:
        async with open_store(StoreSection(url=self._url), self._folder) as store:
            yield self.read(file), Services(store, self._folder, People())


Cals = Callable[..., Result]

LICENSE = {
    "named": {"in_license": 2},
    "document": {"in_license": 3},
    "session": {"in_license": 1},
    "queue": True,
}


@pytest.fixture
def context(server: Server, tmp_path: Path) -> CommandContext:
    """One license with two Named CALs, three Document CALs and one Session CAL."""
    return CommandContext(server.url, tmp_path, demo=LICENSE)


@pytest.fixture
def cals(context: CommandContext) -> Cals:
    """Runs a command."""
    group = commands(context)
    return lambda *words: CliRunner().invoke(group, [*words, "-c", "calgate.toml"])


@pytest.fixture
def visit(context: CommandContext) -> Callable[[str], str]:
    """Claims for a user as a gateway does: returns the kind of CAL, or the code of the denial."""

    async def claim(user: str) -> str:
        async with context.open(Path()) as (config, services):
            allocator = CalAllocator(config, services.store, "gateway")
            try:
                lease = await allocator.claim("demo", who(user), "sales.qvw", reference=f"ref-{user}")
            except NoCal as no:
                return no.code
            await allocator.settle(lease, served=True)
            return lease.kind

    return lambda user: asyncio.run(claim(user))


def said(result: Result) -> Any:
    """Returns what --json printed."""
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def everything(cals: Cals) -> tuple[object, object]:
    """Returns all that a command could change, and every record of a change."""
    return said(cals("export")), said(cals("log", "--json"))


def test_assigned_cal_is_listed_removed_and_given_back(cals: Cals, visit: Callable[[str], str]) -> None:
    assert cals("assign", "CORP\\alice").output == "CORP\\alice has a Named CAL now\n"
    listed = said(cals("list", "--json"))
    assert [(pool["kind"], pool["limit"], pool["free"]) for pool in listed["pools"]][:1] == [("named", 2, 1)]
    assert [(it["name"], it["kind"], it["state"]) for it in listed["holders"]] == [("CORP\\alice", "named", "held")]
    assert "CORP\\alice" in cals("list").output
    assert visit("alice") == "named"
    assert "in quarantine until" in cals("remove", "alice@corp").output
    assert said(cals("list", "--json"))["pools"][0]["quarantined"] == 1
    assert cals("undo", "alice").output == "CORP\\alice has the Named CAL again\n"
    assert visit("alice") == "named"


def test_file_of_users_is_assigned_and_each_refusal_is_reported(cals: Cals, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("# analysts\nalice\n\nnobody\nCORP\\bob\ncarol\n")
    result = cals("assign", "--file", str(tmp_path / "users"))
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "CORP\\alice has a Named CAL now",
        "nobody: the directory knows nobody called nobody",
        "CORP\\bob has a Named CAL now",
        "carol: no Named CAL is free: all 2 are out or promised",
        "Error: 2 of 4 were not assigned",
    ]


def test_document_cals_are_allocated_assigned_and_switched_to_dynamic(cals: Cals, visit: Callable[[str], str]) -> None:
    assert cals("allocate", "sales.qvw", "2").output == "sales.qvw has 2 Document CALs allocated\n"
    assert "too many Document CALs allocated" in cals("allocate", "hr.qvw", "2").output
    assert cals("assign", "alice", "--document", "sales.qvw").exit_code == 0
    assert cals("dynamic", "document", "on", "--document", "sales.qvw").exit_code == 0
    assert [visit("alice"), visit("bob")] == ["document", "document"]
    held = said(cals("who-has", "--document", "sales.qvw", "--json"))
    assert [it["name"] for it in held] == ["CORP\\alice", "CORP\\bob"]
    assert "sales.qvw" in cals("who-has", "bob").output
    assert cals("who-has", "carol").output == "carol holds no CAL\n"


def test_brackets_in_a_document_name_are_shown_literally(cals: Cals) -> None:
    """Users can request documents of any name."""
    assert cals("allocate", "a[/b]c[old].qvw", "2").exit_code == 0
    listed = cals("list")
    assert listed.exit_code == 0
    assert "a[/b]c[old].qvw" in listed.output


def test_limit_is_lowered_and_reset_to_the_settings_file(cals: Cals, visit: Callable[[str], str]) -> None:
    assert cals("limit", "session", "0").output == "the limit of session is 0 now\n"
    assert visit("alice") == "no-cal"
    assert cals("limit", "session", "default").output == "the limit of session is what the settings file says now\n"
    assert visit("alice") == "session"
    assert "9 is more than the 1 Session CALs in license" in cals("limit", "session", "9").output
    assert "a limit is a number" in cals("limit", "session", "few").output


def test_session_cal_is_ended_while_the_queue_is_shown(cals: Cals, visit: Callable[[str], str]) -> None:
    assert [visit("alice"), visit("bob")] == ["session", "no-cal"]
    assert [it["name"] for it in said(cals("queue", "--json"))] == ["CORP\\bob"]
    assert "CORP\\bob" in cals("queue").output
    assert "comes back at" in cals("end", "alice").output
    assert cals("end", "alice", "--force").output == "CORP\\alice's Session CAL from pc is free\n"
    assert visit("bob") == "session"
    assert cals("queue").output == "nobody waits\n"
    assert cals("end", "alice").output == "Error: alice has no Session CAL\n"


def test_denial_is_explained_after_the_pools_have_changed(cals: Cals, visit: Callable[[str], str]) -> None:
    assert [visit("alice"), visit("dave")] == ["session", "no-cal"]
    cals("end", "alice", "--force")
    cals("limit", "session", "0")
    told = said(cals("explain", "dave", "--json"))
    assert (told["reference"], told["code"]) == ("ref-dave", "no-cal")
    session = next(pool for pool in told["pools"] if pool["kind"] == "session")
    assert (session["limit"], session["occupied"], session["note"]) == (1, 1, "full")
    assert "all are out" in cals("explain", "dave", "--at", "00:00").output
    assert "reference ref-dave" in cals("explain", "CORP\\dave", "--reference", "ref-dave").output
    assert cals("explain", "alice").output == "Error: no denial of alice is on record\n"
    assert "a time is written like 10:42" in cals("explain", "dave", "--at", "noon").output


def test_log_has_every_decision_and_change_with_its_author(cals: Cals, visit: Callable[[str], str]) -> None:
    cals("assign", "alice")
    visit("=dave")
    records = said(cals("log", "--since", "1h", "--json"))
    assert [it["what"] for it in records] == ["configured", "assigned", "granted", "kept"]
    assert "@" in records[1]["by"]
    rows = list(csv.DictReader(cals("log", "--csv", "--what", "granted").output.splitlines()))
    assert [(row["what"], row["user"], row["kind"]) for row in rows] == [("granted", "'=dave", "session")]
    assert [it["what"] for it in said(cals("log", "--user", "alice", "--json"))] == ["assigned"]
    assert "a duration is written like" in cals("log", "--since", "long").output


def test_report_shows_how_many_session_cals_are_needed(cals: Cals, visit: Callable[[str], str], tmp_path: Path) -> None:
    assert [visit("alice"), visit("bob")] == ["session", "no-cal"]
    files = ("--plot", str(tmp_path / "plot.svg"), "--html", str(tmp_path / "report.html"))
    report = said(cals("report", "--json", *files))
    assert (report["episodes"], report["denied_users"]) == (1, 1)
    assert report["what_if"] == {"0": 2, "1": 1, "2": 0}
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert "With so many Session CALs" in cals("report").output


def test_permanent_state_survives_export_and_import(
    cals: Cals, visit: Callable[[str], str], tmp_path: Path, server: Server
) -> None:
    cals("allocate", "sales.qvw", "2")
    for words in (("alice",), ("bob", "--document", "sales.qvw")):
        cals("assign", *words)
    assert visit("alice") == "named"
    saved = tmp_path / "saved.json"
    saved.write_text(cals("export").output)
    before = said(cals("list", "--json"))
    assert "the license has 2 permanent CALs already" in cals("import", str(saved)).output
    with Redis.from_url(server.url, protocol=2) as redis:
        redis.flushall()
    assert cals("import", str(saved)).output == "2 CALs are back\n"
    after = said(cals("list", "--json"))
    assert (after["holders"], after["allocations"]) == (before["holders"], before["allocations"])
    bad = tmp_path / "bad"
    for text, fault in (
        ("{}", "this is not an export"),
        ("no", "is not JSON"),
        ("[]", "is not an export"),
    ):
        bad.write_text(text)
        with Redis.from_url(server.url, protocol=2) as redis:
            redis.flushall()
        assert fault in cals("import", str(bad)).output


GOOD = {"id": "1-0", "kind": "named", "field": "named|al", "user": "al", "name": "CORP\\al", "granted": 1}


BROKEN: tuple[tuple[dict[str, object], str], ...] = (
    ({"leases": [GOOD, {"kind": "named"}]}, "a CAL of the export cannot be read, number 2"),
    ({"leases": [GOOD | {"field": "named|bob"}]}, "a CAL of the export cannot be read, number 1"),
    ({"leases": [GOOD | {"kind": "session"}]}, "a CAL of the export cannot be read, number 1"),
    ({"leases": [GOOD | {"granted": "soon"}]}, "a CAL of the export cannot be read, number 1"),
    ({"leases": [GOOD | {"last_used": "soon"}]}, "a CAL of the export cannot be read, number 1"),
    ({"leases": [GOOD | {"groups": "all"}]}, "a CAL of the export cannot be read, number 1"),
    ({"leases": [GOOD | {"pending": {"r": "1"}}]}, "a CAL of the export cannot be read, number 1"),
    ({"leases": [GOOD | {"refused": "yes"}]}, "a CAL of the export cannot be read, number 1"),
    ({"leases": [GOOD | {"visits": [{"client": "pc"}]}]}, "a CAL of the export cannot be read, number 1"),
    ({"leases": [GOOD | {"visiting": "pc"}]}, "a CAL of the export cannot be read, number 1"),
    ({"leases": [GOOD | {"id": "alice"}]}, "a CAL of the export cannot be read, number 1"),
    ({"leases": [GOOD, GOOD]}, "the export has a CAL twice"),
    ({"settings": {"terms": "{}"}}, "a setting of the export cannot be read: terms = {}"),
    ({"settings": {"limit:session": "few"}}, "a setting of the export cannot be read: limit:session = few"),
    ({"settings": {"allocated:d": "-1"}}, "a setting of the export cannot be read: allocated:d = -1"),
    ({"version": "calgate_cal_v9"}, f"this is not an export of {lua.VERSION}"),
)


def test_corrupt_export_is_refused_and_changes_nothing(cals: Cals, tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    good = json.loads(cals("export").output) | {"leases": [GOOD]}
    before = everything(cals)
    for changed, fault in BROKEN:
        saved.write_text(json.dumps(good | changed))
        assert cals("import", str(saved)).output == f"Error: {fault}\n"
        assert everything(cals) == before


def test_provisional_cal_without_pending_requests_survives_export_and_import(cals: Cals, tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    waits = GOOD | {"granted": int(time.time() * 1000), "pending": {}, "refused": True}
    saved.write_text(json.dumps(json.loads(cals("export").output) | {"leases": [waits]}))
    assert cals("import", str(saved)).output == "1 CALs are back\n"
    assert [it["state"] for it in said(cals("list", "--json"))["holders"]] == ["provisional"]
    assert json.loads(cals("export").output)["leases"] == [waits]


def test_export_of_an_older_version_is_imported(cals: Cals, tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    saved.write_text(
        json.dumps({"license": "demo", "version": "calgate_cal_v1", "settings": {"limit:named": "1"}, "leases": [GOOD]})
    )
    assert cals("import", str(saved)).output == "1 CALs are back\n"
    listed = said(cals("list", "--json"))
    assert [it["name"] for it in listed["holders"]] == ["CORP\\al"]
    assert listed["pools"][0]["limit"] == 1


WRONG = {
    "assign nobody": "the directory knows nobody called nobody",
    "assign ALIEN\\bob": "the directory knows nobody called ALIEN\\bob",
    "assign alice": "CORP\\alice has a Named CAL already",
    "assign bob --document hr.qvw": "no Document CALs are allocated to hr.qvw; `allocate` comes first",
    "assign bob --document ''": "a document has a name",
    "assign": "say either a user or --file",
    "assign --file /nowhere": "'/nowhere' does not exist",
    "remove nobody": "the directory knows nobody called nobody",
    "remove bob": "CORP\\bob has no Named CAL",
    "remove alice --document sales.qvw": "CORP\\alice has no Document CAL for sales.qvw",
    "undo nobody": "the directory knows nobody called nobody",
    "undo alice": "CORP\\alice's Named CAL has not been removed",
    "undo bob": "CORP\\bob has no Named CAL in quarantine",
    "allocate sales.qvw 4": "too many Document CALs allocated: it would be 4 in all, and the limit is 3",
    "allocate sales.qvw -1": "-1",
    "allocate sales.qvw many": "'many' is not a whole number",
    "allocate '' 1": "a document has a name",
    "limit named 3": "3 is more than the 2 Named CALs in license",
    "limit named -1": "-1",
    "limit named few": "a limit is a number or `default`, not few",
    "limit floating 1": "'floating' is not one of",
    "dynamic session on": "'session' is not one of",
    "dynamic named maybe": "'maybe' is not one of",
    "dynamic named on --document sales.qvw": "--document goes with Document CALs",
    "end nobody": "nobody has no Session CAL",
    "end alice --client laptop": "alice has no Session CAL on laptop",
    "import /nowhere": "'/nowhere' does not exist",
    "who-has": "say either a user or --document",
    "explain bob": "no denial of bob is on record",
    "log --since long": "a duration is written like",
    "report --since long": "a duration is written like",
    "report --plot /nowhere/plot.svg": "the plot cannot be written",
    "report --html /nowhere/report.html": "the page cannot be written",
    "list --license qlik": "the file has no license qlik, but demo",
}


def test_faulty_command_prints_one_line_and_changes_nothing(cals: Cals) -> None:
    cals("assign", "alice")
    before = everything(cals)
    for words, fault in WRONG.items():
        result = cals(*("" if word == "''" else word for word in words.split()))
        last = result.output.splitlines()[-1]
        assert (result.exit_code in (1, 2), last.startswith("Error: ")) == (True, True), f"{words}: {result.output}"
        assert fault in last, words
        assert everything(cals) == before, words


def test_unreadable_file_of_users_changes_nothing(cals: Cals, tmp_path: Path) -> None:
    before = everything(cals)
    for text in (b"\xff", b"\xff\xfe\x00", b"nobody\n"):
        (tmp_path / "users").write_bytes(text)
        result = cals("assign", "--file", str(tmp_path / "users"))
        assert result.exit_code == 1
        assert result.output.splitlines()[-1].startswith("Error: ")
        assert everything(cals) == before


def test_every_command_prints_json_for_programs(cals: Cals, visit: Callable[[str], str], tmp_path: Path) -> None:
    answers = {
        "assign alice": {"assigned": "CORP\\alice", "document": None},
        "allocate sales.qvw 2": {"document": "sales.qvw", "allocated": 2},
        "dynamic document on --document sales.qvw": {"kind": "document", "document": "sales.qvw", "dynamic": "on"},
        "limit session 1": {"kind": "session", "limit": 1},
        "limit session default": {"kind": "session", "limit": None},
        "remove alice": {"removed": "CORP\\alice", "document": None, "quarantine": None},
    }
    for words, answer in answers.items():
        assert said(cals(*words.split(), "--json")) == answer
    cals("assign", "bob")
    assert [visit(user) for user in ("bob", "carl", "dora", "emil", "fred")] == [
        *("named", "document", "document", "session", "no-cal"),
    ]
    assert said(cals("remove", "bob", "--json"))["quarantine"] > 0
    assert said(cals("undo", "bob", "--json")) == {"undone": "CORP\\bob", "document": None}
    assert said(cals("end", "emil", "--force", "--json")) == {"ended": "CORP\\emil", "until": None}
    assert len(said(cals("list", "--json"))["holders"]) == 3
    assert [it["kind"] for it in said(cals("who-has", "bob", "--json"))] == ["named"]
    assert [it["place"] for it in said(cals("queue", "--json"))] == [1]
    assert said(cals("explain", "fred", "--json"))["code"] == "no-cal"
    assert len(said(cals("log", "--json"))) > 10
    assert said(cals("report", "--json"))["denied_users"] == 1
    (tmp_path / "saved").write_text(json.dumps(said(cals("export", "--json")) | {"leases": []}))
    for words in ("remove bob", "remove carl --document sales.qvw", "remove dora --document sales.qvw"):
        assert said(cals(*words.split(), "--json"))["removed"]
    assert "permanent CALs already" in cals("import", str(tmp_path / "saved"), "--json").output


def test_unknown_license_is_reported_with_the_known_ones(cals: Cals) -> None:
    result = cals("list", "--license", "qlik")
    assert (result.exit_code, result.output) == (1, "Error: the file has no license qlik, but demo\n")


def test_several_licenses_require_the_license_option(server: Server, tmp_path: Path) -> None:
    group = commands(CommandContext(server.url, tmp_path, a={"named": {"in_license": 1}}, b={}))
    result = CliRunner().invoke(group, ["list", "-c", "calgate.toml"])
    assert (result.exit_code, result.output) == (
        *(1, "Error: the file has several licenses (a, b): say which with --license\n"),
    )
    assert CliRunner().invoke(group, ["list", "-c", "calgate.toml", "--license", "a"]).exit_code == 0


def test_unreachable_store_is_one_line_and_exit_1(cals: Cals, server: Server) -> None:
    server.stop()
    result = cals("list")
    assert result.exit_code == 1
    assert result.output.startswith("Error: the store does not respond: ")


def test_report_of_a_month_or_a_range_and_for_spreadsheets(cals: Cals, visit: Callable[[str], str]) -> None:
    assert visit("alice") == "session"
    today = time.strftime("%Y-%m-%d", time.gmtime())
    for words in (("--month", today[:7]), ("--from", today), ("--from", today, "--to", today)):
        assert said(cals("report", *words, "--zone", "UTC", "--json"))["visits"] == 1
    rows = list(csv.DictReader(cals("report", "--csv", "--zone", "UTC").output.splitlines()))
    assert [(row["session"], row["wishes"], row["denied"]) for row in rows] == [("1", "1", "0")]
    assert rows[0]["hour"].endswith(":00:00+00:00")
    for words, fault in (
        (("--month", "March"), "a month is written like 2026-03"),
        (("--month", today[:7], "--to", today), "say either --month, or --from and --to"),
        (("--to", today), "--to goes with --from"),
        (("--from", "2999-01-01"), "lies in the future"),
    ):
        assert fault in cals("report", *words).output


def test_plan_of_a_license_s_records_refuses_what_is_too_little(cals: Cals, visit: Callable[[str], str]) -> None:
    assert visit("alice") == "session"
    assert cals("plan").output == "Error: nothing to plan: visits to documents: 1; needed: 50 at least\n"
