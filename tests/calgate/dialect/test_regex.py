"""Patterns over the target: which document they find, and what is refused because servers would read it differently."""

import pytest

from calgate.dialect import Use
from calgate.dialect.regex import Patterns
from calgate.plugin.errors import BadRequest

DOCS = Patterns(
    opens=r"^/docs/(?P<document>[^?]+)", uses=r"/api\?.*doc=(?P<document>[^&]+)", polls=r"/poll/(?P<document>.+)"
)


@pytest.mark.parametrize(
    ("target", "use"),
    [
        ("/docs/Sales/Q1?x=1", Use("open", "sales/q1")),
        ("/DOCS/Sales%20X", Use("open", "sales x")),
        ("/api?a=1&doc=Sales%2FQ1", Use("use", "sales/q1")),
        ("/poll/a", Use("poll", "a")),
        ("/x/docs/a", Use("other")),
        ("/", Use("other")),
    ],
)
def test_pattern_finds_the_document_from_the_start_of_the_path_in_any_case(target: str, use: Use) -> None:
    assert DOCS.classify("GET", target) == use


def test_document_counts_as_opened_by_the_status_with_patterns() -> None:
    assert DOCS.document_opened("/docs/a", 302, b"") is True
    assert DOCS.document_opened("/docs/a", 404, b"") is False


def test_request_is_refused_when_its_document_group_is_empty() -> None:
    with pytest.raises(BadRequest, match="names no document"):
        Patterns(opens="/docs/(?P<document>[a-z]+)?").classify("GET", "/docs/")


@pytest.mark.parametrize(
    "target", ["/api?doc=a&doc=b", "/api?doc=a+b", "/api?doc=..%2Fa", "/docs/../docs/a", "/docs/a/"]
)
def test_request_with_two_readings_is_refused_with_patterns(target: str) -> None:
    with pytest.raises(BadRequest):
        DOCS.classify("GET", target)


SECRET = Patterns(opens=r"^/file\?(?:.*&)?name=(?P<document>[^&]+)")


@pytest.mark.parametrize(
    "query",
    [
        "name=secret.pdf",
        "%6eame=secret.pdf",
        "%6E%61%6d%65=secret.pdf",
        "%u006eame=secret.pdf",
        "NAME=SECRET.PDF",
        "name=%73ecret%2Epdf",
        "name=%u0073ecret.pdf",
        "a=1&%6eame=secret.pdf",
        "b=%FF&c=%C3%A9&name=secret.pdf&&",
    ],
)
def test_parameter_is_found_by_its_name_in_every_escaping(query: str) -> None:
    assert SECRET.classify("GET", f"/file?{query}") == Use("open", "secret.pdf")


@pytest.mark.parametrize(
    "query",
    [
        "name=public.pdf&name=secret.pdf",
        "name=public.pdf&%6eame=secret.pdf",
        "name=public.pdf&%4Eame=secret.pdf",
        "name=public.pdf;name=secret.pdf",
        "x=1;name=secret.pdf",
        "na%E2%80%8Bme=secret.pdf",
        "name%00=secret.pdf",
        "name=secret.pdf%00",
        "name=%uD800",
        "name=secret.pdf&x=100%",
        "name=secret%zz.pdf",
        "name=secret%FF.pdf",
        "name=a+b.pdf",
    ],
)
def test_query_is_refused_when_servers_would_find_different_documents(query: str) -> None:
    with pytest.raises(BadRequest):
        SECRET.classify("GET", f"/file?{query}")


@pytest.mark.parametrize(
    "query", ["x=100%", "x=%FF", "x=a;b", "gr%C3%B6%C3%9Fe=1", "x=1&x=2", "x=a+b", "x=name=secret.pdf", "x=a%26name=b"]
)
def test_query_without_a_document_is_passed_however_it_is_written(query: str) -> None:
    assert SECRET.classify("GET", f"/file?{query}") == Use("other")


def test_second_parameter_of_the_same_name_is_refused_where_the_pattern_sees_only_the_first() -> None:
    anchored = Patterns(opens=r"^/file\?name=(?P<document>[^&]+)")
    assert anchored.classify("GET", "/file?name=a&x=1") == Use("open", "a")
    with pytest.raises(BadRequest, match="more than once"):
        anchored.classify("GET", "/file?name=a&x=1&NAME=b")


def test_loose_pattern_is_refused_when_two_parameters_match_it() -> None:
    loose = Patterns(opens=r"/file\?.*name=(?P<document>[^&]+)")
    assert loose.classify("GET", "/file?x=1&name=secret.pdf") == Use("open", "secret.pdf")
    for query in ("name=secret.pdf&xname=public.pdf", "xname=public.pdf&name=secret.pdf"):
        with pytest.raises(BadRequest, match="two parameters"):
            loose.classify("GET", f"/file?{query}")
    inner = loose.classify("GET", "/file?name=secret.pdf&x=name=public.pdf")
    assert inner == Use("open", "secret.pdf"), "an equals sign in a value is data"


@pytest.mark.parametrize("target", ["/all/secret.pdf?x=1", "/all/secret.pdf?", "/all/secret.pdf"])
def test_document_in_the_path_ends_where_the_path_ends(target: str) -> None:
    assert Patterns(opens="^/all/(?P<document>.+)").classify("GET", target) == Use("open", "secret.pdf")


def test_document_in_the_query_ends_where_its_parameter_ends() -> None:
    greedy = Patterns(opens=r"^/file\?name=(?P<document>.+)")
    assert greedy.classify("GET", "/file?name=secret%26x.pdf&x=1") == Use("open", "secret&x.pdf")


@pytest.mark.parametrize(
    "target",
    ["/docs/secret.pdf.", "/docs/secret.pdf%20", "/docs/secret.pdf::$DATA", "/docs/SECRET~1.PDF", "/docs/a.%C2%A0/b"],
)
def test_windows_alias_of_a_document_is_refused_unless_the_servers_are_not_windows(target: str) -> None:
    with pytest.raises(BadRequest):
        DOCS.classify("GET", target)
    elsewhere = Patterns(opens=r"^/docs/(?P<document>[^?]+)", windows=False)
    assert elsewhere.classify("GET", target).kind == "open"


def test_question_mark_in_a_path_belongs_to_the_name() -> None:
    with pytest.raises(BadRequest):
        DOCS.classify("GET", "/docs/pub%3F/secret.pdf")
    elsewhere = Patterns(opens=r"^/docs/(?P<document>[^?]+)", windows=False)
    assert elsewhere.classify("GET", "/docs/pub%3F/secret.pdf") == Use("open", "pub?/secret.pdf")


def test_host_group_names_the_server_of_the_document() -> None:
    patterns = Patterns(opens=r"^/(?P<host>[^/]+)/docs/(?P<document>[^?]+)", uses=r"^/api\?doc=(?P<document>[^&]+)")
    assert patterns.classify("GET", "/Srv1/docs/A.pdf") == Use("open", "a.pdf", "srv1")
    assert patterns.classify("GET", "/api?doc=a.pdf").host == ""
    in_query = Patterns(opens=r"^/docs/(?P<document>[^?]+)(?:\?(?:.*&)?srv=(?P<host>[^&]+))?")
    assert in_query.classify("GET", "/docs/a.pdf?x=1&%73rv=B").qualified == "b|a.pdf"
    with pytest.raises(BadRequest):
        in_query.classify("GET", "/docs/a.pdf?srv=a&srv=b")
