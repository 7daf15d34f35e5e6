"""The PROXY protocol: what is a complete header, what can still become one, and what never can."""

import contextlib
import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calgate.http.proxy_protocol import NotProxied, parse

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LONGEST_LINE = 107  # bytes, with CRLF (proxy-protocol.txt, 2.1)
LONGEST_BINARY = 16 + 2048
TCP4, TCP6 = 0x11, 0x21
LOCAL, PROXY = 0x20, 0x21


def binary(block: bytes, *, command: int = PROXY, family: int = TCP4) -> bytes:
    """Returns a header of version 2 with this address block."""
    return SIGNATURE + struct.pack(">BBH", command, family, len(block)) + block


def addresses(source: str, destination: str = "") -> bytes:
    """Returns the address block of a connection from `source`, with two ports."""
    packed = ipaddress.ip_address(source).packed
    return packed + (ipaddress.ip_address(destination).packed if destination else packed) + b"\xc8\x22\x01\xbb"


VALID = [
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 443\r\n", "192.0.2.7"),
    (b"PROXY TCP6 2001:DB8:0::7 2001:db8::1 51234 443\r\n", "2001:db8::7"),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 51234 443\r\n", "192.0.2.7"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
    (b"PROXY UNKNOWN ".ljust(LONGEST_LINE - 2, b"x") + b"\r\n", None),
    (binary(addresses("192.0.2.7", "198.51.100.1")), "192.0.2.7"),
    (binary(addresses("2001:db8::7", "2001:db8::1"), family=TCP6), "2001:db8::7"),
    (binary(addresses("::ffff:192.0.2.7"), family=TCP6), "192.0.2.7"),
    (binary(addresses("192.0.2.7") + b"\x04\0\x01x"), "192.0.2.7"),  # with an extension (2.2)
    (binary(addresses("192.0.2.7").ljust(2048, b"\0")), "192.0.2.7"),
    (binary(b"", command=LOCAL, family=0), None),
    (binary(addresses("192.0.2.7"), command=LOCAL), None),
]


@pytest.mark.parametrize(("header", "client"), VALID)
def test_header_gives_its_length_and_the_client_whatever_follows(header: bytes, client: str | None) -> None:
    for following in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", header):
        assert parse(header + following) == (len(header), client)


@pytest.mark.parametrize("header", [header for header, _ in VALID])
def test_header_that_is_still_arriving_is_waited_for_at_every_byte(header: bytes) -> None:
    assert [parse(header[:size]) for size in range(len(header))] == [(0, None)] * len(header)


@pytest.mark.parametrize(
    "start",
    [
        *(b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00", b"\n", b" PROXY", b"proxy TCP4 ", b"PROXZ", b"PROXY\t"),
        *(b"\r\n\r\n\0\r\nQUIT\r", b"\r\r", b"\r\nGET / HTTP/1.1\r\n", SIGNATURE[:4] + b"PROXY "),
    ],
)
def test_connection_that_begins_with_something_else_is_not_proxied_at_once(start: bytes) -> None:
    with pytest.raises(NotProxied, match="does not begin with"):
        parse(start)


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"TCP4", b"TCP4 192.0.2.7 198.51.100.1 51234", b"TCP4 192.0.2.7 198.51.100.1 51234 443 x"),
        *(b"TCP5 192.0.2.7 198.51.100.1 51234 443", b"tcp4 192.0.2.7 198.51.100.1 51234 443"),
        *(b"unknown", b"TCP4  192.0.2.7 198.51.100.1 51234 443", b"TCP4\t192.0.2.7 198.51.100.1 51234 443"),
        *(b"TCP4 192.0.2.256 198.51.100.1 1 2", b"TCP4 192.0.2.07 198.51.100.1 1 2", b"TCP4 localhost ::1 1 2"),
        *(b"TCP4 \xb2.0.0.1 198.51.100.1 1 2", b"TCP6 [2001:db8::7] ::1 1 2", b"TCP4  198.51.100.1 1 2"),
    ],
)
def test_malformed_line_is_not_proxied(line: bytes) -> None:
    with pytest.raises(NotProxied):
        parse(b"PROXY " + line + b"\r\n")


