"""QlikView's requests: which document, opened, used or polled, and what is never forwarded."""

import gzip
from typing import Literal
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calgate.dialect import Use
from calgate.dialect.qlikview import QlikView
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


# ---------------------------------------------------------------- which document


@pytest.mark.parametrize(
    ("target", "document"),
    [
        ("/QvAJAXZfc/opendoc.htm?document=Sales.qvw&host=QVS@demo", "qvs@demo|sales.qvw"),
        ("/qvajaxzfc/OPENDOC.HTM?DOCUMENT=Sales%5CQ1.qvw&lang=en-US&host=QVS%40srv", "qvs@srv|sales/q1.qvw"),
        ("/QvAJAXZfc/opendoc.htm?document=IAS%2FExecucao.qvw&host=QVS%40x&anonymous=true", "qvs@x|ias/execucao.qvw"),
        ("/QvAJAXZfc/opendoc.htm?document=produ%C3%A7%C3%A3o%5Ctransp.qvw", "produção/transp.qvw"),
        ("/QvAJAXZfc/opendoc.htm?document=sales%20analysis%20-%20daily.qvw", "sales analysis - daily.qvw"),
        ("/QvAJAXZfc/singleobject.htm?document=Sales.qvw&object=CH01", "sales.qvw"),
        ("/QvAJAXZfc/mobile/opendoc.htm?document=Sales.qvw", "sales.qvw"),
        ("/QvPlugin/opendoc.htm?document=Sales.qvw", "sales.qvw"),
        ("/QvAJAXZfc/AccessPoint.aspx?open=&id=QVS%40srv%7CSales%2FPlan.qvw&client=Ajax", "qvs@srv|sales/plan.qvw"),
        ("/QvAJAXZfc/opendoc.htm?document=%u0410.qvw", "\u0430.qvw"),
        ("/QvAJAXZfc/opendoc.htm?document=%uD83D%uDCC8.qvw", "\U0001f4c8.qvw"),
        ("/QvAJAXZfc/opendoc.htm?document=%E5%A3%B2%E4%B8%8A%E3%80%80%E8%A1%A8.qvw", "売上\u3000表.qvw"),
        ("/QvAJAXZfc/opendoc.htm?document=Co%C3%BBt%C2%A0: total.qvw".replace(": ", "%20"), "coût\u00a0 total.qvw"),
        ("/QvAJAXZfc/opendoc.htm?document=Budget%202026~2.qvw", "budget 2026~2.qvw"),
        ("/QvAJAXZfc/opendoc.htm?document=a.qvw&host=", "a.qvw"),
        ("/QvAJAXZfc/opendoc.htm?document=A%2BB.qvw", "a+b.qvw"),
        ("/QvAJAXZfc/opendoc.%68tm?docum%65nt=Sales.qvw", "sales.qvw"),
    ],
)
def test_opened_document_has_one_name_in_every_spelling_of_its_url(target: str, document: str) -> None:
    use = classify(target)
    assert (use.kind, use.qualified) == ("open", document)


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
        "REPORT~1/a.qvw",
        "SA1B2C~1.QVW",
        "a.qvw%C2%A0",
        "a.qvw%E3%80%80",
        "%E3%80%80a.qvw",
        "docs%C2%A0/a.qvw",
        "a%7Cb.qvw",
        "%uD83Dx.qvw",
        "%uDCC8%uD83D.qvw",
        "a.qvw&host=QVS@a&host=QVS@b",
        "a.qvw&host=QVS%E2%80%8B@a",
        "a.qvw&host=QVS%7Ca",
        "a.qvw&host=QVS+a",
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
def test_document_name_with_two_readings_is_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        classify(f"/QvAJAXZfc/opendoc.htm?document={name}")


@given(
    st.text(
        st.characters(codec="utf-8", categories=["L", "N"], include_characters=" -_.+&=%#"), min_size=1, max_size=12
    ),
    st.data(),
)
def test_document_name_is_the_same_in_every_escaping(name: str, data: st.DataObject) -> None:
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
    try:
        read = classify(f"/QvAJAXZfc/opendoc.htm?document={spelled}&xhost=QVS@x")
    except BadRequest:
        read = None
    assert read == expected


