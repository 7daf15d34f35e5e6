"""Patterns for documents and paths: what they match, and that no name makes them slow."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calgate.paths import compile_glob, fold


def plainly(pattern: str, name: str) -> bool:
    """The same by one regular expression, which is easier to read and may take for ever."""
    translated = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.findall(r"\*\*/|/\*\*$|\*\*|\*|\?|[^*?]", fold(pattern))
    return (
        re.fullmatch("".join(translated.get(part, re.escape(part)) for part in parts), fold(name), re.DOTALL)
        is not None
    )


FOLDER = st.one_of(st.just("**"), st.text("ab*?", max_size=4).filter(lambda text: "**" not in text))


@settings(max_examples=1000)
@given(st.lists(FOLDER, min_size=1, max_size=4), st.text("abAB/", max_size=8))
def test_it_matches_what_one_regular_expression_would(folders: list[str], name: str) -> None:
    pattern = "/".join(folders)
    assert compile_glob(pattern).matches(fold(name)) == plainly(pattern, name), (pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*a*a*a*a*b", "a" * 60_000),
        ("**/*a*a*b", "a" * 30_000 + "/" + "a" * 30_000),
        ("**/a/**/a/**/b", "a/" * 30_000),
        ("**/**/**/**/**/b", "a/" * 30_000),
    ],
)
def test_no_name_that_fits_into_a_request_takes_long(pattern: str, name: str) -> None:
    began = time.process_time()
    assert not compile_glob(pattern).matches(name)
    assert time.process_time() - began < 2


def test_two_stars_stand_alone() -> None:
    for pattern in ("Sales**", "a/**b", "***"):
        with pytest.raises(ValueError, match="alone between slashes"):
            compile_glob(pattern)
