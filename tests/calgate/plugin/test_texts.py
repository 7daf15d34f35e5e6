"""Cells that administrators open in a spreadsheet, with names that users chose."""

import pytest

from calgate.plugin import spreadsheet_cell


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t'=1"),
        ("\r\n=1", "'\r'\n'=1"),
        (" =1", "' =1"),
        ("\u3000\uff1d1", "'\u3000\uff1d1"),
        ("\uff0b1", "'\uff0b1"),
        ("a;=1+1", "a;'=1+1"),
        ("a\t@x", "a\t'@x"),
    ],
)
def test_cell_that_a_spreadsheet_would_run_becomes_text(name: str, cell: str) -> None:
    assert spreadsheet_cell(name) == cell


@pytest.mark.parametrize("value", ["sales.qvw", "a=b", "a-b; c", "Q1 (+5%)", "", 5, None])
def test_any_other_cell_stays_as_it_is(value: object) -> None:
    assert spreadsheet_cell(value) == value
