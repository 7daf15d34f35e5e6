"""Header filters: which headers of requests and responses are forwarded, read, dropped and refused."""

from itertools import permutations

import pytest

from calgate.http import headers
from calgate.http.headers import Header, RequestHeaderFilter, RequestHeaders, sort_outbound
from calgate.plugin.errors import BadRequest, HeadersTooLarge

OWNED = frozenset({b"qvuser", b"x-user_name"})
OUR_COOKIES = frozenset({b"calgate", b"__Host-calgate"})
LIMIT = 256 * 1024
NAMES = 1000  # the most spellings that are remembered


@pytest.fixture
def header_filter() -> RequestHeaderFilter:
    return RequestHeaderFilter(OWNED, OUR_COOKIES)


def sort(*raw: Header) -> RequestHeaders:
    return RequestHeaderFilter(OWNED, OUR_COOKIES).sort(raw)


# ---------------------------------------------------------------- requests: forwarded, dropped, refused


def test_other_header_is_forwarded_byte_for_byte_in_its_order() -> None:
    sorted_headers = sort((b"X-b", b"\xff  1"), (b"ACCEPT", b"text/html"), (b"X-b", b""), (b"x-B", b"3"))
    assert sorted_headers.forwarded == b"X-b: \xff  1\r\nACCEPT: text/html\r\nX-b: \r\nx-B: 3\r\n"
    assert sorted_headers.by_name == {b"accept": b"text/html"}
    assert sorted_headers.size == len(b"X-b\xff  1ACCEPTtext/htmlX-bx-B3")


@pytest.mark.parametrize(
    "name",
    [
        *(b"Connection", b"Keep-Alive", b"TE", b"Trailer", b"Transfer-Encoding", b"Upgrade", b"Expect"),
        *(b"HTTP2-Settings", b"Proxy-Authorization", b"Proxy-Connection", b"Proxy-Anything"),
        *(b"Authorization", b"Content-Length", b"Host", b"Forwarded", b"X-Real-IP", b"X-Original-URL"),
        *(
            b"True-Client-IP",
            b"CF-Connecting-IP",
            b"X-Client-IP",
            b"X-Cluster-Client-IP",
            b"Client-IP",
            b"X-Original-Host",
        ),
        *(b"X-Host", b"X-Forwarded", b"Front-End-Https"),
        *(b"X-Rewrite-URL", b"X-Calgate-Secret", b"X-Up-Devcap-Post-Charset"),
        *(b"X-Forwarded-For", b"X-Forwarded-User", b"X-Forwarded-Anything", b"X-Remote-User", b"Remote-User"),
        *(b"QVUSER", b"X-User-Name", b"X-User_Name", b"Remote-User_Name", b"X-Forwarded-_"),
    ],
)
def test_header_of_one_hop_or_of_the_gateway_is_read_and_never_forwarded_in_any_spelling(name: bytes) -> None:
    for spelling in (name, name.lower(), name.upper(), name.swapcase()):
        sorted_headers = sort((spelling, b"close"), (b"X-A", b"1"))
        assert sorted_headers.forwarded == b"X-A: 1\r\n"
        assert sorted_headers.by_name == {name.lower(): b"close"}


@pytest.mark.parametrize("name", [b"X_A", b"QV_USER", b"Content_Length", b"X_Forwarded_For", b"Remote_User", b"_"])
def test_underscore_in_a_name_is_refused_each_time(header_filter: RequestHeaderFilter, name: bytes) -> None:
    for _ in range(2):
        with pytest.raises(BadRequest, match="underscore"):
            header_filter.sort([(name, b"1")])


@pytest.mark.parametrize(
    "name", [b"Authorization", b"Host", b"Content-Length", b"Transfer-Encoding", b"Origin", b"Upgrade"]
)
def test_header_that_may_occur_once_is_refused_twice_even_if_equal(name: bytes) -> None:
    with pytest.raises(BadRequest, match=f"two {name.decode().lower()} headers"):
        sort((name, b"1"), (b"X-A", b"1"), (name.upper(), b"1"))


def test_header_that_is_read_and_occurs_twice_is_a_list() -> None:
    sorted_headers = sort((b"X-Forwarded-For", b"192.0.2.7"), (b"x-forwarded-for", b"10.0.0.1"))
    assert sorted_headers.get(b"x-forwarded-for") == "192.0.2.7, 10.0.0.1"
    assert sorted_headers.get(b"x-forwarded-proto") == ""
    assert sorted_headers.as_text() == {"X-Forwarded-For": "192.0.2.7, 10.0.0.1"}


def test_headers_are_limited_in_total() -> None:
    assert sort((b"X-A", b"a" * (LIMIT - 3))).size == LIMIT
    with pytest.raises(HeadersTooLarge):
        sort((b"X-A", b"a" * (LIMIT - 3)), (b"B", b""))
    with pytest.raises(HeadersTooLarge):
        sort((b"Proxy-Dropped", b"a" * LIMIT))


