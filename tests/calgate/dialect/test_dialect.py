"""Dialects read hostile targets and bodies; what they say decides who sees which document."""

import gzip
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from calgate.dialect import Use, choose, is_prefetch_or_embed
from calgate.dialect.qlikview import QlikView
from calgate.dialect.regex import Patterns
from calgate.http.target import read_target
from calgate.plugin.errors import BadRequest, Forbidden, Refusal

QV = QlikView()
CALL = "/QvAJAXZfc/QvsViewClient.aspx"


def update(view: str | None = "Sales/Q1.qvw", mark: str = "40e5f854e46ac354", inner: str = "") -> bytes:
    named = "" if view is None else f' view="{view}"'
    return (
        f'<update mark="{mark}" stamp="" cookie="true" scope="Document"{named} ident="null">{inner}</update>'.encode()
    )


def classify(target: str, body: bytes = b"", method: str | None = None, content_type: str = "") -> Use:
    return QV.classify(method or ("POST" if body else "GET"), target, body, content_type)


# ---------------------------------------------------------------- targets


@pytest.mark.parametrize(
    "path",
    [
        "/a%2fb",
        "/a%5Cb",
        "/a\\b",
        "//host/x",
        "/a//b",
        "/a/../b",
        "/a/%2e%2E/b",
        "/./a",
        "/a;b",
        "/a%3Bb",
        "/%2561",
        "/a%00",
        "/a%0d%0a",
        "/a%zz",
        "/a%",
        "/%ff",
        "/a#b",
        "/a b",
        "/\xe9",
        "",
        "?x",
        "a",
        "*",
        "http://h/",
        "/a%E2%80%8B",
    ],
)
def test_a_path_that_servers_read_differently_is_refused(path: str) -> None:
    with pytest.raises(BadRequest):
        read_target(path)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/", "/"),
        ("/a/b.htm", "/a/b.htm"),
        ("/a/", "/a/"),
        ("/%61/b", "/a/b"),
        ("/M%C3%A4rz/", "/März/"),
        ("/.well-known/x", "/.well-known/x"),
        ("/Aster%20Plot/d3.js", "/Aster Plot/d3.js"),
        ("/a?b=//c/../d\\e", "/a"),
    ],
)
def test_a_path_with_one_reading_is_decoded_once(raw: str, path: str) -> None:
    assert read_target(raw).path == path


@given(st.text(st.characters(codec="latin-1"), max_size=60))
def test_any_target_is_read_or_refused(raw: str) -> None:
    try:
        read = read_target("/" + raw)
    except BadRequest:
        return
    assert ".." not in read.segments
    assert "" not in read.segments[:-1]
    assert not {"\\", "%", ";", "\0"} & set(read.path)


# ---------------------------------------------------------------- QlikView: which document


@pytest.mark.parametrize(
    ("target", "document"),
    [
        ("/QvAJAXZfc/opendoc.htm?document=Sales.qvw&host=QVS@demo", "sales.qvw"),
        ("/qvajaxzfc/OPENDOC.HTM?DOCUMENT=Sales%5CQ1.qvw&lang=en-US&host=QVS%40srv", "sales/q1.qvw"),
        ("/QvAJAXZfc/opendoc.htm?document=IAS%2FExecucao.qvw&host=QVS%40x&anonymous=true", "ias/execucao.qvw"),
        ("/QvAJAXZfc/opendoc.htm?document=produ%C3%A7%C3%A3o%5Ctransp.qvw", "produção/transp.qvw"),
        ("/QvAJAXZfc/opendoc.htm?document=sales%20analysis%20-%20daily.qvw", "sales analysis - daily.qvw"),
        ("/QvAJAXZfc/singleobject.htm?document=Sales.qvw&object=CH01", "sales.qvw"),
        ("/QvAJAXZfc/mobile/opendoc.htm?document=Sales.qvw", "sales.qvw"),
        ("/QvPlugin/opendoc.htm?document=Sales.qvw", "sales.qvw"),
        ("/QvAJAXZfc/AccessPoint.aspx?open=&id=QVS%40srv%7CSales%2FPlan.qvw&client=Ajax", "sales/plan.qvw"),
        ("/QvAJAXZfc/opendoc.htm?document=%u0410.qvw", "\u0430.qvw"),
        ("/QvAJAXZfc/opendoc.htm?document=A%2BB.qvw", "a+b.qvw"),
        ("/QvAJAXZfc/opendoc.%68tm?docum%65nt=Sales.qvw", "sales.qvw"),
    ],
)
def test_an_opened_document_is_known_by_one_name(target: str, document: str) -> None:
    assert classify(target) == Use("open", document)


