"""`calgate cals plan` as an administrator types it, without a settings file and without a store."""

import itertools
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from calgate_cal import commands
from support.visits import SMALL, NoContext, logged, site, site_logs

Plan = Callable[..., Result]


@pytest.fixture
def plan() -> Plan:
    """Runs the command; nothing of the core is needed."""
    group = commands(NoContext())
    return lambda *words: CliRunner().invoke(group, ["plan", *map(str, words)])


def planned(result: Result) -> Any:
    """What --json printed."""
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_every_number_of_seats_has_its_denials_in_json(plan: Plan) -> None:
    made = planned(plan(SMALL / "D_month.csv", "--json"))
    assert [row[:2] for row in made["curve"]] == [[0, 240], [1, 128], [2, 61], [3, 23], [4, 8], [5, 1], [6, 0]]
    assert (made["wishes"], made["people"], made["weeks"]) == (240, 9, 3)
    assert (made["recommended"]["as_it_was"], made["recommended"]["session"]) == (5, 5)
    assert made["now"]["session"] is None


def test_fewer_than_four_whole_weeks_give_no_band_and_fewer_than_eight_no_mix(plan: Plan, tmp_path: Path) -> None:
    for weeks, certain, mixes in ((3, False, False), (4, True, False), (8, True, True)):
        (tmp_path / str(weeks)).mkdir()
        made = planned(plan(site_logs(tmp_path / str(weeks), weeks), "--price", "named=1,session=4", "--json"))
        assert made["weeks"] == weeks
        assert (made["recommended"]["low"] is not None) is certain
        assert bool(made["mix"]) is mixes
    assert "4 weeks are needed to say how sure" in plan(SMALL / "D_month.csv").output


def test_the_text_shows_the_answer_what_there_is_now_and_the_proof(plan: Plan, tmp_path: Path) -> None:
    made = plan(site_logs(tmp_path, 8), "--zone", "Europe/Berlin", "--session", "9", "--price", "named=1,session=10")
    assert made.exit_code == 0, made.output
    for line in ("qlikview, 5 January 2026 to 27 February 2026: 8 whole weeks", "recommended", "proof: planned on"):
        assert line in made.output
    assert "cheapest" in made.output
    assert "would get a Named CAL" in made.output


def test_proof_says_who_would_have_been_denied_and_how_often(plan: Plan, tmp_path: Path) -> None:
    rows = [
        f"2026-03-{day:02} {9 if is_later else number + 6:02}:00:00,"
        f"2026-03-{day:02} {number + 7:02}:30:00,ann{number:02},"
        for day, is_later in ((day, day > 15) for day in range(2, 28))
        for number in range(16 if is_later else 3)
    ]
    folder = tmp_path / "visits.csv"
    folder.write_text("\n".join(["start,end,user,what", *rows, "2026-03-02 06:10:00,,ann02,denied"]))
    made = planned(plan(folder, "--json"))["proof"]
    users = made["denied"]
    assert len(users) > 10
    assert [*users.values()] == sorted(users.values(), reverse=True)
    first, count = next(iter(users.items()))
    said = plan(folder).output
    assert f"Denied would have been {first} ({'once' if count == 1 else f'{count} times'}), " in said
    assert f"{len(users) - 10} more user" in said
    nameless = plan(folder, "--names", "none").output
    assert f"Denied would have been {len(users)} users" in nameless
    assert planned(plan(folder, "--json", "--names", "none"))["proof"]["denied"] == len(users)


def test_proof_of_estimated_visits_names_nobody(plan: Plan, tmp_path: Path) -> None:
    visits, _ = logged(site(2), 8)
    rows = [f"{moment(visit.begin)},{moment(visit.end)},{visit.user}" for visit in visits]
    file = tmp_path / "visits.csv"
    file.write_text("\n".join(["start,end,user", *rows]))
    made = planned(plan(file, "--json"))
    assert made["estimated"] > 0
    assert made["proof"]["denied"] > 0
    assert f"Denied would have been {made['proof']['denied']} users" in plan(file).output


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def test_without_names_no_user_is_in_the_output(plan: Plan, tmp_path: Path) -> None:
    folder = site_logs(tmp_path, 8)
    for form in ((), ("--json",)):
        output = plan(folder, "--price", "named=1,session=4", "--names", "none", "--exclude", "*user01", *form).output
        assert "user0" not in output.casefold()
        assert "proof" in output


