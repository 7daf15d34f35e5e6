"""QlikView's URLs and calls through the running gateway: what must take no CAL, and what is never forwarded."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.gateway_process import (
    POOLS,
    DocumentServer,
    Exchange,
    Gateway,
    answer_plainly,
    cookie_of,
    curl,
    document_server,
    gateway,
)
from support.qlikview import CALL, OPEN, call, held, update, write_qlikview

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, DocumentServer]]:
    """One gateway for all tests of this file: none of them leaves a CAL taken."""
    async with (
        document_server() as server,
        gateway(write_qlikview(tmp_path_factory.mktemp("qlikview"), server.port)) as gate,
    ):
        yield gate, server


@pytest.fixture
def server(running: tuple[Gateway, DocumentServer]) -> DocumentServer:
    running[1].seen.clear()
    running[1].behaviour = answer_plainly
    return running[1]


@pytest.fixture
def gate(running: tuple[Gateway, DocumentServer], server: DocumentServer) -> Gateway:
    """Returns the gateway; its document server behaves plainly again, whatever an earlier test made of it."""
    return running[0]


async def test_missing_document_takes_no_cal(gate: Gateway, server: DocumentServer) -> None:
    async def missing(exchange: Exchange) -> None:
        await exchange.answer(b"no such document", status="404 Not Found")

    server.behaviour = missing
    assert (await curl(f"{gate.url}/QvAJAXZfc/opendoc.htm?document=Sails.qvw", user="alice")).status == 404
    assert await held(gate) == []


async def test_poll_takes_no_cal_and_is_refused_without_one(gate: Gateway, server: DocumentServer) -> None:
    status, words = await call(gate, update("Sales.qvw", inner='<poll name="CH01"/>'))
    assert status == 403
    assert words.startswith("Your license for this document has ended.")
    assert await held(gate) == []
    assert server.seen == []


@pytest.mark.parametrize(
    "headers",
    [
        ("Sec-Purpose: prefetch",),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"),
    ],
)
async def test_picture_on_a_foreign_page_or_prefetch_takes_no_cal(gate: Gateway, headers: tuple[str, ...]) -> None:
    cookie = await cookie_of(gate, "alice")
    words = [word for header in (f"Cookie: {cookie}", *headers) for word in ("-H", header)]
    assert (await curl(gate.url + OPEN, *words)).status == 403
    assert await held(gate) == []


@pytest.mark.parametrize("method", [("-I",), ("-X", "OPTIONS")])
async def test_head_or_options_request_takes_no_cal_and_is_refused_without_one(
    gate: Gateway, server: DocumentServer, method: tuple[str, ...]
) -> None:
    assert (await curl(gate.url + OPEN, *method, user="alice")).status == 403
    assert server.seen == []
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
async def test_request_that_could_change_the_user_is_never_forwarded(
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
        (update("Plan.qvw"), "?host=QVS%40CLOSED&view=Plan.qvw"),
        (update("Plan.qvw"), ""),
        (update("Plan.qvw"), "?host=QVS@open&host=QVS@closed"),
        (update("a/" * 60_000), ""),
    ],
)
async def test_call_to_a_denied_document_is_never_forwarded(
    gate: Gateway, server: DocumentServer, body: str, query: str
) -> None:
    status, words = await call(gate, body, query=query)
    assert status in (400, 403)
    assert words.startswith(("You do not have access to this.", "This address cannot be read."))
    assert server.seen == []
    assert await held(gate) == []


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Type: text/xml; xcharset=utf-8; charset=utf-7",),
        ("Content-Type: text/xml; charset=utf-7",),
        ('Content-Type: text/xml; a="; charset=utf-7"',),
    ],
)
async def test_call_in_another_charset_is_never_forwarded(
    gate: Gateway, server: DocumentServer, headers: tuple[str, ...]
) -> None:
    options = [option for header in headers for option in ("-H", header)]
    assert (await curl(gate.url + CALL, "--data-binary", update("Sales.qvw"), *options, user="alice")).status == 400
    assert server.seen == []


async def test_charset_header_of_old_phones_is_not_forwarded(gate: Gateway, server: DocumentServer) -> None:
    phone = ("-A", "UP.Browser", "-H", "X-Up-Devcap-Post-Charset: utf-7", "-H", "x-up-devcap-post-CHARSET: utf-7")
    assert (await curl(f"{gate.url}/qlikview/", *phone, user="alice")).status == 200
    (forwarded,) = server.seen
    assert b"charset" not in forwarded.head.lower()


async def test_half_a_character_in_a_command_is_400(gate: Gateway) -> None:
    assert (await curl(f"{gate.url}{CALL}?cmd=%uD800", user="alice")).status == 400


async def test_equal_names_on_two_hosts_are_two_documents_for_cals(server: DocumentServer, tmp_path: Path) -> None:
    settings = write_qlikview(tmp_path, server.port)
    settings.write_text(settings.read_text().replace(POOLS, "usage = { in_license = 1 }"))
    async with gateway(settings) as gate:
        cookie = await cookie_of(gate, "alice")
        statuses = []
        for host in ("QVS@a", "qvs@A", "QVS@b"):
            url = f"{gate.url}/QvAJAXZfc/opendoc.htm?document=Sales.qvw&host={host}"
            statuses.append((await curl(url, "-H", f"Cookie: {cookie}")).status)
        assert statuses == [200, 200, 403]
        assert gate.decisions("no CAL")[-1]["document"] == "qvs@b|sales.qvw"