@pytest.mark.parametrize(
    "name",
    [
        "a.qvw&document=b.qvw",
        "a.qvw&Document=b.qvw",
        "",
        "a+b.qvw",
        "..%5Cb.qvw",
        "a/./b.qvw",
        "/a.qvw",
        "%5C%5Csrv%5Ca.qvw",
        "a//b.qvw",
        "a.qvw.",
        "a.qvw%20",
        "SALES~1.QVW",
        "a.qvw::$DATA",
        "c:a.qvw",
        "a%00.qvw",
        "a%E2%80%8B.qvw",
        "a*.qvw",
        "a%FF.qvw",
        "a%zz.qvw",
        "a%E2%80%AEwvq.b",
        "%ud800.qvw",
        "docs%5C%20a.qvw",
    ],
)
def test_a_document_name_with_two_readings_is_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        classify(f"/QvAJAXZfc/opendoc.htm?document={name}")


@given(
    st.text(
        st.characters(codec="utf-8", categories=["L", "N"], include_characters=" -_.+&=%#"), min_size=1, max_size=12
    ),
    st.data(),
)
def test_every_spelling_of_a_name_in_the_query_is_read_as_one_name(name: str, data: st.DataObject) -> None:
    name = f"a/{name}b.qvw"

    def spell(character: str) -> str:
        plain = character.isascii() and character.isalnum()
        ways = [quote(character, safe=""), *([character] if plain else [])]
        if character == "/":
            ways += ["/", "%5C", "\\", "%2f"]
        if ord(character) < 0x10000:
            ways.append(f"%u{ord(character):04X}")
        return data.draw(st.sampled_from(ways))

    loud = "".join(character.upper() if character.isascii() else character for character in name)
    spelled = "".join(map(spell, data.draw(st.sampled_from([name, loud]))))
    try:
        expected = classify(f"/QvAJAXZfc/opendoc.htm?document={quote(name, safe='')}")
    except BadRequest:
        expected = None  # a name that is refused is refused in every spelling
    for written in (spelled, f"{spelled}&host=QVS@x"):
        try:
            read = classify(f"/QvAJAXZfc/opendoc.htm?document={written}")
        except BadRequest:
            read = None
        assert read == expected


@pytest.mark.parametrize("query", ["docu%u006dent=a.qvw&document=b.qvw", "vi%E2%80%8Dew=a.qvw", "view%00=a.qvw"])
def test_a_parameter_cannot_be_named_twice_in_disguise(query: str) -> None:
    with pytest.raises(BadRequest):
        classify(f"{CALL}?{query}")


# ---------------------------------------------------------------- QlikView: open, use, poll


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (update(mark="", inner='<add name="Document.ActiveSheet"/><set name="Document" add="mode;ie6false"/>'), "open"),
        (update(mark="", inner='<poll name="17"/>'), "open"),
        (update(inner='<set name="Document.9.XL" action="" clientsizeWH="1905:945"/>'), "use"),
        (update(inner='<poll name="17"/><set name="Document.5.Input" search="*a*"/>'), "use"),
        (update(inner='<poll name="17" clearcache="true"/><poll name="5"/>'), "poll"),
        (update(), "poll"),
        (b'<?xml version="1.0" encoding="UTF-8"?>' + update(), "poll"),
    ],
)
def test_a_command_opens_uses_or_only_polls(body: bytes, kind: str) -> None:
    target = f"{CALL}?mark=&host=QVS%40srv&view=Sales%5CQ1.qvw&slot=&platform=browser.chrome&dpi=96&xrfkey=abc"
    assert classify(target, body, content_type="text/plain;charset=UTF-8") == Use(kind, "sales/q1.qvw")  # type: ignore[arg-type]


