"""Numbers are written in the digits 0 to 9: `int`, `float`, `strptime` and `\\d` also read those of other scripts.

Lua and other programs read them in another way or not at all, and two spellings of one value pass by a comparison.
"""

import re
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from calgate.access.hours import parse_hours
from calgate.cli import main
from calgate.commands.domain_dns import resolver_of
from calgate.commands.time_argument import read_moment
from calgate.plugin import Number, parse_duration, parse_group, read_time
from calgate_cal import export_format, lua

CODE = [
    file
    for root in ("gateway", "plugins")
    for file in sorted((Path(__file__).parents[2] / root).rglob("*.py"))
    if "planner" not in file.parts  # reads logs of servers, which may be in any locale
]


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (parse_duration, "٣d"),
        (parse_duration, "1.٤h"),
        (parse_hours, "mon ٠٨:00-18:00"),
        (lambda text: read_time(text, "%Y-%m-%d"), "٢٠٢٦-01-10"),
        (lambda text: read_moment(text, "UTC"), "2026-01-1\uff10 10:42"),
        (resolver_of, "192.0.2.1:٤٣"),
        (resolver_of, "192.0.2.1:dns"),
    ],
)
def test_digits_of_other_scripts_are_refused_with_an_example(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match=r"0 to 9|is written like|are written like|ADDRESS:PORT"):
        read(text)


@pytest.mark.parametrize("text", ["٣", "²", "1_0", " 1", "+1", "", "9" * 5000])
def test_number_of_an_option_has_plain_digits(text: str) -> None:
    with pytest.raises(click.BadParameter, match="0 to 9"):
        Number(0, 10).convert(text, None, None)
    assert Number(0, 10).convert("7", None, None) == 7


@pytest.mark.parametrize(
    "options",
    [
        ("--growth", "٣%"),
        ("--growth", "1_0%"),
        ("--price", "named=٣,session=10"),
        ("--what-if", "usage=٣"),
        ("--since", "٣d"),
    ],
)
def test_options_of_the_planner_take_plain_digits(options: tuple[str, str]) -> None:
    result = CliRunner().invoke(main, ["cals", "plan", *options])
    assert result.exit_code == 2
    assert "not " in result.output


def test_sid_in_other_digits_is_no_sid() -> None:
    assert parse_group("S-1-5-21-1-2-3-1104").form == "sid"
    assert parse_group("S-1-5-21-1-2-3-١١٠٤").form != "sid"


def test_export_in_other_digits_is_refused_as_lua_could_not_read_it() -> None:
    saved = {"version": lua.VERSION, "settings": {"limit:named": "3"}, "leases": []}
    assert export_format.read(saved)[0] == {"limit:named": "3"}
    with pytest.raises(ValueError, match="a setting of the export cannot be read"):
        export_format.read(saved | {"settings": {"limit:named": "٣"}})


def test_commands_read_numbers_and_times_by_the_readers_that_take_plain_digits_only() -> None:
    readers = re.compile(r"click\.(IntRange|FloatRange|INT|FLOAT|DateTime)|type=(int|float)[,)]|\bstrptime\(")
    found = {
        file.name: line.strip()
        for file in CODE
        for line in file.read_text(encoding="utf-8").splitlines()
        if readers.search(line) and file.name != "options.py" and "lent_settings" not in line and "--slot" not in line
    }
    assert list(found) == ["domain_info.py"]  # a time that a domain controller wrote
