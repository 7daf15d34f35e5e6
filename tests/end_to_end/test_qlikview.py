"""QlikView's URLs and calls through the real door: what must take no CAL, and what never gets through."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support.gateway_process import (
    DocumentServer,
    Exchange,
    Gateway,
    answer_plainly,
    cookie_of,
    curl,
    document_server,
    gateway,
)
from support.qlikview import OPEN, call, held, update, write_qlikview

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, DocumentServer]]:
    """One gateway for all: no test here leaves a CAL taken, and each sees to that."""
    async with (
        document_server() as server,
        gateway(write_qlikview(tmp_path_factory.mktemp("qlikview"), server.port)) as gate,
    ):
        yield gate, server


@pytest.fixture
def gate(running: tuple[Gateway, DocumentServer]) -> Gateway:
    return running[0]


@pytest.fixture
def server(running: tuple[Gateway, DocumentServer]) -> DocumentServer:
    running[1].seen.clear()
    running[1].behaviour = answer_plainly
    return running[1]


async def test_a_document_that_is_not_there_burns_no_cal(gate: Gateway, server: DocumentServer) -> None:
    async def missing(exchange: Exchange) -> None:
        await exchange.answer(b"no such document", status="404 Not Found")

    server.behaviour = missing
    assert (await curl(f"{gate.url}/QvAJAXZfc/opendoc.htm?document=Sails.qvw", user="alice")).status == 404
    assert await held(gate) == []


async def test_a_poll_neither_takes_a_cal_nor_passes_without_one(gate: Gateway, server: DocumentServer) -> None:
    status, words = await call(gate, update("Sales.qvw", inner='<poll name="CH01"/>'))
    assert status == 403
    assert words.startswith("Your licence for this document has ended.")
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
