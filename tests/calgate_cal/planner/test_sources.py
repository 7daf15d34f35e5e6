"""Reading QlikView's session logs and tables."""

import contextlib
import gzip
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calgate.dialect.logged import logged_document
from calgate_cal.planner import page, plan, text
from calgate_cal.planner.clock import Calendar, LocalTimes, pair, seconds
from calgate_cal.planner.curve import one_pass
from calgate_cal.planner.history import History, SourceError
from calgate_cal.planner.replay import Clocks
from calgate_cal.planner.sources import read_files
from calgate_cal.planner.wishes import Visit, link, merge
from support.visits import BERLIN, HEADER, HOUR, MINUTE, SMALL, session_log, session_row

SESSIONS = SMALL / "sessions"


def read(*paths: Path) -> History:
    return read_files(paths, BERLIN)


def visits(*names: str) -> list[Visit]:
    return merge(read(*(SESSIONS / name for name in names)).visits)[0]


def utc(*when: int) -> float:
    return datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]


def test_two_documents_on_one_machine_are_one_visit_and_two_machines_are_two() -> None:
    found = visits("Sessions_QVS1_2026-03-02.log")
    assert [(it.user, it.machine, it.end - it.begin) for it in found] == [
        ("corp\\ann", "{a}", 60 * MINUTE),
        ("corp\\ann", "{b}", 10 * MINUTE),
    ]
    assert one_pass(link(found, [], HOUR)[0], Clocks()).counts().peak == 2


def test_columns_are_found_by_name_in_any_case_and_order() -> None:
    assert [(it.user, it.begin) for it in visits("Sessions_QVS1_2026-03-03.log")] == [
        ("corp\\bob", utc(2026, 3, 3, 8)),
    ]


def test_a_session_ended_by_lru_lasts_as_long_as_the_user_usually_stays() -> None:
    usual = [Visit(at, at + 600, at + 600, "closed", "cid", "{d}", "session", "") for at in (0.0, 5000.0, 9000.0)]
    evicted = Visit(20000.0, 20180.0, 20180.0, "lru", "cid", "{d}", "session", "")
    assert [it.used - it.begin for it in link([*usual, evicted], [], HOUR)[0]] == [600, 600, 600, 600]
    history = read(SESSIONS / "Sessions_QVS1_2026-03-06.log")
    assert (history.counts["lru"], history.counts["shutdown"]) == (1, 1)


def test_a_shutdown_frees_the_cal_and_a_closed_socket_does_not() -> None:
    wishes, _ = link(visits("Sessions_QVS1_2026-03-02.log", "Sessions_QVS1_2026-03-06.log"), [], HOUR)
    assert [it.signed_out for it in wishes] == [False, False, False, True]


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("Sessions_QVS1_2026-03-29.log", utc(2026, 3, 29, 0, 50)),
        ("Sessions_QVS1_2026-10-25.log", utc(2026, 10, 25, 0, 50)),
    ],
)
def test_a_visit_over_a_change_of_the_clocks_lasts_as_long_as_logged(name: str, begin: float) -> None:
    assert [(it.begin, it.end - it.begin) for it in visits(name)] == [(begin, 20 * MINUTE)]


def test_in_the_hour_that_occurs_twice_the_end_decides_which_one_is_meant() -> None:
    first, second = utc(2026, 10, 25, 0), utc(2026, 10, 25, 1)
    assert LocalTimes(BERLIN).read("2026-10-25 02:10:00") == [first + 600, second + 600]
    assert pair((first, second), (second + 1200,), 1200) == (second, True)
    assert pair((first, second), (first + 1200, second + 1200), 1200) == (first, False)
    assert pair((first, second), (), None) == (first, False)


def test_a_row_that_occurs_twice_counts_once() -> None:
    joined, twice = merge(read(SESSIONS / "Sessions_QVS2_2026-03-03.log").visits)
    assert ([it.user for it in joined], twice) == (["corp\\gus"], 1)


def test_lines_that_cannot_be_read_are_named_and_the_rest_is_read() -> None:
    history = read(SESSIONS / "Sessions_QVS2_2026-03-04.log")
    assert [it.user for it in history.visits] == ["corp\\hal"]
    assert history.faults == [
        "Sessions_QVS2_2026-03-04.log, line 3: no user",
        "Sessions_QVS2_2026-03-04.log, line 4: 3 columns, where the header has more",
    ]


