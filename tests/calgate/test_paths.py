"""Patterns for documents and paths: what they match, and that no name makes them slow."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calgate.paths import compile_document, compile_glob, fold


def plainly(pattern: str, name: str) -> bool:
    """Matches by one regular expression, which is easier to read and can take for ever."""
    translated = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.findall(r"\*\*/|/\*\*$|\*\*|\*|\?|[^*?]", fold(pattern))
    return (
        re.fullmatch("".join(translated.get(part, re.escape(part)) for part in parts), fold(name), re.DOTALL)
        is not None
    )


FOLDER = st.one_of(st.just("**"), st.text("ab*?", max_size=4).filter(lambda text: "**" not in text))


@settings(max_examples=1000)
@given(st.lists(FOLDER, min_size=1, max_size=4), st.text("abAB/", max_size=8))
def test_glob_matches_what_one_regular_expression_would(folders: list[str], name: str) -> None:
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
def test_glob_takes_linear_time_for_the_longest_name_of_a_request(pattern: str, name: str) -> None:
    began = time.process_time()
    assert not compile_glob(pattern).matches(name)
    assert time.process_time() - began < 2


def test_glob_is_refused_when_two_stars_do_not_stand_alone() -> None:
    for pattern in ("Sales**", "a/**b", "***"):
        with pytest.raises(ValueError, match="alone between slashes"):
            compile_glob(pattern)


@pytest.mark.parametrize(
    ("pattern", "document", "matches"),
    [
        ("HR/**", "qvs@a|hr/pay.qvw", True),
        ("HR/**", "hr/pay.qvw", True),
        ("QVS@A|HR/**", "qvs@a|hr/pay.qvw", True),
        ("QVS@A|HR/**", "qvs@b|hr/pay.qvw", False),
        ("QVS@*|HR/**", "qvs@b|hr/pay.qvw", True),
        ("QVS@A|HR/**", "qvs@a|sales.qvw", False),
    ],
)
def test_document_pattern_means_any_host_unless_it_names_one(pattern: str, document: str, matches: bool) -> None:
    for on_unknown_host in (True, False):
        assert compile_document(pattern).matches(document, on_unknown_host=on_unknown_host) is matches


def test_document_without_a_host_matches_a_pattern_with_one_as_the_caller_decides() -> None:
    pattern = compile_document("QVS@A|HR/**")
    assert pattern.matches("hr/pay.qvw", on_unknown_host=True)
    assert not pattern.matches("hr/pay.qvw", on_unknown_host=False)
    assert not pattern.matches("sales.qvw", on_unknown_host=True)


@pytest.mark.parametrize("pattern", ["|HR/**", "a|b|c"])
def test_document_pattern_is_refused_when_its_bar_divides_nothing(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"host\|document"):
        compile_document(pattern)
