"""Signing in through a running gateway: curl and raw connections, the session cookie, sign-out."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from support.gateway_process import (
    PASSWORD,
    WORKERS,
    DocumentServer,
    Exchange,
    Gateway,
    NtlmClient,
    calgate,
    cookie_of,
    curl,
    gateway,
    has_status,
    raw,
    write_settings,
)
from support.waiting import until


async def test_document_server_is_told_who_signed_in_by_ntlm(gate: Gateway, server: DocumentServer) -> None:
    reply = await curl(f"{gate.url}/portal", user="alice")
    assert reply.status == 200
    assert server.seen[-1].values("QVUSER") == ["DEMO\\alice"]
    assert server.seen[-1].values("authorization") == []
    assert len(server.seen) == 1, "nothing of the handshake reaches the document server"


async def test_wrong_password_is_401_with_a_reason_and_a_reference_that_the_log_knows(gate: Gateway) -> None:
    reply = await curl(f"{gate.url}/portal", user="alice", password="wrong")
    assert (reply.status, reply.json["code"]) == (401, "sign-in-failed")
    (entry,) = gate.decisions("sign-in failed")
    assert entry["reference"] == reply.json["reference"]
    assert "wrong password" in str(entry["reason"])


async def test_user_in_no_group_of_the_rules_gets_403_and_no_challenge(gate: Gateway) -> None:
    reply = await curl(f"{gate.url}/portal", user="mallory")
    assert (reply.status, reply.json["code"]) == (403, "forbidden")
    assert reply.values("www-authenticate") == []


async def test_ntlm_sign_ins_are_reported_alike_by_check_and_by_their_own_command(
    gate: Gateway,
) -> None:
    for user, password in (("alice", PASSWORD), ("alice", PASSWORD), ("bob", PASSWORD), ("carol", "wrong")):
        await curl(f"{gate.url}/portal", user=user, password=password)
    code, out, errors = await calgate("check", "--ntlm-report", "--json", "-c", str(gate.settings))
    assert (code, errors) == (0, "")
    rows = [(row["user"], row["address"], row["count"]) for row in json.loads(out)]
    assert rows == [("DEMO\\alice", "127.0.0.1", 2), ("DEMO\\bob", "127.0.0.1", 1)]
    assert await calgate("sign-ins", "ntlm", "--json", "-c", str(gate.settings)) == (0, out, "")
    _, table, _ = await calgate("check", "--ntlm-report", "-c", str(gate.settings))
    assert "DEMO\\bob" in table


async def test_store_holds_only_the_hash_of_the_cookie(gate: Gateway, server: DocumentServer) -> None:
    first = await curl(f"{gate.url}/portal", user="alice")
    (cookie,) = first.values("set-cookie")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    pair = cookie.partition(";")[0]
    again = await curl(f"{gate.url}/portal", "-H", f"Cookie: theirs=1; {pair}")
    assert again.status == 200
    assert server.seen[-1].values("cookie") == ["theirs=1"], "our cookie stays here"
    data = b"".join(path.read_bytes() for path in Path(gate.settings).parent.rglob("*.aof"))
    assert b"calgate:session:" in data
    assert pair.partition("=")[2].encode() not in data


async def test_unknown_cookie_is_challenged(gate: Gateway) -> None:
    reply = await curl(f"{gate.url}/portal", "-H", "Cookie: calgate=" + "A" * 43)
    assert reply.status == 401
    assert reply.values("www-authenticate")


async def test_clients_without_cookies_sign_in_each_time_and_do_not_fill_the_store(gate: Gateway) -> None:
    most = 16 * int(WORKERS)  # each worker keeps the newest sixteen that it began
    for _ in range(most + 9):
        assert (await curl(f"{gate.url}/portal", user="bob")).status == 200
    for _ in range(20):  # the excess is removed in the background
        _, listed, _ = await calgate("sessions", "list", "-c", str(gate.settings), "--json")
        if listed.count('"user"') <= most:
            break
    assert 1 <= listed.count('"user"') <= most


async def test_users_on_one_connection_never_mix(gate: Gateway, server: DocumentServer) -> None:
    """One kept-alive connection, as a careless proxy would use it: identity never comes from the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)

    async def ask(*fields: str) -> tuple[int, str]:
        writer.write("\r\n".join(["GET /portal HTTP/1.1", "Host: gate", *fields, "", ""]).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = re.search(r"(?i)content-length: (\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        return int(head.split(" ")[1]), head

    cookies = {}
    for name in ("alice", "bob"):
        client = NtlmClient(name)
        status, head = await ask(f"Authorization: NTLM {client.first()}")
        assert status == 401
        status, head = await ask(f"Authorization: NTLM {client.second(head)}")
        assert status == 200
        cookies[name] = re.search(r"(?i)set-cookie: (calgate=[^;]+)", head)[1]  # type: ignore[index]
    for name in ("alice", "bob", "alice", "bob"):
        assert (await ask(f"Cookie: {cookies[name]}"))[0] == 200
        assert server.seen[-1].values("QVUSER") == [f"DEMO\\{name}"]
    assert (await ask())[0] == 401, "the connection itself is nobody's"
    writer.close()


async def test_request_without_a_token_ends_an_unfinished_handshake(gate: Gateway) -> None:
    client = NtlmClient("alice")
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)

    async def ask(*fields: str) -> str:
        writer.write("\r\n".join(["GET /portal HTTP/1.1", "Host: gate", *fields, "", ""]).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        await reader.readexactly(int(re.search(r"(?i)content-length: (\d+)", head)[1]))  # type: ignore[index]
        return head

    challenge = await ask(f"Authorization: NTLM {client.first()}")
    await ask()
    assert " 401 " in await ask(f"Authorization: NTLM {client.second(challenge)}")
    writer.close()


async def test_sign_out_is_a_post_of_our_own_site_and_ends_the_session_everywhere(
    gate: Gateway, server: DocumentServer
) -> None:
    async def set_cookie(exchange: Exchange) -> None:
        await exchange.answer(fields=["Set-Cookie: ASP.NET_SessionId=x; path=/; HttpOnly"])

    server.behaviour = set_cookie
    first = await curl(f"{gate.url}/portal", user="alice")
    pair = next(c for c in first.values("set-cookie") if c.startswith("calgate=")).partition(";")[0]
    cookie = ("-H", f"Cookie: {pair}; ASP.NET_SessionId=x")
    shown = await curl(f"{gate.url}/_calgate/sign-out", *cookie, "-H", "Accept: text/html")
    assert shown.status == 200
    assert b'method="post"' in shown.body
    foreign = await curl(f"{gate.url}/_calgate/sign-out", *cookie, "-X", "POST", "-H", "Origin: http://evil.example")
    assert foreign.status == 403
    assert (await curl(f"{gate.url}/portal", *cookie)).status == 200
    gone = await curl(f"{gate.url}/_calgate/sign-out", *cookie, "-X", "POST", "-H", f"Origin: {gate.url}")
    assert gone.status == 303
    assert any(c.startswith("ASP.NET_SessionId=; Max-Age=0") for c in gone.values("set-cookie"))
    assert (await curl(f"{gate.url}/portal", *cookie)).status == 401
    assert (await curl(f"{gate.url}/_calgate/signed-out", "-H", "Accept: text/html")).status == 200


async def test_document_servers_cookies_do_not_pass_from_one_user_to_the_next(
    gate: Gateway, server: DocumentServer
) -> None:
    """On a shared computer bob signs in while alice's session of the document server is still in the browser."""

    async def set_cookie(exchange: Exchange) -> None:
        await exchange.answer(fields=["Set-Cookie: doc-session=alices; path=/"])

    server.behaviour = set_cookie
    first = await curl(f"{gate.url}/portal", user="alice")
    pair = next(c for c in first.values("set-cookie") if c.startswith("calgate=")).partition(";")[0]
    await calgate("sessions", "end", "alice", "-c", str(gate.settings))
    server.behaviour = lambda exchange: exchange.answer()
    second = await curl(f"{gate.url}/portal", "-H", f"Cookie: {pair}; doc-session=alices", user="bob")
    assert second.status == 200
    assert server.seen[-1].values("QVUSER") == ["DEMO\\bob"]
    assert server.seen[-1].values("cookie") == []
    assert any(c.startswith("doc-session=; Max-Age=0") for c in second.values("set-cookie"))


async def test_cookie_of_another_user_is_not_forwarded_though_its_deletion_was_missed(
    gate: Gateway, server: DocumentServer
) -> None:
    """One that the document server never set (a script, a parent domain) is forwarded."""

    async def set_cookie(exchange: Exchange) -> None:
        await exchange.answer(fields=["Set-Cookie: ASP.NET_SessionId=alices; path=/"])

    server.behaviour = set_cookie
    assert (await curl(f"{gate.url}/portal", user="alice")).status == 200
    server.behaviour = lambda exchange: exchange.answer()
    line = f"{await cookie_of(gate, 'carol')}; ASP.NET_SessionId=alices; from-a-script=1; ASP.NET_SessionId=unknown"
    assert (await curl(f"{gate.url}/portal", "-H", f"Cookie: {line}")).status == 200
    assert server.seen[-1].values("cookie") == ["from-a-script=1; ASP.NET_SessionId=unknown"]
    server.behaviour = set_cookie
    alices = (await curl(f"{gate.url}/portal", user="alice")).values("set-cookie")
    session = next(one for one in alices if one.startswith("calgate=")).partition(";")[0]
    await curl(f"{gate.url}/portal", "-H", f"Cookie: {session}; ASP.NET_SessionId=alices")
    assert server.seen[-1].values("cookie") == ["ASP.NET_SessionId=alices"]


async def test_cookie_without_a_path_is_deleted_where_it_was_set(gate: Gateway, server: DocumentServer) -> None:
    async def set_cookie(exchange: Exchange) -> None:
        await exchange.answer(fields=["Set-Cookie: folder=x", "Set-Cookie: sub=x; Path=sub"])

    pair = await cookie_of(gate, "alice")
    server.behaviour = set_cookie
    assert (await curl(f"{gate.url}/deep/er/page?x=/y/z", "-H", f"Cookie: {pair}")).status == 200
    out = await curl(f"{gate.url}/_calgate/sign-out", "-X", "POST", "-H", f"Cookie: {pair}")
    deleted = [one for one in out.values("set-cookie") if not one.startswith("calgate=")]
    assert deleted == ["folder=; Max-Age=0; Path=/deep/er", "sub=; Max-Age=0; Path=/deep/er"]


async def test_document_server_cannot_set_the_gateways_own_cookie(gate: Gateway, server: DocumentServer) -> None:
    """It could put its user into another session, or, where the gateway takes that away as one of the server's, out."""

    async def plant(exchange: Exchange) -> None:
        fields = [f"Set-Cookie: {name}=planted; Path=/" for name in ("calgate", "=calgate", "__Host-calgate", "theirs")]
        await exchange.answer(fields=fields)

    server.behaviour = plant
    reply = await curl(f"{gate.url}/portal", user="alice")
    ours, theirs = sorted(reply.values("set-cookie"))
    assert theirs == "theirs=planted; Path=/"
    pair = ours.partition(";")[0]
    assert (pair.partition("=")[0], "planted" in pair) == ("calgate", False)
    out = await curl(f"{gate.url}/_calgate/sign-out", "-X", "POST", "-H", f"Cookie: {pair}")
    assert sorted(one.partition("=")[0] for one in out.values("set-cookie")) == ["calgate", "theirs"]


async def test_document_servers_cookies_stay_when_the_same_user_signs_in_again(
    gate: Gateway, server: DocumentServer
) -> None:
    first = await curl(f"{gate.url}/portal", user="alice")
    pair = first.values("set-cookie")[0].partition(";")[0]
    await calgate("sessions", "end", "alice", "-c", str(gate.settings))
    again = await curl(f"{gate.url}/portal", "-H", f"Cookie: {pair}; doc-session=alices", user="alice")
    assert again.status == 200
    assert server.seen[-1].values("cookie") == ["doc-session=alices"]


async def test_post_is_served_shortly_after_the_session_lapsed_and_a_get_signs_in_again(
    server: DocumentServer, tmp_path: Path
) -> None:
    settings = write_settings(tmp_path, server.port, session='idle = "1s"\nlifetime = "1s"')
    async with gateway(settings) as gate:
        first = await curl(f"{gate.url}/portal", user="alice")
        pair = first.values("set-cookie")[0].partition(";")[0]
        await until(lambda: has_status(curl(f"{gate.url}/portal", "-H", f"Cookie: {pair}"), 401), every=0.2)
        posted = await curl(f"{gate.url}/form", "-H", f"Cookie: {pair}", "-d", "a=1")
        assert posted.status == 200
        assert server.seen[-1].body == b"a=1"


@pytest.mark.parametrize("referer", ["http://[", "http://\u00e4[x]/", "//"])
async def test_frame_on_a_page_without_a_readable_address_is_cross_site(gate: Gateway, referer: str) -> None:
    fields = ("-H", "Sec-Fetch-Site: cross-site", "-H", "Sec-Fetch-Mode: navigate", "-H", "Sec-Fetch-Dest: iframe")
    reply = await curl(f"{gate.url}/portal", *fields, "-H", f"Referer: {referer}")
    assert (reply.status, reply.json["code"]) == (403, "cross-site")


async def test_cross_site_post_is_neither_challenged_nor_run(gate: Gateway, server: DocumentServer) -> None:
    for fields in (["Sec-Fetch-Site: cross-site"], ["Origin: http://evil.example"], ["Origin: null"]):
        options = [word for line in fields for word in ("-H", line)]
        reply = await curl(f"{gate.url}/form", *options, "-d", "a=1", user="alice")
        assert reply.status == 403
        assert reply.values("www-authenticate") == []
    assert server.seen == []


async def test_image_on_a_foreign_page_is_not_challenged(gate: Gateway, server: DocumentServer) -> None:
    fields = ("-H", "Sec-Fetch-Site: cross-site", "-H", "Sec-Fetch-Mode: no-cors", "-H", "Sec-Fetch-Dest: image")
    reply = await curl(f"{gate.url}/docs/sales", *fields, user="alice")
    assert reply.status == 403
    assert server.seen == []


async def test_navigation_from_a_foreign_page_is_challenged(gate: Gateway) -> None:
    fields = ("-H", "Sec-Fetch-Site: cross-site", "-H", "Sec-Fetch-Mode: navigate", "-H", "Sec-Fetch-Dest: document")
    assert (await curl(f"{gate.url}/portal", *fields, user="alice")).status == 200


@pytest.mark.parametrize("token", ["", "!!!!", "TlRMTVNTUAAD", "A" * 70_000, "YIIB"])
async def test_malformed_token_is_not_a_server_error(gate: Gateway, token: str) -> None:
    for scheme in ("NTLM", "Negotiate", "Basic"):
        request = f"GET / HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nAuthorization: {scheme} {token}\r\n\r\n"
        status = int((await raw(gate.port, request.encode())).split(b" ")[1])
        assert status in (400, 401, 431)