@pytest.mark.parametrize("query", ["docu%u006dent=a.qvw&document=b.qvw", "vi%E2%80%8Dew=a.qvw", "view%00=a.qvw"])
def test_parameter_name_is_refused_when_it_is_disguised(query: str) -> None:
    with pytest.raises(BadRequest):
        classify(f"{CALL}?{query}")


# ---------------------------------------------------------------- open, use, poll


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (update(mark="", inner='<add name="Document.ActiveSheet"/><set name="Document" add="mode;ie6false"/>'), "open"),
        (update(mark="", inner='<poll name="17"/>'), "open"),
        (update(inner='<set name="Document.9.XL" action="" clientsizeWH="1905:945"/>'), "use"),
        (update(inner='<poll name="17"/><set name="Document.5.Input" search="*a*"/>'), "use"),
        (update(inner='<poll name="17" clearcache="true"/><poll name="5"/>'), "poll"),
        (update(inner='<poll><set name="Document.5.Input"/></poll>'), "use"),
        (update(), "poll"),
        (b'<?xml version="1.0" encoding="UTF-8"?>' + update(), "poll"),
    ],
)
def test_command_opens_uses_or_polls_by_its_mark_and_elements(
    body: bytes, kind: Literal["open", "use", "poll"]
) -> None:
    target = f"{CALL}?mark=&host=QVS%40srv&view=Sales%5CQ1.qvw&slot=&platform=browser.chrome&dpi=96&xrfkey=abc"
    assert classify(target, body, content_type="text/plain;charset=UTF-8") == Use(kind, "sales/q1.qvw", "qvs@srv")


def test_command_in_the_query_is_read_like_one_in_the_body() -> None:
    assert classify(f"{CALL}?cmd={quote(update(inner='<set/>'))}") == Use("use", "sales/q1.qvw")
    with pytest.raises(BadRequest, match="two commands"):
        classify(f"{CALL}?cmd={quote(update())}", update("Other.qvw"))


def test_older_program_is_read_like_the_newer_one() -> None:
    assert classify("/QvAJAXZfc/QvsViewClient.asp?mark=", update(mark="")).kind == "open"


@pytest.mark.parametrize("written", ["caf%E9%u0410.qvw", "caf%C3%A9%D0%90.qvw", "caf%C3%A9%u0410.qvw"])
def test_query_name_matches_the_command_when_escaped_by_javascript_or_in_utf_8(written: str) -> None:
    assert classify(f"{CALL}?view={written}", update("caf\u00e9\u0410.qvw")).document == "caf\u00e9\u0430.qvw"


@pytest.mark.parametrize(
    "query", ["view=Public.qvw", "view=Public.qvw&view=Sales%2FQ1.qvw", "view=", "view=%FF", "view=%uD800"]
)
def test_command_is_refused_when_the_query_names_another_document(query: str) -> None:
    with pytest.raises(BadRequest):
        classify(f"{CALL}?{query}", update())


def test_call_is_refused_when_its_command_is_kept_back() -> None:
    for program in (CALL, "/QvAJAXZfc/AccessPoint.aspx"):
        with pytest.raises(BadRequest, match="no command"):
            classify(f"{program}?view=Public.qvw", method="POST")


def test_picture_polls_and_extension_file_has_no_document() -> None:
    picture = f"{CALL}?datamode=binary&name=qmem://RP%20Name/x&host=QVS%40srv&slot=&stamp=0&view=Test%20Ext%2FX.qvw"
    assert classify(picture) == Use("poll", "test ext/x.qvw", "qvs@srv")
    assert classify(f"{CALL}?public=only&name=Extensions/Aster%20Plot/d3.js") == Use("other")
    assert classify(f"{CALL}?public=only&view=Secret.qvw") == Use("poll", "secret.qvw")
    with pytest.raises(BadRequest, match="names no document"):
        classify(f"{CALL}?datamode=binary&name=x")


