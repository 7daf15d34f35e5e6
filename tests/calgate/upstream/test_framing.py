"""The second look at a response's head."""

import pytest

from calgate.http.headers import Header, sort_outbound
from calgate.plugin.errors import BadGateway
from calgate.upstream.framing import check_status_line, read_framing

CHUNKED = (b"Transfer-Encoding", b"chunked")
THREE = (b"Content-Length", b"3")


@pytest.mark.parametrize(
    ("headers", "framing"),
    [([], (None, False)), ([THREE], (3, False)), ([CHUNKED], (None, True)), ([(b"CONTENT-LENGTH", b"0")], (0, False))],
)
def test_framing_is_read_from_the_headers(headers: list[Header], framing: tuple[int | None, bool]) -> None:
    assert read_framing(sort_outbound([(b"Date", b"now"), *headers]), "1.1") == framing


@pytest.mark.parametrize(
    "headers",
    [
        [THREE, CHUNKED],
        [THREE, THREE],
        [THREE, (b"content-length", b"4")],
        [CHUNKED, CHUNKED],
        *([(b"Transfer-Encoding", value)] for value in (b"gzip, chunked", b"identity", b"Chunked", b"chunked,chunked")),
        *([(b"Content-Length", value)] for value in (b"+3", b"-3", b"0x3", b"3, 3", b"", b"\xb2", b"3 ")),
    ],
)
def test_ambiguous_framing_is_refused(headers: list[Header]) -> None:
    with pytest.raises(BadGateway):
        read_framing(sort_outbound(headers), "1.1")


def test_chunks_are_refused_in_http_1_0() -> None:
    with pytest.raises(BadGateway):
        read_framing(sort_outbound([CHUNKED]), "1.0")


@pytest.mark.parametrize(("version", "status", "reason"), [("1.1", 200, b"OK"), ("1.0", 599, b""), ("1.1", 100, b"\t")])
def test_status_line_of_http_1_is_accepted(version: str, status: int, reason: bytes) -> None:
    check_status_line(version, status, reason)


@pytest.mark.parametrize(
    ("version", "status", "reason"),
    [("2.0", 200, b"OK"), ("0.9", 200, b""), ("1.1", 99, b""), ("1.1", 600, b""), ("1.1", 200, b"O\0K")],
)
def test_other_status_lines_are_refused(version: str, status: int, reason: bytes) -> None:
    with pytest.raises(BadGateway):
        check_status_line(version, status, reason)