# ---------------------------------------------------------------- requests: Connection


def test_headers_that_connection_names_are_dropped_in_any_spelling_and_order() -> None:
    sorted_headers = sort(
        *((b"X-A", b"1"), (b"x-a", b"2"), (b"X-B", b"3"), (b"X-C", b"4")),
        *((b"Connection", b" close,X-a\t, ,"), (b"connection", b"x-B , keep-alive")),
    )
    assert sorted_headers.forwarded == b"X-C: 4\r\n"


def test_hop_by_hop_headers_and_options_may_be_named_by_connection() -> None:
    named = b"close, keep-alive, Upgrade, TE, HTTP2-Settings, Proxy-Connection"
    assert sort((b"Connection", named), (b"X-A", b"1")).forwarded == b"X-A: 1\r\n"
    assert sort((b"Connection", b"close"), (b"Close", b"1")).forwarded == b"Close: 1\r\n"


@pytest.mark.parametrize(
    "token",
    [
        *(b"QVUSER", b"x-user-name", b"X-User_Name", b"Authorization", b"Cookie", b"Host", b"Content-Length"),
        *(b"X-Forwarded-For", b"Remote-User", b"Proxy-Anything"),
        *(b"Origin", b"Content-Type", b"Sec-Fetch-Site", b"Sec-WebSocket-Key", b"User-Agent"),
    ],
)
def test_connection_that_names_a_header_of_the_gateway_or_one_that_it_reads_is_refused(token: bytes) -> None:
    with pytest.raises(BadRequest, match="Connection names"):
        sort((b"Connection", b"close, " + token))


# ---------------------------------------------------------------- requests: cookies


def test_cookies_are_split_and_joined_to_one_line_without_ours() -> None:
    cookies = sort((b"Cookie", b"a=1; calgate=x;;b"), (b"cookie", b" c=2=3 ;__Host-calgate=y; a=4")).cookies
    assert cookies.line == b"a=1; b; c=2=3; a=4"
    assert cookies.names == [b"a", b"b", b"c", b"a"]
    assert cookies.ours == {b"calgate": b"x", b"__Host-calgate": b"y"}


def test_cookie_line_is_not_forwarded_as_it_came() -> None:
    sorted_headers = sort((b"Cookie", b"a=1; calgate=x"))
    assert sorted_headers.forwarded == b""
    assert sorted_headers.by_name == {}


def test_two_of_our_cookies_that_differ_are_none_and_equal_ones_are_one() -> None:
    assert sort((b"Cookie", b"calgate=x; calgate=y")).cookies.ours == {b"calgate": b""}
    assert sort((b"Cookie", b"calgate=x; calgate=y; calgate=x")).cookies.ours == {b"calgate": b""}
    assert sort((b"Cookie", b"calgate=x"), (b"Cookie", b"calgate=x")).cookies.ours == {b"calgate": b"x"}


def test_name_of_our_cookie_is_compared_by_case() -> None:
    cookies = sort((b"Cookie", b"Calgate=x; calgate")).cookies
    assert cookies.names == [b"Calgate"]
    assert cookies.ours == {b"calgate": b""}


def test_request_without_cookies_has_none() -> None:
    assert sort((b"X-A", b"1")).cookies is headers.NO_COOKIES


# ---------------------------------------------------------------- remembered names


def test_names_are_remembered_up_to_a_bound_and_then_decided_each_time(header_filter: RequestHeaderFilter) -> None:
    for number in range(NAMES + 50):
        header_filter.sort([(b"x-%d" % number, b"1")])
    assert len(header_filter._known) == NAMES
    late = header_filter.sort([(b"qvuser", b"evil"), (b"X-Late", b"1")])
    assert (late.forwarded, late.by_name) == (b"X-Late: 1\r\n", {b"qvuser": b"evil"})


def test_response_names_are_remembered_up_to_a_bound_and_then_decided_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remembered: dict[bytes, int] = {}
    monkeypatch.setattr(headers, "_outbound_handling", remembered)
    sort_outbound([(b"x-%d" % number, b"1") for number in range(NAMES + 50)])
    assert len(remembered) == NAMES
    assert sort_outbound([(b"Keep-Alive", b"5"), (b"X-Late", b"1")]).kept == [(b"X-Late", b"1")]


def test_orders_of_names_are_remembered_up_to_a_bound_and_decided_alike_each_time(
    header_filter: RequestHeaderFilter,
) -> None:
    for order in permutations([b"Host", b"X-A", b"Cookie", b"QVUSER", b"Accept", b"Accept"]):
        for values in (b"123456", b"abcdef"):
            raw = [(name, values[place : place + 1]) for place, name in enumerate(order)]
            assert same(header_filter.sort(raw), sort(*raw))
        assert len(header_filter._orders) <= 256


