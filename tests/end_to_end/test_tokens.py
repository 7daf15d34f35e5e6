"""API tokens of service accounts, against a running gateway."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from calgate_users import edit
from support.certificates import Authority
from support.gateway_process import (
    DocumentServer,
    Gateway,
    Reply,
    calgate,
    curl,
    document_server,
    gateway,
    write_settings,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

OTHER_ROUTE = """
[[routes]]
path = "/app"
upstreams = ["http://127.0.0.1:{port}"]
authorization = "pass"

[[routes]]
"""
UNTIL = ("--until", "2099-12-31")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_server() -> AsyncIterator[DocumentServer]:
    async with document_server() as running:
        yield running


@pytest.fixture
def server(shared_server: DocumentServer) -> DocumentServer:
    shared_server.seen.clear()
    return shared_server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(shared_server: DocumentServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    guard = "guard = { address = { failures = 3 } }"
    folder = tmp_path_factory.mktemp("tokens")
    signed = Authority(folder).sign("127.0.0.1")
    listen = f'tls = {{ certificate = "{signed.certificate}", key = "{signed.key}" }}'
    file = write_settings(folder, shared_server.port, listen=listen)
    text = file.read_text().replace("[[routes]]\n", OTHER_ROUTE.format(port=shared_server.port), 1)
    file.write_text(text.replace('ntlm = "users"', f'ntlm = "users"\n{guard}'))
    async with gateway(file) as running:
        yield running


async def made(gate: Gateway, *options: str, user: str = "DEMO\\alice") -> dict[str, str]:
    code, out, err = await calgate("tokens", "new", user, "-c", str(gate.settings), *UNTIL, *options, "--json")
    assert code == 0, err
    row: dict[str, str] = json.loads(out)
    return row


async def send(
    gate: Gateway, token: str, path: str = "/page", *options: str, address: str = "127.0.0.1", scheme: str = "Bearer "
) -> Reply:
    return await curl(
        f"{gate.url}{path}", "-k", "--interface", address, "-H", f"Authorization: {scheme}{token}", *options
    )


async def session_of(gate: Gateway, user: str) -> str:
    reply = await curl(f"{gate.url}/portal", "-k", user=user)
    return next(value for value in reply.values("set-cookie") if "calgate=" in value).partition(";")[0]


async def test_token_signs_its_account_in_without_a_session(gate: Gateway, server: DocumentServer) -> None:
    row = await made(gate, "--route", "/")
    reply = await send(gate, row["token"], "/docs/sales")
    assert reply.status == 200
    assert reply.values("set-cookie") == []
    assert server.seen[-1].values("qvuser") == ["DEMO\\alice"]
    assert server.seen[-1].values("authorization") == []
    _, out, _ = await calgate("cals", "list", "-c", str(gate.settings), "--json")
    assert "DEMO\\\\alice" in out, "counted like anybody"
    _, out, _ = await calgate("tokens", "list", "-c", str(gate.settings), "--json")
    (listed,) = [one for one in json.loads(out) if one["id"] == row["id"]]
    assert listed["last_address"] == "127.0.0.1"
    assert listed["last_used"] is not None
    assert listed["state"] == "valid"
    assert row["token"] not in out


async def test_token_decides_beside_a_cookie_and_leaves_the_session_alone(
    gate: Gateway, server: DocumentServer
) -> None:
    row = await made(gate, "--route", "/")
    cookie = await session_of(gate, "bob")
    for _ in range(3):  # the second request is decided from memory, where that is possible
        assert (await curl(f"{gate.url}/page", "-k", "-H", f"Cookie: {cookie}")).status == 200
        assert server.seen[-1].values("qvuser") == ["DEMO\\bob"]
        reply = await send(gate, row["token"], "/page", "-H", f"Cookie: {cookie}")
        assert reply.status == 200
        assert reply.values("set-cookie") == []
        assert server.seen[-1].values("qvuser") == ["DEMO\\alice"]
    await calgate("tokens", "revoke", row["id"], "-c", str(gate.settings))
    server.seen.clear()
    assert (await send(gate, row["token"], "/page", "-H", f"Cookie: {cookie}")).status == 401
    assert server.seen == []


async def test_token_is_refused_outside_its_routes_and_networks(gate: Gateway, server: DocumentServer) -> None:
    token = (await made(gate, "--route", "/app", "--network", "127.0.0.2/32"))["token"]
    assert (await send(gate, token, "/app/x", address="127.0.0.2")).status == 200
    assert (await send(gate, token, "/page", address="127.0.0.2")).status == 403
    assert (await send(gate, token, "/app/x", address="127.0.0.3")).status == 403
    assert [exchange.path for exchange in server.seen] == ["/app/x"]


async def test_token_is_refused_over_plain_http(server: DocumentServer, tmp_path: Path) -> None:
    async with gateway(write_settings(tmp_path, server.port)) as plain:
        token = (await made(plain, "--route", "/"))["token"]
        reply = await send(plain, token)
        assert reply.status == 401
        assert reply.values("www-authenticate") == ['Bearer realm="calgate", error="invalid_token"']
        assert server.seen == []


async def test_revoked_token_is_refused_at_once_and_never_forwarded(gate: Gateway, server: DocumentServer) -> None:
    row = await made(gate, "--route", "/app")
    assert (await send(gate, row["token"], "/app/x")).status == 200
    code, _, _ = await calgate("tokens", "revoke", row["id"], "-c", str(gate.settings))
    assert code == 0
    assert (await send(gate, row["token"], "/app/x")).status == 401
    assert len(server.seen) == 1
    assert server.seen[0].values("authorization") == []
    assert (await calgate("tokens", "revoke", row["id"], "-c", str(gate.settings)))[0] == 1


async def test_token_of_an_account_that_is_gone_is_refused(gate: Gateway, server: DocumentServer) -> None:
    users = gate.settings.parent / "users.toml"
    before = users.read_text()
    token = (await made(gate, "--route", "/"))["token"]
    edit.remove(users, "alice", domain="DEMO")
    try:
        reply = await send(gate, token, "/page")
        assert reply.status == 403
        assert reply.values("set-cookie") == []
        assert server.seen == []
    finally:
        users.write_text(before)


async def test_guesses_count_against_the_address_and_a_right_token_still_gets_in(gate: Gateway) -> None:
    token = (await made(gate, "--route", "/"))["token"]
    statuses = [(await send(gate, f"calgate_{number}", address="127.0.0.9")).status for number in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    assert (await send(gate, "calgate_x", address="127.0.0.10")).status == 401
    assert (await send(gate, token, address="127.0.0.9")).status == 200
    _, out, _ = await calgate("tokens", "list", "-c", str(gate.settings))
    assert "DEMO\\alice" in out


async def test_request_of_another_sites_page_is_refused_with_a_token_too(gate: Gateway, server: DocumentServer) -> None:
    token = (await made(gate, "--route", "/"))["token"]
    reply = await send(gate, token, "/page", "-X", "POST", "-d", "x=1", "-H", "Origin: https://evil.example")
    assert reply.status == 403
    assert server.seen == []


async def test_token_is_taken_from_the_authorization_header_and_nowhere_else(
    gate: Gateway, server: DocumentServer
) -> None:
    """In a URL it would be in logs and histories (RFC 6750, 2.3), and a page of another site could send it."""
    token = (await made(gate, "--route", "/app"))["token"]
    tries = (
        (f"/app/x?access_token={token}",),
        ("/app/x", "--data", f"access_token={token}"),
        ("/app/x", "-H", f"Cookie: calgate={token}"),
        ("/app/x", "-H", f"Cookie: access_token={token}"),
        ("/app/x", "-H", f"X-Api-Key: {token}"),
        ("/app/x", "-H", f"Proxy-Authorization: Bearer {token}"),
        ("/app/x", "-u", f"alice:{token}"),
        ("/app/x", "-u", f"{token}:"),
    )
    for path, *options in tries:
        reply = await curl(f"{gate.url}{path}", "-k", "--interface", "127.0.0.12", *options)
        assert (reply.status, reply.values("set-cookie")) == (401, []), options
    assert server.seen == []


@pytest.mark.parametrize("spelling", ["bearer  {}", "BEARER {} ", "Bearer\t{}", "Bearer {},x", "Bearer {} x"])
async def test_odd_spelling_of_a_token_never_reaches_the_document_server(
    gate: Gateway, server: DocumentServer, spelling: str
) -> None:
    token = (await made(gate, "--route", "/app"))["token"]
    value = spelling.format(token)
    cookie = await session_of(gate, "bob")
    server.seen.clear()
    await send(gate, value, "/app/x", "-H", f"Cookie: {cookie}", address="127.0.0.11", scheme="")
    assert all(token not in exchange.head.decode("latin-1") for exchange in server.seen)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--until", "2001-01-01", "--route", "/"], "has passed"),
        (["--until", "soon", "--route", "/"], "a day like"),
        ([*UNTIL], "--route is missing"),
        ([*UNTIL, "--route", "/nowhere"], "no such route"),
        ([*UNTIL, "--route", "/", "--network", "10.0.0.1/8"], "host bits"),
        ([*UNTIL, "--route", "/", "--may-remove"], "add --console ROLE"),
    ],
    ids=["past", "no-day", "no-route", "unknown-route", "network", "may-remove"],
)
async def test_token_that_cannot_be_meant_is_not_made(gate: Gateway, options: list[str], fault: str) -> None:
    code, _, err = await calgate("tokens", "new", "DEMO\\alice", "-c", str(gate.settings), *options)
    assert code == 2
    assert fault in " ".join(err.split())


async def test_token_for_nobody_is_not_made(gate: Gateway) -> None:
    code, _, err = await calgate("tokens", "new", "DEMO\\nobody", "-c", str(gate.settings), *UNTIL, "--route", "/")
    assert code == 1
    assert "no directory has this account" in err