def test_the_order_of_files_changes_nothing() -> None:
    paths = sorted(SESSIONS.iterdir())
    expected = merge(read(*paths).visits)
    random.Random(3).shuffle(paths)
    assert merge(read(*paths).visits) == expected


def test_packed_utf_16_and_windows_1252_files_are_read_alike(tmp_path: Path) -> None:
    text = session_log([session_row(datetime(2026, 3, 2, 9), 60, "CORP\\Jörg")])
    encoded = {"plain": text.encode(), "packed": gzip.compress(text.encode()), "bom": text.encode("utf-8-sig")}
    encoded |= {"wide": text.encode("utf-16"), "western": text.encode("cp1252")}
    encoded |= {"little": text.encode("utf-16-le"), "big": text.encode("utf-16-be")}
    encoded |= {"torn": (text + "RLS64\t12.60").encode("utf-16")[:-1], "wide.gz": gzip.compress(text.encode("utf-16"))}
    for name, content in encoded.items():
        (tmp_path / name).write_bytes(content)
        assert [it.user for it in read(tmp_path / name).visits] == ["corp\\jörg"], name


def test_a_last_line_torn_after_the_user_is_a_visit_without_machine(tmp_path: Path) -> None:
    text = session_log([session_row(datetime(2026, 3, 2, 9), 60, user, machine="{m}") for user in ("ann", "bob")])
    (tmp_path / "log").write_text(text[: text.rindex("{m}") - 1])
    assert [(it.user, it.machine) for it in read(tmp_path / "log").visits] == [("ann", "{m}"), ("bob", "")]