def same(one: RequestHeaders, other: RequestHeaders) -> bool:
    """Whether two requests were sorted alike."""
    return all(getattr(one, name) == getattr(other, name) for name in ("forwarded", "cookies", "by_name", "size"))


def test_percent_sign_in_a_name_or_a_value_is_forwarded_as_it_is(header_filter: RequestHeaderFilter) -> None:
    for _ in range(2):
        raw = [(b"X%d-%%", b"%b 100%"), (b"%b", b"%s")]
        assert header_filter.sort(raw).forwarded == b"X%d-%%: %b 100%\r\n%b: %s\r\n"


def test_cookies_of_the_request_before_are_split_again_unless_they_are_the_same(
    header_filter: RequestHeaderFilter,
) -> None:
    first = header_filter.sort([(b"Cookie", b"a=1; calgate=x"), (b"Referer", b"1")])
    again = header_filter.sort([(b"Cookie", b"a=1; calgate=x"), (b"Referer", b"2")], first)
    assert again.cookies is first.cookies
    for others in ([b"a=1; calgate=y"], [b"a=1", b"calgate=x"], [b"a=1; calgate=x", b"b=2"], []):
        raw = [(b"Cookie", value) for value in others]
        assert header_filter.sort(raw, first).cookies == sort(*raw).cookies


def test_long_order_of_names_is_not_remembered(header_filter: RequestHeaderFilter) -> None:
    header_filter.sort([(b"x-%d" % number, b"1") for number in range(1000)])
    assert len(header_filter._orders) == 0


def test_names_that_are_refused_are_refused_each_time(header_filter: RequestHeaderFilter) -> None:
    for _ in range(2):
        with pytest.raises(BadRequest, match="underscore"):
            header_filter.sort([(b"X_A", b"1")])
        with pytest.raises(BadRequest, match="two host headers"):
            header_filter.sort([(b"Host", b"a"), (b"host", b"a")])


# ---------------------------------------------------------------- responses


def test_response_header_is_kept_byte_for_byte_in_its_order() -> None:
    kept = [(b"X-b", b"\xff"), (b"Set-Cookie", b"a=1"), (b"SET-COOKIE", b"b=2"), (b"x-B", b""), (b"X_A", b"1")]
    assert sort_outbound(kept).kept == kept


@pytest.mark.parametrize(
    "name",
    [
        *(b"Connection", b"Keep-Alive", b"TE", b"Trailer", b"Transfer-Encoding", b"Upgrade", b"Content-Length"),
        *(b"Proxy-Authenticate", b"Proxy-Connection", b"Persistent-Auth", b"Alt-Svc"),
    ],
)
def test_response_header_of_one_hop_is_dropped_in_any_spelling(name: bytes) -> None:
    for spelling in (name, name.lower(), name.upper()):
        assert sort_outbound([(spelling, b"close"), (b"X-A", b"1")]).kept == [(b"X-A", b"1")]


@pytest.mark.parametrize("value", [b"Negotiate", b"NTLM", b"ntlm TlRM", b" NEGOTIATE abc", b"Negotiate, Basic"])
def test_offer_of_negotiate_or_ntlm_is_dropped(value: bytes) -> None:
    assert sort_outbound([(b"WWW-Authenticate", value)]).kept == []


def test_offer_of_another_scheme_is_kept() -> None:
    offer = (b"www-authenticate", b'Basic realm="NTLM"')
    assert sort_outbound([(b"WWW-Authenticate", b"NTLM"), offer]).kept == [offer]


def test_response_headers_that_connection_names_are_dropped() -> None:
    raw = [(b"X-A", b"1"), (b"Connection", b"close, x-A"), (b"x-a", b"2"), (b"Connection", b" X-B,"), (b"X-b", b"3")]
    assert sort_outbound([*raw, (b"X-C", b"4")]).kept == [(b"X-C", b"4")]
    assert sort_outbound([(b"Connection", b"Keep-Alive, close, Upgrade"), (b"Close", b"1")]).kept == [(b"Close", b"1")]


@pytest.mark.parametrize("name", [b"Location", b"content-location", b"REFRESH", b"Set-Cookie", b"Link"])
def test_header_that_can_name_the_document_server_is_kept_and_marked(name: bytes) -> None:
    outbound = sort_outbound([(name, b"1"), (b"X-A", b"1")])
    assert (outbound.kept, outbound.may_need_rewrite) == ([(name, b"1"), (b"X-A", b"1")], True)
    assert not sort_outbound([(b"X-Location", b"1")]).may_need_rewrite


def test_date_is_kept_and_noted() -> None:
    outbound = sort_outbound([(b"DATE", b"now")])
    assert (outbound.kept, outbound.has_date) == ([(b"DATE", b"now")], True)
    assert not sort_outbound([(b"X-Date", b"now")]).has_date