def test_without_names_no_robot_is_named_in_the_notes(plan: Plan, tmp_path: Path) -> None:
    visits = [
        f"2026-03-{day:02} {hour:02}:00:00,2026-03-{day:02} {hour:02}:05:00,Reader"
        for day in range(2, 13)
        for hour in range(24)
    ]
    (tmp_path / "visits.csv").write_text("\n".join(["start,end,user", *visits]))
    named, nameless = (plan(tmp_path / "visits.csv", "--names", names) for names in ("all", "none"))
    assert "Reader comes at all hours" in named.output
    assert "a user comes at all hours" in nameless.output
    assert "Reader" not in nameless.output


def test_a_mix_has_named_users_of_the_random_halves_and_never_denies_more_than_the_past_allows(
    plan: Plan, tmp_path: Path
) -> None:
    made = planned(plan(site_logs(tmp_path, 12), "--price", "named=1,session=10", "--json"))
    alone, cheapest = made["mix"][0], made["mix"][-1]
    assert (alone["named"], cheapest["label"]) == (0, "cheapest")
    assert cheapest["price"] < alone["price"]
    assert [it["user"] for it in made["named"]][:2] == ["CORP\\user00", "CORP\\user01"]
    assert len(made["named"]) == cheapest["named"]


def test_users_of_one_document_get_document_cals_where_these_are_cheaper(plan: Plan, tmp_path: Path) -> None:
    folder = site_logs(tmp_path, 12)
    named = planned(plan(folder, "--price", "named=2,session=10", "--json"))
    made = planned(plan(folder, "--price", "named=2,session=10,document=0.5", "--json"))
    cheapest = made["mix"][-1]
    kinds = [it["kind"] for it in made["named"]]
    assert (cheapest["named"], cheapest["document"]) == (kinds.count("named"), kinds.count("document"))
    assert cheapest["document"] > 0
    assert cheapest["price"] == 2 * cheapest["named"] + 0.5 * cheapest["document"] + 10 * cheapest["session"]
    assert cheapest["price"] < named["mix"][-1]["price"]
    assert {it["kind"] for it in named["named"]} == {"named"}


def test_what_document_cals_serve_needs_no_session_cal(plan: Plan, tmp_path: Path) -> None:
    folder = site_logs(tmp_path, 8)
    before = planned(plan(folder, "--json"))
    for log in folder.iterdir():
        header, *rows = log.read_text().splitlines()
        on_document_cals = [row.removesuffix("Session\t") + "Document\t" if "user0" in row else row for row in rows]
        log.write_text("\n".join([header, *on_document_cals]))
    made = planned(plan(folder, "--json"))
    assert made["recommended"]["session"] < before["recommended"]["session"]
    (note,) = [note for note in made["notes"] if "Document CALs" in note]
    assert note.endswith("visits on Document CALs of 10 people left out: they keep them in every mix")
    assert made["wishes"] + int(note.split()[0].replace(",", "")) == made["visits"]


def test_a_log_that_names_owners_of_named_cals_makes_nobody_an_owner_in_addition(plan: Plan, tmp_path: Path) -> None:
    folder = site_logs(tmp_path, 8)
    for log in folder.iterdir():
        header, *rows = log.read_text().splitlines()
        named = [row.removesuffix("Session\t") + "Named User\t" if "user03" in row else row for row in rows]
        log.write_text("\n".join([header, *named]))
    words = ("--named", "3", "--session", "20", "--price", "named=1,session=10", "--keep-named", "--json")
    made = planned(plan(folder, *words))
    assert (made["now"]["named"], made["mix"][0]["named"]) == (3, 3)
    assert "of the 3 Named CALs that you have, this log shows 1 in use" in made["notes"]
    assert "CORP\\user03" in {it["user"] for it in made["named"]}
    alone = planned(plan(folder, "--json"))
    assert (made["wishes"], made["recommended"]) == (alone["wishes"], alone["recommended"])


