"""Only the gateway sets identity headers: whatever a client sends, the document server sees the gateway's values."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.gateway_process import DocumentServer, Gateway, cookie_of, curl, gateway, raw, write_settings
from support.shared_gateway import gate, server, shared_server

__all__ = ["gate", "server", "shared_server"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

OURS = (
    "QVUSER", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-User", "Forwarded",
    "X-Remote-User", "Remote-User", "X-Real-IP", "X-Forwarded-Anything", "Proxy-User", "Proxy-Authorization",
)  # fmt: skip


def spellings(name: str, chance: random.Random) -> Iterator[str]:
    """Yields the name in several cases, with `_` for `-`, and with blanks around it."""
    cases = {name, name.lower(), name.upper(), "".join(chance.choice([c.lower(), c.upper()]) for c in name)}
    for case in sorted(cases):
        yield from (case, case.replace("-", "_"), f"{case} ", f" {case}", f"{case}\t")


def claims() -> Iterator[tuple[str, str]]:
    """Yields forged identity headers, each with a Connection header that might make the gateway drop its own."""
    chance = random.Random(7)  # a fixed seed: the same cases in every run
    for name in OURS:
        for spelling in spellings(name, chance):
            for connection in ("close", f"close, {name}", f"close, {spelling.strip()}"):
                yield f"{spelling}: EVIL\\root", connection


async def test_identity_header_is_dropped_in_any_spelling(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    passed = refused = 0
    for line, connection in claims():
        server.seen.clear()
        fields = [line, f"Connection: {connection}", f"Cookie: {cookie}"]
        request = "\r\n".join(["GET /portal HTTP/1.1", "Host: gate", *fields, "", ""]).encode()
        status = int((await raw(gate.port, request)).split(b" ")[1])
        assert status in (200, 400), line
        assert (status == 200) == bool(server.seen), (line, connection)
        for exchange in server.seen:
            assert b"EVIL" not in exchange.head, (line, connection)
            assert exchange.values("QVUSER") == ["DEMO\\alice"]
            assert exchange.values("X-Forwarded-For") == ["127.0.0.1"]
            assert exchange.values("X-Forwarded-Proto") == ["http"]
        passed += status == 200
        refused += status == 400
    assert passed >= 12, "headers with exactly our names are dropped, not refused"
    assert refused >= 300, "underscores, blanks, and a Connection header that names one of ours are refused"


async def test_owned_name_with_an_underscore_also_covers_the_dash(server: DocumentServer, tmp_path: Path) -> None:
    """CGI and the server variables of ASP.NET map both spellings to one name."""
    settings = write_settings(tmp_path, server.port)
    settings.write_text(settings.read_text().replace("QVUSER", "QV_USER"))
    async with gateway(settings) as gate:
        cookie = await cookie_of(gate, "alice")
        for name in ("QV-USER", "qv-user", "QV_USER"):
            assert (await curl(f"{gate.url}/portal", "-b", cookie, "-H", f"{name}: EVIL")).status == 200
            assert b"EVIL" not in server.seen[-1].head
            assert server.seen[-1].values("QV_USER") == ["DEMO\\alice"]


async def test_connection_header_cannot_remove_the_gateways_headers(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    server.seen.clear()
    reply = await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}", "-H", "Connection: QVUSER")
    assert reply.status == 400
    assert server.seen == []


async def test_hop_by_hop_headers_and_those_that_connection_names_are_dropped(
    gate: Gateway, server: DocumentServer
) -> None:
    cookie = await cookie_of(gate, "alice")
    fields = ("Connection: X-Mine, close", "X-Mine: 1", "TE: trailers", "Keep-Alive: 9", "X-Other: 2")
    options = [word for line in fields for word in ("-H", line)]
    assert (await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}", *options)).status == 200
    names = {name.lower() for name, _ in server.seen[-1].fields}
    assert "x-other" in names
    assert not names & {"x-mine", "te", "keep-alive", "connection", "authorization"}


async def test_header_that_a_user_has_no_value_for_is_not_the_clients_to_set(
    server: DocumentServer, tmp_path: Path
) -> None:
    file = write_settings(tmp_path, server.port)
    headers = '{ X-Remote-User = "{account}", X-Remote-Groups = "{groups}" }'
    sign_on = f'sign_on = {{ headers = {headers}, groups = ["DEMO\\\\others"] }}\n'
    text = re.sub(r"^sign_on = .*\n", lambda _: sign_on, file.read_text(), flags=re.MULTILINE)
    file.write_text(text.replace('groups = ["DEMO\\\\app-users"]\n\n[licenses', "everybody = true\n\n[licenses"))
    async with gateway(file) as gate:
        for user, groups in (("alice", []), ("mallory", ["DEMO\\others"])):
            cookie = await cookie_of(gate, user)
            claim = ("-H", "x-remote-user: boss", "-H", "X-Remote_Groups: DEMO\\admins")
            assert (await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}", *claim)).status == 200
            assert server.seen[-1].values("X-Remote-User") == [user]
            assert server.seen[-1].values("X-Remote-Groups") == groups
            assert "admins" not in str(server.seen[-1].fields)
