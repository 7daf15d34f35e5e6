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
        "%20name=secret.pdf",
        "+name=secret.pdf",
        "name+=secret.pdf",
        "name[]=secret.pdf",
        "name%5B0%5D=secret.pdf",
        "%256eame=secret.pdf",
        "name=%2573ecret.pdf",
        "name=%25u0073ecret.pdf",
        "%c1%aeame=secret.pdf",
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


def test_names_that_php_makes_alike_are_refused() -> None:
    underscored = Patterns(opens=r"^/file\?(?:.*&)?doc_name=(?P<document>[^&]+)")
    for name in ("doc.name", "doc%20name", "doc+name", "%20doc_name", "doc.name[x]"):
        with pytest.raises(BadRequest, match="blank, a dot or a bracket"):
            underscored.classify("GET", f"/file?{name}=a")


def test_parameters_with_brackets_pass_where_none_could_name_the_document() -> None:
    assert SECRET.classify("GET", "/file?name=a.pdf&f[x]=1&f[y]=2") == Use("open", "a.pdf")
    assert SECRET.classify("GET", "/file?f[name]=1&100%25") == Use("other")
    assert SECRET.classify("GET", "/file?name=100%25.pdf") == Use("open", "100%.pdf")


@pytest.mark.parametrize("query", ["x=1&name=a", "name=a&x=1", "x&y=2&NAME=a&"])
def test_order_of_the_parameters_and_further_ones_do_not_hide_the_document(query: str) -> None:
    anchored = Patterns(opens=r"^/file\?name=(?P<document>[^&]+)$")
    assert anchored.classify("GET", f"/file?{query}") == Use("open", "a")
    with pytest.raises(BadRequest, match="more than once"):
        anchored.classify("GET", f"/file?{query}&name=b")


def test_request_with_more_parameters_than_servers_read_is_refused_where_the_query_names_documents() -> None:
    query = "&".join(f"a{number}=1" for number in range(1001))
    with pytest.raises(BadRequest, match="1000"):
        SECRET.classify("GET", f"/file?{query}")
    assert SECRET.classify("GET", f"/other?{query}") == Use("other")


def test_slash_at_the_end_does_not_hide_the_document() -> None:
    for target in ("/file/?name=secret.pdf", "/docs/secret.pdf/", "/docs/secret.pdf/?x=1"):
        for pattern in (r"^/file\?name=(?P<document>[^&]+)", r"^/docs/(?P<document>[^?/]+)$"):
            patterns = Patterns(opens=pattern)
            if patterns.classify("GET", target.replace("/?", "?").removesuffix("/")).kind == "open":
                with pytest.raises(BadRequest, match="slash"):
                    patterns.classify("GET", target)
    assert Patterns(opens=r"^/docs/(?P<document>[^?/]+)$").classify("GET", "/docs/") == Use("other")


URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"


def multipart(*fields: tuple[str, str]) -> bytes:
    parts = [f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields]
    return ("".join(parts) + "--b--\r\n").encode()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"name=secret.pdf", URLENCODED),
        (b"x=1&%6eame=secret.pdf\r\n", f"{URLENCODED}; charset=UTF-8"),
        (multipart(("x", "1"), ("name", "secret.pdf")), MULTIPART),
        (multipart(("NAME", "secret.pdf")), 'Multipart/Form-Data; boundary="b"'),
    ],
)
def test_fields_of_a_form_name_the_document_as_parameters_do(body: bytes, content_type: str) -> None:
    assert SECRET.needs_body("POST", "/file", content_type) > 0
    assert SECRET.classify("POST", "/file", body, content_type) == Use("open", "secret.pdf")
    with pytest.raises(BadRequest, match="more than once"):
        SECRET.classify("POST", "/file?name=public.pdf", body, content_type)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"name=secret.pdf", f"{URLENCODED}; charset=ibm037"),
        (b"name=secret.pdf", f"{URLENCODED}, text/plain"),
        (b"name=secret.pdf", f"{URLENCODED}; charset=utf-8; charset=utf-16"),
        (b"x=1\r\nname=secret.pdf", URLENCODED),
        (b"name=secr\xe9t.pdf", URLENCODED),
        (multipart(("name", "secret.pdf")), "multipart/form-data"),
        (multipart(("name", "secret.pdf")), "multipart/form-data; boundary=a; boundary=b"),
        (multipart(("name", "secret.pdf"))[:-4], MULTIPART),
        (b"x" + multipart(("name", "secret.pdf")), MULTIPART),
        (multipart(('x"; name="name', "secret.pdf")), MULTIPART),
        (multipart(('x"\r\nContent-Disposition: form-data; name="name', "secret.pdf")), MULTIPART),
    ],
)
def test_form_that_servers_read_differently_is_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(BadRequest):
        SECRET.classify("POST", "/file", body, content_type)


def test_body_is_read_only_where_it_could_name_the_document() -> None:
    assert SECRET.needs_body("POST", "/file", "application/json") == 0
    assert SECRET.needs_body("POST", "/upload", MULTIPART) == 0
    assert DOCS.needs_body("POST", "/docs/a", MULTIPART) == 0
    optional = Patterns(opens=r"^/docs/(?P<document>[^?]+)(?:\?(?:.*&)?srv=(?P<host>[^&]+))?")
    assert optional.needs_body("POST", "/docs/a", MULTIPART) > 0
    assert optional.needs_body("POST", "/upload", MULTIPART) == 0
    either = Patterns(opens=r"^/(?:file\?name=|docs/)(?P<document>[^&]+)")
    assert either.needs_body("POST", "/file", MULTIPART) > 0
    upload = multipart(("x", "1")).replace(b'"x"', b'"name"; filename="a"')
    assert SECRET.classify("POST", "/file", upload, MULTIPART) == Use("other"), "a file's contents name nothing"


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
