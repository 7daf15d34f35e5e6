"""Names of documents: one spelling, a limit, and a refusal of every name that means another one."""

import time

import pytest

from calgate.dialect.document_names import canonical_document, canonical_host, canonical_name
from calgate.plugin.errors import BadRequest


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("Sales\\Q1.QVW", "sales/q1.qvw"),
        ("売上\u3000表.qvw", "売上\u3000表.qvw"),
        ("Coût\u00a0total.qvw", "coût\u00a0total.qvw"),
        ("Budget 2026~2.qvw", "budget 2026~2.qvw"),
        ("~2.qvws/a.qvw", "~2.qvws/a.qvw"),
        ("a" * 251 + ".qvw", "a" * 251 + ".qvw"),
    ],
)
def test_ordinary_name_is_folded(name: str, canonical: str) -> None:
    assert canonical_name(name) == canonical


@pytest.mark.parametrize(
    "name",
    [
        *("a.qvw\u00a0", "\u3000a.qvw", "a/\u2003/b.qvw", "a.qvw.", "a.qvw ", "PLAN~2.QVW", "a:b", "a|b"),
        *("a\u200b", "a\u2028b", "a\x85", "a\ufdd0", "a\ue000"),
    ],
)
def test_name_is_refused_when_windows_or_the_net_framework_finds_another(name: str) -> None:
    with pytest.raises(BadRequest):
        canonical_name(name)


def test_name_with_a_bar_is_refused_on_every_server() -> None:
    """Rules would read it as the host and the document."""
    with pytest.raises(BadRequest, match="bar"):
        canonical_name("qvs@a|hr.qvw", windows=False)


@pytest.mark.parametrize(
    ("name", "windows", "is_read"),
    [
        ("a" * 255, True, True),
        ("a" * 256, True, False),
        ("\U0001f4c8" * 127, True, True),
        ("\U0001f4c8" * 128, True, False),
        ("a/" * 129 + "b", True, True),
        ("a/" * 129 + "bc", True, False),
        ("é" * 127, False, True),
        ("é" * 128, False, False),
        ("a/" * 2047 + "b", False, True),
        ("a/" * 2048 + "b", False, False),
    ],
)
def test_name_is_refused_when_longer_than_its_file_system_allows(name: str, windows: bool, is_read: bool) -> None:
    if is_read:
        assert canonical_name(name, windows=windows) == name
    else:
        with pytest.raises(BadRequest, match="longer than"):
            canonical_name(name, windows=windows)


def test_name_of_a_quarter_megabyte_is_refused_at_once() -> None:
    def took() -> float:
        began = time.process_time()
        with pytest.raises(BadRequest):
            canonical_name("é/" * 131_072)
        return time.process_time() - began

    assert min(took() for _ in range(5)) < 0.01, "a collection of garbage can take longer, but not each time"


@pytest.mark.parametrize("name", ["a|b", "é", "a\n", "a" * 254])
def test_host_is_refused_when_it_cannot_be_one(name: str) -> None:
    with pytest.raises(BadRequest):
        canonical_host(name)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [(" Sales\\Q1.QVW ", "sales/q1.qvw"), ("QVS@A|HR/Pay.qvw", "qvs@a|hr/pay.qvw")],
)
def test_document_that_an_administrator_writes_is_read_as_requests_name_it(written: str, canonical: str) -> None:
    assert canonical_document(written) == canonical


@pytest.mark.parametrize("written", ["", "QVS@A|", "|a.qvw", "a|b|c.qvw", "a.qvw.", "/a.qvw"])
def test_document_that_no_request_can_name_is_refused(written: str) -> None:
    with pytest.raises(BadRequest):
        canonical_document(written)