def test_a_command_in_the_query_is_read_as_one_in_the_body() -> None:
    assert classify(f"{CALL}?cmd={quote(update(inner='<set/>'))}") == Use("use", "sales/q1.qvw")
    with pytest.raises(BadRequest, match="two commands"):
        classify(f"{CALL}?cmd={quote(update())}", update("Other.qvw"))


def test_the_older_program_is_read_as_the_newer_one() -> None:
    assert classify("/QvAJAXZfc/QvsViewClient.asp?mark=", update(mark="")).kind == "open"


@pytest.mark.parametrize("written", ["caf%E9%u0410.qvw", "caf%C3%A9%D0%90.qvw", "caf%C3%A9%u0410.qvw"])
def test_the_query_may_name_the_document_as_escape_does_or_in_utf_8(written: str) -> None:
    assert classify(f"{CALL}?view={written}", update("caf\u00e9\u0410.qvw")).document == "caf\u00e9\u0430.qvw"


@pytest.mark.parametrize("query", ["view=Public.qvw", "view=Public.qvw&view=Sales%2FQ1.qvw", "view=", "view=%FF"])
def test_query_and_command_must_name_the_same_document(query: str) -> None:
    with pytest.raises(BadRequest):
        classify(f"{CALL}?{query}", update())


def test_a_call_that_keeps_its_command_back_is_not_judged_by_its_query() -> None:
    for program in (CALL, "/QvAJAXZfc/AccessPoint.aspx"):
        with pytest.raises(BadRequest, match="no command"):
            classify(f"{program}?view=Public.qvw", method="POST")


def test_a_picture_polls_and_an_extension_is_nobodys_document() -> None:
    picture = f"{CALL}?datamode=binary&name=qmem://RP%20Name/x&host=QVS%40srv&slot=&stamp=0&view=Test%20Ext%2FX.qvw"
    assert classify(picture) == Use("poll", "test ext/x.qvw")
    assert classify(f"{CALL}?public=only&name=Extensions/Aster%20Plot/d3.js") == Use("other")
    assert classify(f"{CALL}?public=only&view=Secret.qvw") == Use("poll", "secret.qvw")
    with pytest.raises(BadRequest, match="names no document"):
        classify(f"{CALL}?datamode=binary&name=x")


def test_the_portals_own_commands_open_nothing_unless_they_name_a_document() -> None:
    portal = (
        b'<update mark="" stamp="" scope="Document" ident="AccessPoint" kind="AccessPoint"><set name="a"/></update>'
    )
    assert classify("/QvAJAXZfc/AccessPoint.aspx?mark=&platform=browser.chrome&dpi=96", portal) == Use("other")
    assert classify("/QvAJAXZfc/AccessPoint.aspx?mark=", update("HR.qvw")) == Use("poll", "hr.qvw")
    assert classify("/QvAJAXZfc/AccessPoint.aspx") == Use("other")
    with pytest.raises(BadRequest):
        classify(f"{CALL}?mark=", portal)


@pytest.mark.parametrize("query", ["open=&id=Sales.qvw", "open=", "id=QVS@srv%7C", "open=&id=%7CSales.qvw"])
def test_an_accesspoint_link_without_server_and_document_is_refused(query: str) -> None:
    with pytest.raises(BadRequest):
        classify(f"/QvAJAXZfc/AccessPoint.aspx?{query}")


