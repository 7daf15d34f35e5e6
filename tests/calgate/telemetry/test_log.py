"""The lines of the log, as JSON and for a console."""

import json
import logging
import re
from collections.abc import Iterator
from typing import Literal

import pytest

from calgate.telemetry import log

DECISION = {"reference": "7K3F-9Q2M", "user": "DEMO\\alice", "empty": "", "absent": None, "ms": 1.5}


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leaves logging as it was found."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    log.start("json", "info")
    root.handlers[:] = handlers
    root.setLevel(level)


def written(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_decision_is_one_line_of_json_without_its_empty_fields(capsys: pytest.CaptureFixture[str]) -> None:
    log.start("json", "info")
    log.decision("denied", **DECISION)
    (line,) = written(capsys)
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found == {"level": "info", "event": "denied", "reference": "7K3F-9Q2M", "user": "DEMO\\alice", "ms": 1.5}


def test_console_line_quotes_values_with_blanks_only(capsys: pytest.CaptureFixture[str]) -> None:
    log.start("console", "info")
    log.decision("denied", reason="no CAL left", code="no-cal")
    (line,) = written(capsys)
    assert line.endswith('Z info    denied reason="no CAL left" code=no-cal')


def test_exception_is_a_part_of_its_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.start("json", "info")
    try:
        raise ValueError("one\ntwo")
    except ValueError:
        logging.getLogger("calgate.test").exception("failed")
    (line,) = written(capsys)
    assert json.loads(line)["error"].endswith("ValueError: one\ntwo")


@pytest.mark.parametrize(("level", "expected"), [("debug", 3), ("info", 2), ("warning", 1)])
def test_core_and_plugins_log_from_the_sites_level_and_libraries_from_warning(
    capsys: pytest.CaptureFixture[str], level: Literal["debug", "info", "warning"], expected: int
) -> None:
    log.start("json", level, ["a_strangers_plugin"])
    for name in ("calgate.part", "a_strangers_plugin.part"):
        logger = logging.getLogger(name)
        logger.debug("token")
        logger.info("step")
        logger.warning("problem")
        assert len(written(capsys)) == expected
    library = logging.getLogger("some_library")
    library.debug("token")
    library.info("step")
    assert written(capsys) == []


def test_request_is_written_only_if_the_access_log_is_on(capsys: pytest.CaptureFixture[str]) -> None:
    log.start("json", "info")
    log.access(path="/x")
    assert (written(capsys), log.logs_access()) == ([], False)
    log.start("json", "info", access=True)
    log.access(path="/x")
    (line,) = written(capsys)
    assert json.loads(line) | {"time": ""} == {
        "time": "",
        "level": "info",
        "event": "request",
        "logger": "calgate.access",
        "path": "/x",
    }


def test_reference_numbers_have_no_letters_that_are_confused_over_a_telephone() -> None:
    numbers = {log.reference() for _ in range(200)}
    assert len(numbers) == 200
    assert all(re.fullmatch(r"[2-9A-HJKMNP-Z]{4}-[2-9A-HJKMNP-Z]{4}", number) for number in numbers)


# ---------------------------------------------------------------- what strangers write

HOSTILE = [
    ("a\nb", "\\u000a"),
    ("\x1b[2J", "\\u001b"),
    ("\x9b31m", "\\u009b"),  # C1: a terminal takes it for an escape sequence
    ("exe.\u202efdp", "\\u202e"),  # the rest of the line from right to left
    ("\u2066x\u2069", "\\u2069"),
    ("a\u2028b", "\\u2028"),
    ("\u200bhidden", "\\u200b"),
    ("\ud800", "\\ud800"),  # half a character, which no encoding can write
    ("\U000e0041", "\\U000e0041"),
]


@pytest.mark.parametrize(("text", "escaped"), HOSTILE)
@pytest.mark.parametrize("form", ["json", "console"])
def test_control_and_direction_characters_are_escaped_in_every_kind_of_line(
    capsys: pytest.CaptureFixture[str], form: Literal["json", "console"], text: str, escaped: str
) -> None:
    log.start(form, "info", access=True)
    logger = logging.getLogger("calgate.test")
    log.decision("denied", user=text)
    log.access(path=text)
    logger.warning("a message about %s", text)
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("failed")
    output = capsys.readouterr().err
    assert not log._HIDDEN.search(output.replace("\n", ""))
    if form == "json":
        first, second, third, fourth = map(json.loads, output.splitlines())
        assert first["user"] == second["path"] == text, "a program reads what it was"
        assert third["event"] == f"a message about {text}"
        assert fourth["error"].endswith(f"ValueError: {text}")
    else:
        expected = "\\n" if text == "a\nb" else escaped
        assert all(expected in line or escaped in line for line in output.splitlines()[:3])


@pytest.mark.parametrize("form", ["json", "console"])
def test_field_of_30_kb_is_cut(capsys: pytest.CaptureFixture[str], form: Literal["json", "console"]) -> None:
    log.start(form, "info", access=True)
    log.decision("sign-in failed", reason="x" * 30_000)
    log.access(path="/" + "x" * 30_000)
    logging.getLogger("calgate.test").warning("about %s", "x" * 30_000)
    lines = written(capsys)
    assert len(lines) == 3
    assert all(len(line) < 2_500 for line in lines)
    assert "(30000 characters)" in lines[0]
