"""QlikView's URLs and calls that take CALs, through a running gateway."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from support.gateway_process import POOLS, DocumentServer, Exchange, Gateway, calgate, cookie_of, curl, gateway
from support.qlikview import CALL, OPEN, call, held, update, write_qlikview


@pytest_asyncio.fixture
async def gate(server: DocumentServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(write_qlikview(tmp_path, server.port)) as running:
        yield running


async def test_opening_takes_a_cal_and_the_portal_and_the_clients_files_take_none(
    gate: Gateway, server: DocumentServer
) -> None:
    for path in ("/qlikview/", "/QvAJAXZfc/htc/Qva.js", f"{CALL}?public=only&name=Extensions/a/a.js"):
        assert (await curl(gate.url + path, user="alice")).status == 200, path
    assert await held(gate) == []
    assert (await curl(gate.url + OPEN, user="alice")).status == 200
    assert await held(gate) == ["alice"]


async def test_denial_comes_in_the_clients_own_form_and_names_no_other_user(
    gate: Gateway, server: DocumentServer
) -> None:
    for user in ("alice", "bob"):
        assert (await call(gate, update("Sales.qvw"), user=user))[0] == 200
    status, words = await call(gate, update("Sales.qvw"), user="carol")
    assert status == 403
    assert re.fullmatch(
        r"No license is free for you\. .* When the next one can come free: \d\d:\d\d UTC\. Reference .+", words
    )
    assert "alice" not in words
    assert "bob" not in words
    (decision,) = gate.decisions("no CAL")
    assert str(decision["reference"]) in words


async def test_body_that_was_read_arrives_as_it_was_sent(gate: Gateway, server: DocumentServer) -> None:
    body = update("Sales.qvw", inner='<set name="Größe" value="a &amp; b"/>')
    assert (await call(gate, body))[0] == 200
    assert server.seen[-1].body == body.encode()


async def test_document_servers_own_lack_of_a_cal_is_logged(gate: Gateway, server: DocumentServer) -> None:
    async def refuse(exchange: Exchange) -> None:
        words = "Access denied! The server (QVS) has no USER CAL for your account."
        await exchange.answer(f'<result><message text="{words}"/></result>'.encode())

    server.behaviour = refuse
    await call(gate, update("Sales.qvw"))
    (noted,) = gate.decisions("the document server has no CAL of its own for the user")
    assert noted["user"] == "DEMO\\alice"


DYNAMIC = "named = { in_license = 2, dynamic = true }"


async def test_mistyped_document_burns_no_named_cal_though_its_page_is_always_there(
    server: DocumentServer, tmp_path: Path
) -> None:
    """In QlikView opendoc.htm is the same page for every name, and the XML of the first call reports the error."""

    async def answer(exchange: Exchange) -> None:
        if exchange.request_line.startswith("GET"):
            await exchange.answer(b"<html>the client</html>")
        elif b"Sails" in exchange.body:
            await exchange.answer(b'<result><message text="Failed to open document"/></result>')
        else:
            await exchange.answer(b'<result mark="40e5f854e46ac354" stamp="1"><object/></result>')

    server.behaviour = answer
    file = write_qlikview(tmp_path, server.port)
    file.write_text(file.read_text().replace(POOLS, DYNAMIC))
    async with gateway(file) as gate:
        cookie = await cookie_of(gate, "alice")
        for name, state in (("Sails.qvw", []), ("Sales.qvw", [("alice", "held")])):
            page = await curl(f"{gate.url}/QvAJAXZfc/opendoc.htm?document={name}", "-H", f"Cookie: {cookie}")
            assert page.status == 200
            assert await states(gate) == [("alice", "provisional")]
            body = update(name, mark="")
            called = await curl(f"{gate.url}{CALL}", "-H", f"Cookie: {cookie}", "--data-binary", body)
            assert called.status == 200
            assert await settled(gate) == state


async def states(gate: Gateway) -> list[tuple[str, str]]:
    """Returns the holders of CALs, and whether each CAL is provisional or permanent."""
    code, out, err = await calgate("cals", "list", "-c", str(gate.settings), "--json")
    assert code == 0, err
    return [(holder["name"].removeprefix("DEMO\\"), holder["state"]) for holder in json.loads(out)["holders"]]


async def settled(gate: Gateway) -> list[tuple[str, str]]:
    """Returns the same once no CAL is provisional: leases are settled in the background."""
    for _ in range(20):
        found = await states(gate)
        if "provisional" not in dict(found).values():
            break
        await asyncio.sleep(0.1)
    return found