@pytest.mark.parametrize(
    "body",
    [
        b"<update",
        b"",
        b"view=Sales.qvw",
        b"<other view='a.qvw'/>",
        b"<update view='a.qvw'/><update view='b.qvw'/>",
        b"<update view='a.qvw' view='b.qvw'/>",
        b"<update view='a.qvw' View='b.qvw'/>",
        b"<update view='a.qvw'><update view='b.qvw'/></update>",
        b"<!DOCTYPE update [<!ENTITY e 'b.qvw'>]><update view='&e;'/>",
        b"<?xml version='1.0' encoding='utf-7'?><update view='a.qvw'/>",
        "<update view='a.qvw'/>".encode("utf-16"),
        b"<update view='\xff.qvw'/>",
        b"<update view='a.qvw'/>\0",
        b"\x1f\x8b\x08\x00",
        b"<update view='..\\a.qvw'/>",
    ],
)
def test_a_command_that_cannot_be_read_in_one_way_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        classify(CALL, body, "POST")


@pytest.mark.parametrize("content_type", ["text/xml; charset=utf-7", 'text/xml;CHARSET = "utf-16"', "a;charset="])
def test_a_header_cannot_give_the_command_another_encoding(content_type: str) -> None:
    with pytest.raises(BadRequest):
        classify(CALL, update(), content_type=content_type)


@given(st.binary(max_size=200))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    for wrapped in (body, b"<update view='a.qvw'>" + body + b"</update>"):
        try:
            use = classify(CALL, wrapped, "POST")
        except Refusal:
            continue
        assert use.document


def test_only_calls_need_their_body_read() -> None:
    assert QV.needs_body("POST", f"{CALL}?mark=") > 0
    assert QV.needs_body("GET", "/QvAjaxZfc/qvsviewclient.ASPX") > 0, "a server may read the body of a GET as well"
    assert QV.needs_body("POST", "/QvAJAXZfc/opendoc.htm") == 0
    assert QV.needs_body("POST", "/upload") == 0


# ---------------------------------------------------------------- QlikView: never


@pytest.mark.parametrize(
    "target",
    [
        "/QvAJAXZfc/GetWebTicket.aspx",
        "/qvajaxzfc/GETWEBTICKET.ASPX?x",
        "/QvAJAXZfc/GetWeb%54icket.aspx",
        "/x/getwebticket.aspx",
        "/QvAJAXZfc/GetWebTicket.aspx/",
        "/QvAJAXZfc/GetWebTicket.aspx/x.js",
        "/(S(a))/QvAJAXZfc/GetWebTicket.aspx",
        "/scripts/QVSTunnel.dll",
        "/QvAJAXZfc/qvstunnel.dll/x",
        "/QvAJAXZfc/Authenticate.aspx?type=html&webticket=abc",
        "/QvAJAXZfc/authenticate.aspx?WebTicket=abc",
        "/QvAJAXZfc/authenticate.aspx?%77ebticket",
        "/docs/Sales.qvw",
        "/QvAJAXZfc/unknown.aspx",
        "/QvAJAXZfc/x.asmx",
        "/QvAJAXZfc/web.config",
        "/QvAJAXZfc/htc/x",
        "/QvAJAXZfc/a.htm.exe",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_what_could_go_past_the_gateway_is_forbidden(target: str, method: str) -> None:
    with pytest.raises(Forbidden):
        QV.classify(method, target)


@pytest.mark.parametrize(
    "target",
    [
        "/QvAJAXZfc/GetWebTicket.aspx.",
        "/QvAJAXZfc/GetWebTicket.aspx%20",
        "/QvAJAXZfc/GETWEB~1.ASP",
        "/QvAJAXZfc/x::$DATA",
        "/QvAJAXZfc/GetWebTicket.aspx%E2%80%8B",
        "/QvAJAXZfc/QvsViewClient.aspx/x.js?view=a.qvw",
        "/QvAJAXZfc/a%2525",
        "/QvAJAXZfc/GetWebTicket.aspx;x",
        "/QvAJAXZfc%5CGetWebTicket.aspx",
        "/x./QvAJAXZfc/opendoc.htm?document=a.qvw",
    ],
)
def test_windows_other_spellings_of_a_path_are_refused(target: str) -> None:
    with pytest.raises(BadRequest):
        classify(target)


def test_a_sign_in_of_qlikviews_own_is_forbidden_and_its_plain_form_is_not() -> None:
    with pytest.raises(Forbidden):
        classify("/QvAJAXZfc/Authenticate.aspx", b"user=a&password=b")
    assert classify("/QvAJAXZfc/Authenticate.aspx?type=html&try=/qlikview&back=") == Use("other")


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/qlikview/",
        "/qlikview/index.htm",
        "/QvAJAXZfc/htc/Qva.js?v=1",
        "/QvAJAXZfc/opendoc.htm",
        "/QvAJAXZfc/",
        "/live",
    ],
)
def test_the_portal_and_the_clients_files_need_no_cal(target: str) -> None:
    assert classify(target) == Use("other")