def test_portal_command_opens_nothing_unless_it_names_a_document() -> None:
    portal = (
        b'<update mark="" stamp="" scope="Document" ident="AccessPoint" kind="AccessPoint"><set name="a"/></update>'
    )
    assert classify("/QvAJAXZfc/AccessPoint.aspx?mark=&platform=browser.chrome&dpi=96", portal) == Use("other")
    assert classify("/QvAJAXZfc/AccessPoint.aspx?mark=", update("HR.qvw")) == Use("poll", "hr.qvw")
    assert classify("/QvAJAXZfc/AccessPoint.aspx") == Use("other")
    with pytest.raises(BadRequest):
        classify(f"{CALL}?mark=", portal)


@pytest.mark.parametrize("query", ["open=&id=Sales.qvw", "open=", "id=QVS@srv%7C", "open=&id=%7CSales.qvw"])
def test_accesspoint_link_is_refused_without_server_and_document(query: str) -> None:
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
def test_command_with_two_readings_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        classify(CALL, body, "POST")


@pytest.mark.parametrize("content_type", ["text/xml; charset=utf-7", 'text/xml;CHARSET = "utf-16"', "a;charset="])
def test_command_is_refused_when_its_header_names_another_encoding(content_type: str) -> None:
    with pytest.raises(BadRequest):
        classify(CALL, update(), content_type=content_type)


def test_command_in_ascii_is_refused_when_its_name_is_not() -> None:
    assert classify(CALL, update("a.qvw"), content_type="text/xml; charset=us-ascii").document == "a.qvw"
    with pytest.raises(BadRequest, match="not in UTF-8"):
        classify(CALL, update("é.qvw"), content_type="text/xml; charset=us-ascii")


@pytest.mark.parametrize("command", ["%uD800", "%3Cupdate%20view=%22a%uD800.qvw%22/%3E"])
def test_command_in_the_query_is_refused_with_half_a_character(command: str) -> None:
    with pytest.raises(BadRequest, match="half of a character"):
        classify(f"{CALL}?cmd={command}")


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (f"{CALL}?host=QVS@a", b"<update host='QVS@b' view='a.qvw'/>"),
        (CALL, b"<update Host='QVS@b' view='a.qvw'/>"),
        ("/QvAJAXZfc/AccessPoint.aspx?open=&id=QVS@a%7Ca.qvw&host=QVS@b", b""),
    ],
)
def test_request_that_names_two_hosts_for_its_document_is_refused(target: str, body: bytes) -> None:
    with pytest.raises(BadRequest):
        classify(target, body)


def test_host_of_a_document_is_read_from_query_or_command() -> None:
    for target, body in (
        (f"{CALL}?HOST=qvs@A", update()),
        (CALL, b"<update host='QVS@a' view='Sales/Q1.qvw'/>"),
        ("/QvAJAXZfc/AccessPoint.aspx?open=&id=QVS%40A%7CSales%2FQ1.qvw&host=qvs@a", b""),
    ):
        assert classify(target, body).qualified == "qvs@a|sales/q1.qvw"