@pytest.mark.parametrize("size", [LONGEST_LINE - 1, LONGEST_LINE, LONGEST_LINE + 1])
def test_line_without_an_end_is_waited_for_up_to_107_bytes(size: int) -> None:
    start = b"PROXY UNKNOWN ".ljust(size, b"x")
    if size < LONGEST_LINE:
        assert parse(start) == (0, None)
        return
    with pytest.raises(NotProxied, match="without an end"):
        parse(start)
    with pytest.raises(NotProxied, match="without an end"):
        parse(start + b"\r\n")


@pytest.mark.parametrize(
    "header",
    [
        binary(addresses("192.0.2.7"), command=0x11),  # version 1 in binary
        binary(addresses("192.0.2.7"), command=0x31),
        binary(addresses("192.0.2.7"), command=0x22),  # neither LOCAL nor PROXY
        binary(addresses("192.0.2.7"), family=0),
        binary(addresses("192.0.2.7"), family=0x12),  # UDP
        binary(b"\0" * 216, family=0x31),  # a Unix socket
        binary(b""),
        binary(addresses("192.0.2.7")[:-1]),
        binary(addresses("192.0.2.7"), family=TCP6),  # the block of IPv4 is too short for IPv6
        binary(addresses("2001:db8::7")[:-1], family=TCP6),
    ],
)
def test_binary_header_without_the_addresses_of_a_tcp_connection_is_not_proxied(header: bytes) -> None:
    with pytest.raises(NotProxied):
        parse(header)


def test_binary_header_that_is_longer_than_is_read_at_once_is_not_waited_for() -> None:
    assert parse(binary(b"\0" * 2048)[:16]) == (0, None)
    with pytest.raises(NotProxied, match="too long"):
        parse(binary(b"\0" * 2049)[:16])
    with pytest.raises(NotProxied, match="too long"):
        parse(SIGNATURE + b"\x20\0\xff\xff")


BINARY_FIELDS = st.tuples(
    st.one_of(st.sampled_from([LOCAL, PROXY]), st.integers(0, 255)),
    st.one_of(st.sampled_from([TCP4, TCP6]), st.integers(0, 255)),
    st.one_of(st.integers(0, 40), st.integers(0, 65_535)),
).map(lambda fields: struct.pack(">BBH", *fields))
STARTS = st.one_of(
    st.binary(max_size=40),
    st.tuples(st.just(SIGNATURE), BINARY_FIELDS, st.binary(max_size=60)).map(b"".join),
    st.tuples(
        st.sampled_from([b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN"]),
        st.one_of(st.binary(max_size=120), st.text("0123456789abcdef:.% ", max_size=120).map(str.encode)),
        st.sampled_from([b"", b" 1 2 3\r\n", b"\r\n", b"\n", b"\r"]),
    ).map(b"".join),
)


@given(start=STARTS)
def test_any_bytes_are_a_header_or_the_start_of_one_or_not_proxied(start: bytes) -> None:
    try:
        length, client = parse(start)
    except NotProxied:
        return
    if not length:
        assert client is None
        assert len(start) < (LONGEST_LINE if start.startswith(b"P") else LONGEST_BINARY)
        return
    assert length <= len(start)
    assert client is None or str(ipaddress.ip_address(client)) == client
    assert parse(start[:length]) == (length, client)
    assert parse(start[: length - 1]) == (0, None)


@given(start=STARTS, more=st.binary(min_size=1, max_size=200))
def test_bytes_that_are_not_proxied_never_become_a_header_by_waiting(start: bytes, more: bytes) -> None:
    with contextlib.suppress(NotProxied):
        parse(start)
        return
    with pytest.raises(NotProxied):
        parse(start + more)