# ---------------------------------------------------------------- QlikView: words


def test_a_refused_call_is_told_in_the_clients_own_xml() -> None:
    written = QV.write_refusal("POST", f"{CALL}?mark=", 'All 6 "Session" CALs are <in use> & busy')
    assert written is not None
    assert written.content_type == "text/xml; charset=utf-8"
    assert b"<message text='All 6 \"Session\" CALs are &lt;in use&gt; &amp; busy'/>" in written.body
    assert QV.write_refusal("GET", "/QvAJAXZfc/opendoc.htm?document=a.qvw", "no") is None
    assert QV.write_refusal("GET", f"{CALL}?datamode=binary&view=a.qvw", "no") is None


@pytest.mark.parametrize(
    ("target", "status", "answer", "opened"),
    [
        (CALL, 200, b'<?xml version="1.0"?><result mark="40e5f854e46ac354" stamp="1"><object/></result>', True),
        (CALL, 200, b"<result mark='40e5' stamp='1'><message text='Data was reloaded'/></result>", True),
        (CALL, 200, b'<result><message text="Failed to open document"/></result>', False),
        (CALL, 200, b'<result mark="" stamp=""><message text="Failed to open document"/></result>', False),
        (CALL, 200, gzip.compress(b'<result><message text="Failed to open document"/></result>'), False),
        (CALL, 200, b"", None),
        (f"{CALL}?mark=&view=a.qvw", 200, b"", None),
        (f"{CALL}?mark=40e5f854e46ac354&view=a.qvw", 200, b"", True),
        (f"{CALL}?mark=40e5f854e46ac354", 200, b'<result><message text="Session lost"/></result>', False),
        (CALL, 404, b"", False),
        ("/QvAJAXZfc/opendoc.htm?document=a.qvw", 200, b"<html>", None),
        ("/QvAJAXZfc/opendoc.htm?document=a.qvw", 404, b"<html>", False),
        ("/QvAJAXZfc/AccessPoint.aspx?open=&id=QVS@a%7Cb.qvw", 302, b"", None),
    ],
)
def test_only_the_answer_to_a_call_tells_that_a_document_was_opened(
    target: str, status: int, answer: bytes, opened: bool | None
) -> None:
    assert QV.document_opened(target, status, answer) is opened


def test_the_servers_own_want_of_a_cal_is_recognised() -> None:
    answer = b'<result><message text="Access denied! The server (QVS) has no USER CAL for your account."/></result>'
    packed = gzip.compress(answer + b" " * 100_000)
    for start in (answer, packed, packed[:-20]):
        assert QV.reports_missing_cal(CALL, start)
    for start in (b"<result><object/></result>", b"", b"\x1f\x8brubbish", gzip.compress(b"x" * 10_000_000)):
        assert not QV.reports_missing_cal(CALL, start)
    assert not QV.reports_missing_cal("/QvAJAXZfc/htc/help.htm", answer), "a page may speak of it"


# ---------------------------------------------------------------- patterns

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
def test_patterns_find_the_document_from_the_start_of_the_path_in_any_case(target: str, use: Use) -> None:
    assert DOCS.classify("GET", target) == use


