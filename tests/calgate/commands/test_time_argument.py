"""Times as an administrator writes them."""

import time

import pytest

from calgate.commands.time_argument import read_moment


@pytest.mark.parametrize("text", ["2026-07-10 10:42", "2026-07-10T10:42"])
def test_time_is_read_in_the_sites_zone(text: str) -> None:
    assert read_moment(text, "Europe/Berlin") == 1_783_672_920
    assert read_moment(text, "UTC") == 1_783_672_920 + 2 * 3600


def test_day_alone_means_its_midnight() -> None:
    assert read_moment("2026-07-10", "UTC") == read_moment("2026-07-10 00:00", "UTC")


@pytest.mark.parametrize("text", ["", "now"])
def test_nothing_means_the_present(text: str) -> None:
    before = time.time()
    assert before <= read_moment(text, "UTC") <= time.time()


@pytest.mark.parametrize("text", ["10:42", "yesterday", "2026-13-01 10:00"])
def test_other_texts_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="2026-01-10 10:42"):
        read_moment(text, "UTC")