@pytest.mark.parametrize("size", [300, 60_000])
def test_long_document_name_is_refused_in_query_and_command(size: int) -> None:
    name = "a/" * (size // 2) + "b.qvw"
    for target, body in (
        (f"/QvAJAXZfc/opendoc.htm?document={name}", b""),
        (f"{CALL}?view={name}", b""),
        (f"{CALL}?view=Sales%2FQ1.qvw{'%20' * 2000}", update()),
        (CALL, update(name)),
    ):
        with pytest.raises(BadRequest):
            classify(target, body)


@given(st.binary(max_size=200))
def test_random_body_is_read_or_refused(body: bytes) -> None:
    for wrapped in (body, b"<update view='a.qvw'>" + body + b"</update>"):
        try:
            use = classify(CALL, wrapped, "POST")
        except Refusal:
            continue
        assert use.document


def test_body_is_needed_for_calls_only() -> None:
    assert QV.needs_body("POST", f"{CALL}?mark=") > 0
    assert QV.needs_body("GET", "/QvAjaxZfc/qvsviewclient.ASPX") > 0, "a server may read the body of a GET as well"
    assert QV.needs_body("POST", "/QvAJAXZfc/opendoc.htm") == 0
    assert QV.needs_body("POST", "/upload") == 0


# ---------------------------------------------------------------- never forwarded


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
        "/QvAJAXZfc/web.config/",
        "/docs/Sales.qvw/",
        "/docs/Sales.qvw/x.js",
        "/QvAJAXZfc/htc/x",
        "/QvAJAXZfc/a.htm.exe",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_request_is_forbidden_when_it_could_bypass_the_gateway(target: str, method: str) -> None:
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
def test_path_is_refused_in_the_spellings_that_windows_resolves(target: str) -> None:
    with pytest.raises(BadRequest):
        classify(target)


def test_sign_in_to_qlikview_itself_is_forbidden_but_its_page_is_not() -> None:
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
def test_portal_and_client_files_need_no_cal(target: str) -> None:
    assert classify(target) == Use("other")


# ---------------------------------------------------------------- responses


def test_refusal_of_a_call_is_in_the_clients_own_xml() -> None:
    written = QV.write_refusal("POST", f"{CALL}?mark=", 'All 6 "Session" CALs are <in use> & busy')
    assert written is not None
    assert written.content_type == "text/xml; charset=utf-8"
    assert b"<message text='All 6 \"Session\" CALs are &lt;in use&gt; &amp; busy'/>" in written.body
    assert QV.write_refusal("GET", "/QvAJAXZfc/opendoc.htm?document=a.qvw", "no") is None
    assert QV.write_refusal("GET", f"{CALL}?datamode=binary&view=a.qvw", "no") is None


@pytest.mark.parametrize(
    ("target", "status", "body", "opened"),
    [
        (CALL, 200, b'<?xml version="1.0"?><result mark="40e5f854e46ac354" stamp="1"><object/></result>', True),
        (CALL, 200, b"<result mark='40e5' stamp='1'><message text='Data was reloaded'/></result>", True),
        (CALL, 200, b'<result><message text="Failed to open document"/></result>', False),
        (CALL, 200, b'<result mark="" stamp=""><message text="Failed to open document"/></result>', False),
        (CALL, 200, gzip.compress(b'<result><message text="Failed to open document"/></result>', mtime=0), False),
        (CALL, 200, b"", None),
        (f"{CALL}?mark=&view=a.qvw", 200, b"", None),
        (f"{CALL}?mark=40e5f854e46ac354&view=a.qvw", 200, b"", True),
        (f"{CALL}?mark=40e5f854e46ac354", 200, b'<result><message text="Session lost"/></result>', False),
        (CALL, 404, b"", False),
        ("/QvAJAXZfc/QvsView%43lient%2Easpx", 200, b'<result><message text="Failed"/></result>', False),
        ("/QvAJAXZfc/opendoc.htm?document=a.qvw", 200, b"<html>", None),
        ("/QvAJAXZfc/opendoc.htm?document=a.qvw", 404, b"<html>", False),
        ("/QvAJAXZfc/AccessPoint.aspx?open=&id=QVS@a%7Cb.qvw", 302, b"", None),
    ],
)
def test_document_counts_as_opened_by_the_response_to_a_call_only(
    target: str, status: int, body: bytes, opened: bool | None
) -> None:
    assert QV.document_opened(target, status, body) is opened


def test_missing_cal_of_the_server_is_recognized_in_its_response() -> None:
    answer = b'<result><message text="Access denied! The server (QVS) has no USER CAL for your account."/></result>'
    packed = gzip.compress(answer + b" " * 100_000)
    for start in (answer, packed, packed[:-20]):
        assert QV.reports_missing_cal(CALL, start)
    for start in (b"<result><object/></result>", b"", b"\x1f\x8brubbish", gzip.compress(b"x" * 10_000_000)):
        assert not QV.reports_missing_cal(CALL, start)
    assert not QV.reports_missing_cal("/QvAJAXZfc/htc/help.htm", answer), "a page may speak of it"