def test_elsewhere_the_status_tells() -> None:
    assert DOCS.document_opened("/docs/a", 302, b"") is True
    assert DOCS.document_opened("/docs/a", 404, b"") is False


def test_a_pattern_that_matches_without_a_document_is_a_request_without_one() -> None:
    with pytest.raises(BadRequest, match="names no document"):
        Patterns(opens="/docs/(?P<document>[a-z]+)?").classify("GET", "/docs/")


@pytest.mark.parametrize(
    "target", ["/api?doc=a&doc=b", "/api?doc=a+b", "/api?doc=..%2Fa", "/docs/../docs/a", "/docs/a/"]
)
def test_patterns_refuse_what_has_two_readings(target: str) -> None:
    with pytest.raises(BadRequest):
        DOCS.classify("GET", target)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"name": "qlickview"}, "there is no dialect 'qlickview'"),
        ({"name": "qlikview", "opens": "/x"}, "not both"),
        ({"name": None, "opens": "^/docs/(.*)"}, "which part is the document"),
        ({"name": None, "polls": "(?P<document>"}, "polls is no regular expression"),
        ({"name": None, "uses": "docs/(?P<document>.*)"}, "must begin"),
    ],
)
def test_a_dialect_that_cannot_be_meant_is_a_fault_of_the_file(settings: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        choose(**settings)


def test_a_route_has_qlikview_or_patterns_or_no_dialect() -> None:
    qlikview, patterns = choose("qlikview"), choose(None, opens="/(?P<document>.+)")
    assert qlikview is not None
    assert patterns is not None
    assert qlikview.classify("GET", "/QvAJAXZfc/opendoc.htm?document=a.qvw") == Use("open", "a.qvw")
    assert patterns.classify("GET", "/a.qvw") == Use("open", "a.qvw")
    assert choose(None) is None


def test_what_is_remembered_of_a_target_never_answers_for_its_body_its_method_or_its_encoding() -> None:
    dialect = choose("qlikview")
    assert dialect is not None
    target = f"{CALL}?view=Sales%2FQ1.qvw"
    assert dialect.classify("GET", target) == Use("poll", "sales/q1.qvw")
    assert dialect.classify("POST", target, update(mark="")) == Use("open", "sales/q1.qvw")
    assert dialect.classify("GET", target) == Use("poll", "sales/q1.qvw")
    with pytest.raises(BadRequest):
        dialect.classify("POST", target, update("HR.qvw"))
    with pytest.raises(BadRequest):
        dialect.classify("GET", target, content_type="text/xml; charset=utf-7")
    assert dialect.classify("GET", "/QvAJAXZfc/Authenticate.aspx") == Use("other")
    with pytest.raises(Forbidden):
        dialect.classify("POST", "/QvAJAXZfc/Authenticate.aspx")
    long = f"/QvAJAXZfc/opendoc.htm?document=a.qvw&x={'x' * 600}"
    assert dialect.classify("GET", long) == Use("open", "a.qvw")
    assert dialect.needs_body("GET", long) == 0
    assert dialect.needs_body("POST", target) > 0


# ---------------------------------------------------------------- what never claims


@pytest.mark.parametrize(
    ("method", "headers", "never"),
    [
        ("GET", {}, False),
        ("POST", {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, False),
        ("GET", {"sec-fetch-site": "cross-site", "Sec-Fetch-Mode": "navigate"}, False),
        ("GET", {"sec-fetch-site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, True),
        ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, True),
        ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}, False),
        ("GET", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, False),
        ("GET", {"Sec-Purpose": "prefetch;prerender"}, True),
        ("GET", {"purpose": "prefetch"}, True),
        ("HEAD", {}, True),
        ("OPTIONS", {}, True),
    ],
)
def test_nothing_that_nobody_asked_to_see_claims(method: str, headers: dict[str, str], never: bool) -> None:
    assert is_prefetch_or_embed(method, CIMultiDict(headers)) is never