def test_more_cals_in_use_than_there_are_is_told(plan: Plan, tmp_path: Path) -> None:
    folder = site_logs(tmp_path, 5)
    told = planned(plan(folder, "--session", "3", "--json"))["notes"]
    assert any("Session CALs were in use at once, more than the 3 that you have" in note for note in told)
    assert not any("at once" in note for note in planned(plan(folder, "--session", "12", "--json"))["notes"])


def test_a_log_that_names_each_session_in_place_of_the_machine_is_read_by_user_alone(
    plan: Plan, tmp_path: Path
) -> None:
    by_machine = planned(plan(site_logs(tmp_path / "a", 5), "--json"))
    folder = site_logs(tmp_path / "b", 5)
    numbers = itertools.count()
    for log in folder.iterdir():
        log.write_text(re.sub(r"\{pc\d+\}", lambda _: f"{{{next(numbers)}}}", log.read_text()))
    by_user = planned(plan(folder, "--json"))
    assert by_user["recommended"] == by_machine["recommended"]
    assert any("machines are ignored" in note for note in by_user["notes"])
    assert not any("machines are ignored" in note for note in by_machine["notes"])


def test_usage_and_document_cals_are_changes_to_try(plan: Plan, tmp_path: Path) -> None:
    changes = ("usage=0", "usage=5000", "document=0", "document=5000")
    words = [word for change in changes for word in ("--what-if", change)]
    made = planned(plan(site_logs(tmp_path, 8), *words, "--json"))
    need = [made["what_if"][change]["session"] for change in changes]
    assert need == [made["recommended"]["as_it_was"], 0, made["recommended"]["as_it_was"], 0]
    refused = plan(SMALL / "D_month.csv", "--what-if", "usage=many")
    assert (refused.exit_code, "usage is a number of CALs, not many" in refused.output) == (2, True)


def test_a_setting_changed_is_a_column_of_its_own(plan: Plan) -> None:
    words = [SMALL / "D_month.csv", "--what-if", "minimum=0s", "--what-if", "queue=on"]
    made = planned(plan(*words, "--json"))
    assert dict(made["what_if"]["minimum=0s"]["curve"])[5] == 1
    assert set(made["what_if"]) == {"minimum=0s", "queue=on"}
    assert "minimum=0s" in plan(*words).output


def test_more_people_need_more_seats(plan: Plan, tmp_path: Path) -> None:
    folder = site_logs(tmp_path, 5)
    now, grown = (planned(plan(folder, "--growth", share, "--json")) for share in ("0%", "100%"))
    assert grown["wishes"] == pytest.approx(2 * now["wishes"], rel=0.5)
    assert grown["recommended"]["session"] > now["recommended"]["session"]


def test_a_site_that_works_from_sunday_to_thursday_has_whole_weeks(plan: Plan, tmp_path: Path) -> None:
    folder = site_logs(tmp_path, 6)
    for log in folder.iterdir():  # a day earlier: Sunday to Thursday
        moved = re.sub(
            r"2026-\d\d-\d\d", lambda found: str(date.fromisoformat(found[0]) - timedelta(days=1)), log.read_text()
        )
        log.write_text(moved)
    made = planned(plan(folder, "--json"))
    assert made["weeks"] == 5, "the first Sunday and the last days belong to weeks that are not whole"
    assert "working days here are Monday, Tuesday, Wednesday, Thursday, Sunday" in made["notes"]


def test_users_are_excluded_by_pattern_in_any_case(plan: Plan) -> None:
    assert planned(plan(SMALL / "D_month.csv", "--exclude", "U1", "--json"))["people"] == 8


