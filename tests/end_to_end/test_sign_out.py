"""A sign-out that the gateway has read is carried out whole, even if its connection is reset."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.aborted import sent, until_read
from support.gateway_process import Gateway, calgate, curl, document_server, gateway, write_settings
from support.redis_servers import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

USERS = [f"user{number}" for number in range(14)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    server = Server(tmp_path_factory.mktemp("store")).start()
    yield server
    server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(store: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("gate")
    async with document_server() as server:
        license = f'session = {{ in_license = {len(USERS)}, minimum = "0s" }}'
        settings = write_settings(
            *(folder, server.port),
            users=USERS,
            store=f'url = "{store.url}"',
            listen="workers = 1",
            license=license,
        )
        async with gateway(settings) as running:
            yield running


async def holders(gate: Gateway) -> set[str]:
    """Returns the accounts that hold a CAL."""
    code, out, err = await calgate("cals", "list", "--json", "-c", str(gate.settings))
    assert code == 0, err
    return {row["name"].partition("\\")[2] for row in json.loads(out)["holders"]}


async def is_signed_in(gate: Gateway, cookie: str) -> bool:
    return (await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")).status == 200


async def open_document(gate: Gateway, user: str) -> str:
    """Signs a user in and lets them take a CAL; returns their cookie."""
    reply = await curl(f"{gate.url}/docs/Sales", user=user)
    assert reply.status == 200, reply
    return next(one for one in reply.values("set-cookie") if one.startswith("calgate=")).partition(";")[0]


def sign_out(cookie: str) -> bytes:
    lines = ["POST /_calgate/sign-out HTTP/1.1", "Host: gate", f"Cookie: {cookie}", "Content-Length: 0", "", ""]
    return "\r\n".join(lines).encode()


async def test_aborted_sign_out_ends_the_session_and_gives_the_cal_back_or_was_never_read(gate: Gateway) -> None:
    cookies = {user: await open_document(gate, user) for user in USERS}
    for number, cookie in enumerate(cookies.values()):
        with sent(gate, sign_out(cookie)):
            time.sleep(number * 0.0005)
    async with asyncio.timeout(60):
        while (still := {user for user in USERS if await is_signed_in(gate, cookies[user])}) != await holders(gate):
            pass
    assert still < set(USERS), "none of the sign-outs was carried out"
    assert len(gate.decisions("signed out")) == len(USERS) - len(still)


async def test_sign_out_that_waits_for_the_store_is_carried_out_though_its_client_has_gone(
    gate: Gateway, store: Server
) -> None:
    cookie = await open_document(gate, "user0")
    store.send(signal.SIGSTOP)
    try:
        with sent(gate, sign_out(cookie)) as connection:
            await until_read(gate, connection.getsockname())
        assert (await curl(f"{gate.url}/_calgate/health")).status == 200  # the worker has seen the reset
    finally:
        store.send(signal.SIGCONT)
    async with asyncio.timeout(60):
        while await is_signed_in(gate, cookie) or "user0" in await holders(gate):
            pass
