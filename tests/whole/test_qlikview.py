"""QlikView's URLs and calls through the real door: what takes a CAL, what must not, and what never gets through."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from whole.rig import DocumentServer, Exchange, Gateway, calgate, cookie_of, curl, gateway, write_settings

CALL = "/QvAJAXZfc/QvsViewClient.aspx"
OPEN = "/QvAJAXZfc/opendoc.htm?document=Sales.qvw&host=QVS@x"


@pytest.fixture
async def gate(server: DocumentServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    """The usual gateway, but its route speaks QlikView's dialect, and one document is not for everybody."""
    file = write_settings(tmp_path, server.port)
    text = re.sub(r"^(opens|uses|polls) = .*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = text.replace('license = "demo"\n', 'license = "demo"\ndialect = "qlikview"\n')
    closed = '[[access]]\nname = "payroll is closed"\ndocuments = ["HR/**"]\ndeny = true\n\n[[access]]'
    file.write_text(text.replace("[[access]]", closed, 1), encoding="utf-8")
    async with gateway(file) as running:
        yield running


async def held(gate: Gateway) -> list[str]:
    """Who holds a CAL, by what the command line shows."""
    code, out, err = await calgate("cals", "list", "-c", str(gate.settings), "--json")
    assert code == 0, err
    return re.findall(r"DEMO\\\\(\w+)", out)


def update(view: str, mark: str = "0123456789abcdef", inner: str = '<set name="x"/>') -> str:
    return f'<update mark="{mark}" stamp="" scope="Document" view="{view}" ident="null">{inner}</update>'


async def call(gate: Gateway, body: str, *, user: str = "alice", query: str = "") -> tuple[int, str]:
    """Status, and the words that the AJAX client would show."""
    reply = await curl(f"{gate.url}{CALL}{query}", "--data-binary", body, "-H", "Content-Type: text/plain", user=user)
    if not reply.body.startswith(b"<?xml"):
        return reply.status, ""
    message = ElementTree.fromstring(reply.body).find("message")
    assert message is not None
    return reply.status, message.get("text", "")


async def test_opening_takes_a_cal_and_the_portal_and_the_clients_files_take_none(
    gate: Gateway, server: DocumentServer
) -> None:
    for path in ("/qlikview/", "/QvAJAXZfc/htc/Qva.js", f"{CALL}?public=only&name=Extensions/a/a.js"):
        assert (await curl(gate.url + path, user="alice")).status == 200, path
    assert await held(gate) == []
    assert (await curl(gate.url + OPEN, user="alice")).status == 200
    assert await held(gate) == ["alice"]


async def test_a_document_that_is_not_there_burns_no_cal(gate: Gateway, server: DocumentServer) -> None:
    async def missing(exchange: Exchange) -> None:
        await exchange.answer(b"no such document", status="404 Not Found")

    server.behaviour = missing
    assert (await curl(f"{gate.url}/QvAJAXZfc/opendoc.htm?document=Sails.qvw", user="alice")).status == 404
    assert await held(gate) == []


async def test_a_poll_neither_takes_a_cal_nor_passes_without_one(gate: Gateway, server: DocumentServer) -> None:
    status, words = await call(gate, update("Sales.qvw", inner='<poll name="CH01"/>'))
    assert status == 403
    assert words
    assert await held(gate) == []
    assert server.seen == []


@pytest.mark.parametrize(
    "headers",
    [
        ("Sec-Purpose: prefetch",),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"),
    ],
)
async def test_a_picture_on_a_foreign_page_or_a_prefetch_takes_no_cal(gate: Gateway, headers: tuple[str, ...]) -> None:
    cookie = await cookie_of(gate, "alice")
    words = [word for header in (f"Cookie: {cookie}", *headers) for word in ("-H", header)]
    assert (await curl(gate.url + OPEN, *words)).status == 403
    assert await held(gate) == []


async def test_a_head_shows_nothing_of_a_document_and_takes_no_cal(gate: Gateway) -> None:
    assert (await curl(gate.url + OPEN, "-I", user="alice")).status == 200
    assert await held(gate) == []


@pytest.mark.parametrize(
    "path",
    [
        "/QvAJAXZfc/GetWebTicket.aspx",
        "/qvajaxzfc/%47etwebticket.ASPX",
        "/QvAJAXZfc/GetWebTicket.aspx.",
        "/QvAJAXZfc//GetWebTicket.aspx",
        "/QvAJAXZfc/x/..%2fGetWebTicket.aspx",
        "/QvAJAXZfc/Authenticate.aspx?type=html&webticket=x",
        "/scripts/QVSTunnel.dll",
    ],
)
async def test_nobody_can_become_somebody_else_through_the_gateway(
    gate: Gateway, server: DocumentServer, path: str
) -> None:
    body = '<Global method="GetWebTicket"><UserId>CORP\\boss</UserId></Global>'
    for method in ((), ("--data-binary", body)):
        reply = await curl(gate.url + path, "--path-as-is", *method, user="alice")
        assert reply.status in (400, 403), reply
    assert server.seen == []


@pytest.mark.parametrize(
    ("body", "query"),
    [
        (update("HR/Pay.qvw"), ""),
        (update("hr\\PAY.qvw", mark=""), "?view=hr%5CPAY.qvw"),
        (update("HR/Pay.qvw"), "?view=Sales.qvw"),
        (update("Sales.qvw"), "?view=HR%2FPay.qvw"),
        (update("HR/Pay.qvw."), ""),
        (update("Sales.qvw") + update("HR/Pay.qvw"), ""),
        (f"<!DOCTYPE update [<!ENTITY d 'HR/Pay.qvw'>]>{update('&d;')}", ""),
    ],
)
async def test_no_call_reaches_a_document_that_the_rules_close(
    gate: Gateway, server: DocumentServer, body: str, query: str
) -> None:
    status, words = await call(gate, body, query=query)
    assert status in (400, 403)
    assert words.startswith(("You do not have access to this.", "This address cannot be read."))
    assert server.seen == []
    assert await held(gate) == []


async def test_who_gets_no_cal_is_told_in_the_clients_own_form_and_nobody_elses_name(
    gate: Gateway, server: DocumentServer
) -> None:
    for user in ("alice", "bob"):
        assert (await call(gate, update("Sales.qvw"), user=user))[0] == 200
    status, words = await call(gate, update("Sales.qvw"), user="carol")
    assert status == 403
    assert re.fullmatch(
        r"No licence is free for you\. .* The next one can come free at \d\d:\d\d UTC\. Reference .+", words
    )
    assert "alice" not in words
    assert "bob" not in words
    (decision,) = gate.decisions("no CAL")
    assert str(decision["reference"]) in words


async def test_the_body_that_was_looked_at_arrives_as_it_was_sent(gate: Gateway, server: DocumentServer) -> None:
    body = update("Sales.qvw", inner='<set name="Größe" value="a &amp; b"/>')
    assert (await call(gate, body))[0] == 200
    assert server.seen[-1].body == body.encode()


async def test_the_servers_own_want_of_a_cal_is_in_the_log(gate: Gateway, server: DocumentServer) -> None:
    async def refuse(exchange: Exchange) -> None:
        words = "Access denied! The server (QVS) has no USER CAL for your account."
        await exchange.answer(f'<result><message text="{words}"/></result>'.encode())

    server.behaviour = refuse
    await call(gate, update("Sales.qvw"))
    (noted,) = gate.decisions("the document server has no CAL of its own for the user")
    assert noted["user"] == "DEMO\\alice"