def test_of_a_packed_file_that_is_torn_or_damaged_the_lines_before_are_read(tmp_path: Path) -> None:
    rows = [session_row(datetime(2026, 3, 2, 9) + timedelta(hours=number), 20, f"u{number}") for number in range(2000)]
    packed = gzip.compress(session_log(rows).encode(), compresslevel=1)
    for content in (packed[: len(packed) // 2], packed[:-4]):
        (tmp_path / "log.gz").write_bytes(content)
        history = read(tmp_path / "log.gz")
        assert len(history.visits) > 100
        assert history.faults[-1].startswith(f"log.gz, line {len(history.visits) + history.unreadable}: ")
        assert "torn or damaged" in history.faults[-1]
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 0xFF
    (tmp_path / "log.gz").write_bytes(damaged)
    history = read(tmp_path / "log.gz")
    assert (len(history.visits) > 100, history.unreadable > 0) == (True, True)
    (tmp_path / "log.gz").write_bytes(packed[:12])
    with pytest.raises(SourceError, match="cannot be read after line 0"):
        read(tmp_path / "log.gz")


def test_the_order_of_day_and_month_is_decided_over_all_files_or_refused(tmp_path: Path) -> None:
    def log(name: str, start: str) -> None:
        row = session_row(datetime(2026, 3, 2, 9), 60, "ann") | {"Session Start": start, "Timestamp": start}
        (tmp_path / name).write_text(session_log([row]))

    log("a", "03/02/2026 09:00:00")
    with pytest.raises(SourceError, match="--dates dmy or --dates mdy"):
        read(tmp_path)
    log("b", "13/02/2026 09:00:00")
    assert [it.begin for it in read(tmp_path).visits] == [utc(2026, 2, 3, 8), utc(2026, 2, 13, 8)]
    assert [it.begin for it in read_files([tmp_path / "a"], BERLIN, dates="mdy").visits] == [utc(2026, 3, 2, 8)]
    log("c", "02/14/2026 09:00:00")
    with pytest.raises(SourceError, match=r"a, line 2: 03/02/2026 09:00:00 has two readings"):
        read(tmp_path)
    (tmp_path / "a").unlink()
    assert [it.begin for it in read(tmp_path).visits] == [utc(2026, 2, 13, 8), utc(2026, 2, 14, 8)], "each by its own"


IN_GERMANY = ("2026-03-02 14:05:07", "2026-03-02T14:05:07", "02.03.2026 14:05:07", "02.03.26 14:05:07")
IN_BRITAIN = ("02/03/2026 14:05:07", "2-3-2026 14:05:07", "2/3/26 14:05:07")
BY_HALVES = ("2/3/2026 2:05:07 PM", "02/03/2026 02:05:07 p. m.", "2/3/2026 2:05:07\u202fpm", "2026-03-02 오후 2:05:07")
ELSEWHERE = ("2026-03-02 14.05.07", "2026/03/02 14:05:07.123", "2026. 03. 02. 14:05:07", "2026/03/02 下午 02:05:07")


@pytest.mark.parametrize("text", [*IN_GERMANY, *IN_BRITAIN, *BY_HALVES, *ELSEWHERE], ids=ascii)
def test_local_times_are_read_in_the_forms_of_many_countries(text: str) -> None:
    assert list(LocalTimes(BERLIN, "dmy").read(text)) == [utc(2026, 3, 2, 13, 5, 7)]


def test_times_and_lengths_are_read_in_every_form_that_servers_write() -> None:
    at = utc(2026, 3, 2, 13, 5, 7)
    times = LocalTimes(BERLIN, "dmy")
    for written in ("20260302T140507.000+0100", "2026-03-02T13:05:07Z", "2026-03-02T14:05:07+01:00"):
        assert list(times.read(written)) == [at], written
    assert [seconds(length) for length in ("01:02:03", "1.01:02:03", "90", "101:00:00")] == [3723, 90123, 90, 363600]
    assert [times.read(f"2/3/2026 12:05:07 {half}") for half in ("AM", "PM")] == [
        [utc(2026, 3, 1, 23, 5, 7)],
        [utc(2026, 3, 2, 11, 5, 7)],
    ]
    for written in ("soon", "2026-13-02 14:05:07", "2026-03-02 25:05:07", "26-03-02 14:05:07", ""):
        with pytest.raises(ValueError, match=r"time|month|hour"):
            times.read(written)


@pytest.mark.parametrize("separator", [";", ","])
def test_a_session_log_that_went_through_a_spreadsheet_is_read(tmp_path: Path, separator: str) -> None:
    row = session_row(datetime(2026, 3, 2, 9), 60, "CORP\\ann", **{"Client Type": f'"ajax{separator} Mozilla"'})
    (tmp_path / "log").write_text(session_log([row, {}, row]).replace("\t", separator))
    history = read(tmp_path / "log")
    assert [(it.user, it.end - it.begin, it.machine) for it in history.visits] == 2 * [("corp\\ann", HOUR, "{pc}")]
    assert history.faults == []


def test_a_quote_that_is_never_closed_hides_no_column(tmp_path: Path) -> None:
    row = session_row(datetime(2026, 3, 2, 9), 60, "ann", **{"Document": '"Sales', "Client Address": '10.0.0.1"'})
    odd = row | {"Exe Type": '\r"', "Document": "Stock"}
    (tmp_path / "log").write_bytes(session_log([row, odd]).encode())
    assert [(it.user, it.document) for it in read(tmp_path / "log").visits] == [("ann", '"Sales'), ("ann", "Stock")]


def test_files_that_were_joined_into_one_are_read_with_the_header_of_each(tmp_path: Path) -> None:
    row = session_row(datetime(2026, 3, 2, 9), 60, "ann")
    newer = [*HEADER[:8], "Session ID", *HEADER[8:]]
    later = session_row(datetime(2026, 3, 3, 9), 30, "bob")
    (tmp_path / "log").write_text(session_log([row]) + session_log([row]) + session_log([later], newer))
    history = read(tmp_path / "log")
    assert [(it.user, it.end - it.begin) for it in history.visits] == [("ann", HOUR), ("ann", HOUR), ("bob", HOUR / 2)]
    assert history.faults == []


@pytest.mark.parametrize(
    ("kind", "expected"),
    {"Named User": "named", "User": "named", "Session": "session", "Usage": "usage", "Document": "document"}.items(),
)
def test_the_kind_of_cal_is_known_under_each_name_that_servers_write(tmp_path: Path, kind: str, expected: str) -> None:
    (tmp_path / "log").write_text(session_log([session_row(datetime(2026, 3, 2, 9), 60, "ann", **{"Cal Type": kind})]))
    assert [it.kind for it in read(tmp_path / "log").visits] == [expected]


@pytest.mark.parametrize(
    ("logged", "length"),
    {
        "00:20:00": 1200,
        "0:20:00": 1200,
        "1200": 1200,
        "0.0138888889": 1200,
        "0,0138888889": 1200,
        "1": 1,
        "0": 0,
    }.items(),
)
def test_a_length_without_colons_is_seconds_or_a_share_of_a_day_as_the_end_decides(
    tmp_path: Path, logged: str, length: float
) -> None:
    row = session_row(datetime(2026, 3, 2, 9), length / 60, "ann") | {"Session Duration": logged}
    (tmp_path / "log").write_text(session_log([row]))
    assert [it.end - it.begin for it in read(tmp_path / "log").visits] == [pytest.approx(length, abs=0.01)]


def test_a_line_of_any_length_is_one_line(tmp_path: Path) -> None:
    row = session_log([session_row(datetime(2026, 3, 2, 9), 60, "ann")])
    for encoding in ("utf-8", "utf-16"):
        (tmp_path / "log").write_bytes((row + 3_000_000 * "x" + "\r\n" + "y").encode(encoding))
        history = read(tmp_path / "log")
        assert [it.user for it in history.visits] == ["ann"]
        assert [fault.split(":")[0] for fault in history.faults] == ["log, line 3", "log, line 4"]


def test_a_file_of_another_kind_is_refused_by_name_and_skipped_in_a_folder(tmp_path: Path) -> None:
    other = tmp_path / "Events.log"
    other.write_text("Server Started\tTimestamp\tSeverity\n")
    with pytest.raises(SourceError, match="not a session log"):
        read(other)
    with pytest.raises(SourceError, match="no session log"):
        read(tmp_path)
    (tmp_path / "Sessions.log").write_text(session_log([session_row(datetime(2026, 3, 2, 9), 60, "ann")]))
    assert read(tmp_path).counts["other files"] == 1


def test_a_server_that_sees_one_address_for_everybody_is_reported(tmp_path: Path) -> None:
    rows = [session_row(datetime(2026, 3, 2, 9), 60, user, machine="") for user in ("ann", "bob", "cid")]
    (tmp_path / "Sessions_QVS2_2026.log").write_text(session_log(rows))
    assert read(tmp_path).one_address == {"QVS2"}


def test_an_older_log_without_duration_and_machine_is_read(tmp_path: Path) -> None:
    header = [name for name in HEADER if name not in ("Session Duration", "Client Machine Identification", "Cal Type")]
    (tmp_path / "old").write_text(session_log([session_row(datetime(2026, 3, 2, 9), 60, "ann")], header))
    assert [(it.end - it.begin, it.machine) for it in read(tmp_path / "old").visits] == [(HOUR, "10.0.0.9")]


def test_an_expired_session_was_last_used_before_the_idle_timeout_of_the_server(tmp_path: Path) -> None:
    row = session_row(datetime(2026, 3, 2, 9), 60, "ann", **{"Exit Reason": "Session expired after idle time"})
    (tmp_path / "log").write_text(session_log([row]))
    assert [it.used - it.begin for it in read(tmp_path / "log").visits] == [30 * MINUTE]


def test_a_table_has_optional_columns_open_visits_and_denials(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "user;start;end;machine;kind;what\n"
        "ann;2026-03-02 09:00:00;2026-03-02 10:00:00;pc1;Named User;\n"
        '"bob";2026-03-02 09:30:00;;pc2;;\n'
        "cid;2026-03-02 09:40:00;;pc3;;denied\n"
        "dan;2026-03-02 09:40:00;2026-03-02 09:30:00;pc3;;\n"
        "eve;2026-03-02 09:40:00;2026-03-02 09:50:00;pc3;gold;\n"
    )
    history = read(tmp_path / "t.csv")
    assert [(it.user, it.kind, it.ends) for it in history.visits] == [
        ("ann", "named", "signed-out"),
        ("bob", "session", "open"),
    ]
    assert [(it.user, it.machine) for it in history.denials] == [("cid", "pc3")]
    assert history.faults == [
        "t.csv, line 5: the end is before the start",
        "t.csv, line 6: 'gold' is not a kind of CAL",
    ]


def test_a_w3c_log_has_visits_of_users_who_open_and_use_documents(tmp_path: Path) -> None:
    fields = "#Fields: date time cs-method cs-uri-stem cs-uri-query cs-username c-ip sc-status"
    open_, call = (
        "GET /QvAJAXZfc/opendoc.htm document=Sales.qvw",
        "POST /QvAJAXZfc/QvsViewClient.aspx mark=A&view=Sales.qvw",
    )
    rows = [
        "#Software: Microsoft Internet Information Services 8.5",
        fields,
        f"2026-03-02 08:00:00 {open_} - 10.0.0.1 401",
        f"2026-03-02 08:00:01 {open_} CORP\\ann 10.0.0.1 200",
        f"2026-03-02 08:20:01 {call} corp\\ANN 10.0.0.1 200",
        "2026-03-02 08:25:00 GET /QvAJAXZfc/htc/Qva.js - CORP\\ann 10.0.0.1 200",
        f"2026-03-02 08:26:00 {open_} CORP\\ann 10.0.0.1 404",
        f"2026-03-02 09:20:01 {open_} CORP\\ann 10.0.0.1 200",
        "2026-03-02 09:30:01 GET",
    ]
    (tmp_path / "u_ex260302.log").write_text("\n".join(rows) + "\n")
    history = read_files([tmp_path], BERLIN, document_of=logged_document)
    assert [(it.user, it.begin, it.used) for it in history.visits] == [
        ("corp\\ann", utc(2026, 3, 2, 8, 0, 1), utc(2026, 3, 2, 8, 20, 1)),
        ("corp\\ann", utc(2026, 3, 2, 9, 20, 1), utc(2026, 3, 2, 9, 20, 1)),
    ]
    assert history.counts["without user"] == 1
    assert history.faults == ["u_ex260302.log, line 9: 3 fields, where #Fields has 8"]
    (tmp_path / "u_ex260302.log").write_text("#Fields: date time\n")
    assert read_files([tmp_path], BERLIN).faults == ["u_ex260302.log, line 1: #Fields has no c-ip"]


@pytest.mark.parametrize(
    "start",
    [
        *("1899-12-30 00:00:00", "0001-01-01 00:00:00", "9999-12-31 23:59:59", "9999-12-31T23:59:59+01:00"),
        *("1970-01-01T00:00:00Z", "20260302T090000+9999"),
    ],
)
def test_a_time_in_which_nobody_used_qlikview_is_a_fault_of_its_row_alone(tmp_path: Path, start: str) -> None:
    row = session_row(datetime(2026, 3, 2, 9), 60, "ann")
    (tmp_path / "log").write_text(session_log([row | {"Session Start": start}, row]))
    history = read(tmp_path / "log")
    assert [it.begin for it in history.visits] == [utc(2026, 3, 2, 8)]
    assert [fault.split(":")[0] for fault in history.faults] == ["log, line 2"]


def test_a_visit_of_years_is_a_fault_of_its_row_alone(tmp_path: Path) -> None:
    row = session_row(datetime(2026, 3, 2, 9), 60, "ann")
    ended_long_after = row | {"Session Duration": "", "Timestamp": "2030-03-02 10:00:00"}
    (tmp_path / "log").write_text(session_log([row | {"Session Duration": "9999:00:00"}, ended_long_after, row]))
    assert len(read(tmp_path / "log").visits) == 1
    (tmp_path / "t.csv").write_text("start,end,user\n2026-03-02 09:00:00,2030-03-02 10:00:00,ann\n")
    assert read(tmp_path / "t.csv").faults == ["t.csv, line 2: the visit lasts longer than a year"]


CELLS = st.one_of(
    st.text(max_size=30),
    st.from_regex(r"[0-9./:, TZ+-]{1,25}", fullmatch=True),
    st.sampled_from(["x" * 5000, "nan", "1e400", "²", "2026-03-02 1²:00:00", '"', "2026-10-25 02:30:00", "99:99:99"]),
)


@settings(max_examples=60)
@given(
    st.dictionaries(st.tuples(st.integers(0, 59), st.sampled_from(HEADER)), CELLS, max_size=20), st.binary(max_size=40)
)
def test_no_cell_of_a_log_is_more_than_a_fault_of_its_row(
    tmp_path: Path, changed: dict[tuple[int, str], str], torn: bytes
) -> None:
    begin = datetime(2026, 3, 2, 9)
    rows = [session_row(begin + timedelta(hours=7 * number), 20, f"user{number % 9}") for number in range(60)]
    for (number, column), cell in changed.items():
        rows[number][column] = cell
    (tmp_path / "log").write_bytes(session_log(rows).encode("utf-8", "surrogatepass") + torn)
    history = read_files([tmp_path / "log"], BERLIN, dates="dmy")
    assert len(history.visits) + history.unreadable >= 60 - len(changed)
    assert all(len(fault) < 200 for fault in history.faults)
    with contextlib.suppress(SourceError):
        made = plan.make(history, plan.Options(), Calendar(BERLIN))
        assert text.text(made, with_names=True)
        assert page.html(made, with_names=True)