@pytest.mark.parametrize("words", [("--exclude", "svc-*")])
def test_fewer_than_fifty_wishes_are_nothing_to_plan(plan: Plan, words: tuple[str, ...]) -> None:
    for source in (SMALL / "sessions", SMALL / "A_order.csv"):
        result = plan(source, *words)
        assert result.exit_code == 1
        assert result.output.startswith("Error: nothing to plan: ")
        assert result.output.count("\n") == 1


def test_a_history_of_unreadable_lines_names_them_by_file_and_line(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "visits.csv").write_text("start,end,user\n" + "46027.3,46027.4,ann\n" * 60)
    result = plan(tmp_path / "visits.csv")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "60 unreadable lines: visits.csv, line 2: '46027.3' is not a time" in result.output


def test_two_names_of_one_user_are_united_by_a_file(plan: Plan, tmp_path: Path) -> None:
    pairs = tmp_path / "same"
    pairs.write_text("# UPN = account\nU1 = u2\n")
    assert planned(plan(SMALL / "D_month.csv", "--same", pairs, "--json"))["people"] == 8
    pairs.write_text("u1\n")
    assert "line 1: write two names with = between them" in plan(SMALL / "D_month.csv", "--same", pairs).output


WRONG = {
    "": "name a folder or files to read",
    "--zone Mars/Base": "there is no time zone Mars/Base",
    "--price named=1": "prices are written like named=1,session=10",
    "--below 0%": "no rate is below 0%",
    "--below often": "a percentage is written like 1%",
    "--what-if idle_timeout=soon": "a duration is written like",
    "--what-if reserve=3": "reserve needs the users' groups",
    "--what-if speed=3": "speed cannot be changed here",
    "--link soon": "a duration is written like",
    "--html /nowhere/plan.html": "there is no folder /nowhere",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_use_is_exit_2_and_says_what_is_right(plan: Plan, words: str) -> None:
    source = [SMALL / "D_month.csv"] if words else []
    result = plan(*source, *words.split())
    assert result.exit_code == 2, result.output
    assert WRONG[words] in result.output


def test_a_source_that_cannot_be_read_is_one_line_and_exit_1(plan: Plan) -> None:
    result = plan("/nowhere")
    assert (result.exit_code, result.output) == (1, "Error: /nowhere: cannot be read: No such file or directory\n")


def test_the_difference_that_an_unseen_close_makes_is_reported(plan: Plan, tmp_path: Path) -> None:
    made = planned(plan(site_logs(tmp_path, 4), "--json"))
    (note,) = [note for note in made["notes"] if "the browser is closed" in note]
    needs = [int(word) for word in note.split() if word.isdigit()]
    assert needs[-1] == made["recommended"]["as_it_was"] > needs[-2]


def test_users_who_hold_named_cals_keep_them_only_if_wanted(plan: Plan, tmp_path: Path) -> None:
    folder = site_logs(tmp_path, 9)
    words = ("--named", "3", "--session", "8", "--price", "named=20,session=10", "--json")
    free, kept = planned(plan(folder, *words)), planned(plan(folder, *words, "--keep-named"))
    assert [(row["named"], row["label"]) for row in free["mix"]] == [(3, "now"), (0, "cheapest"), (3, "kept")]
    assert [(row["named"], row["label"]) for row in kept["mix"]] == [(3, "now"), (3, "cheapest")]
    assert [it["user"] for it in kept["named"]] == ["CORP\\user00", "CORP\\user01", "CORP\\user02"]


def test_the_present_named_cals_are_a_mix_at_the_recommended_number_and_can_be_the_cheapest(
    plan: Plan, tmp_path: Path
) -> None:
    folder = site_logs(tmp_path, 26, users=120)
    words = ("--named", "10", "--session", "6", "--price", "named=1,session=10")
    made = planned(plan(folder, *words, "--json"))
    (cheapest,) = (row for row in made["mix"] if row["label"] == "cheapest")
    assert (cheapest["named"], cheapest["session"]) == (10, made["recommended"]["session"])
    assert cheapest["price"] == min(row["price"] for row in made["mix"] if row["label"] != "now")
    assert len(made["named"]) == 10
    output = plan(folder, *words).output
    assert "has a Named CAL and keeps it" in output
    assert "would get" not in output
