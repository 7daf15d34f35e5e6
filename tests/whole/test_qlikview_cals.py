"""QlikView's URLs and calls that take CALs, through the real door."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from whole.qlikview import CALL, OPEN, call, held, update, write_qlikview
from whole.rig import DocumentServer, Exchange, Gateway, curl, gateway


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
