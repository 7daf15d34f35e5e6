"""Handshakes at their edges: bodies, replays, many at once, old clients."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from support.gateway_process import (
    PASSWORD,
    WORKERS,
    DocumentServer,
    Gateway,
    NtlmClient,
    cookie_of,
    curl,
    gateway,
    write_settings,
)


class Line:
    """One client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(
        self,
        token: str,
        *,
        method: str = "GET",
        path: str = "/portal",
        body: bytes = b"",
        version: str = "1.1",
        fields: Sequence[str] = (),
    ) -> str:
        """Sends a request with a token; returns the head of the response."""
        lines = [f"{method} {path} HTTP/{version}", "Host: gate", *fields]
        lines += [f"Authorization: NTLM {token}"] if token else []
        lines += [f"Content-Length: {len(body)}"] if method == "POST" else []
        lines += ["Connection: keep-alive"] if version == "1.0" else []
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self._writer.drain()
        async with asyncio.timeout(30):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = next(
                (int(one.split(":")[1]) for one in head.lower().split("\r\n") if one.startswith("content-length")), 0
            )
            await self._reader.readexactly(length)
        return head

    async def ask_expecting(self, token: str, body: bytes) -> str:
        """Posts a form with `Expect: 100-continue`; returns the head of the final response."""
        lines = ["POST /form HTTP/1.1", "Host: gate", f"Authorization: NTLM {token}", f"Content-Length: {len(body)}"]
        self._writer.write("\r\n".join([*lines, "Expect: 100-continue", "", ""]).encode())
        async with asyncio.timeout(30):
            assert await self._reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            self._writer.write(body)
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = next(int(one.split(":")[1]) for one in head.lower().split("\r\n") if "content-length" in one)
            await self._reader.readexactly(length)
        return head


@contextlib.asynccontextmanager
async def line_to(gate: Gateway) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    yield Line(reader, writer)
    writer.close()


def status(head: str) -> int:
    return int(head.split(" ")[1])


@pytest.mark.parametrize("size", [0, 100, 1 << 20])
async def test_body_that_comes_with_every_step_arrives_once_and_whole(
    gate: Gateway, server: DocumentServer, size: int
) -> None:
    """Browsers send no body until they are signed in; other clients send all of it each time."""
    client, body = NtlmClient("alice"), b"x" * size
    async with line_to(gate) as line:
        challenge = await line.ask(client.first(), method="POST", path="/form", body=body)
        assert status(challenge) == 401
        assert status(await line.ask(client.second(challenge), method="POST", path="/form", body=body)) == 200
    assert [(seen.path, len(seen.body)) for seen in server.seen] == [("/form", size)]


async def test_final_token_is_refused_when_replayed_on_another_connection(
    gate: Gateway, server: DocumentServer
) -> None:
    client, other = NtlmClient("alice"), NtlmClient("alice")
    async with line_to(gate) as line, line_to(gate) as thief:
        answer = client.second(await line.ask(client.first()))
        assert status(await line.ask(answer)) == 200
        await thief.ask(other.first())
        assert status(await thief.ask(answer)) == 401
    assert len(server.seen) == 1


async def test_final_token_is_refused_when_replayed_on_its_own_connection(
    gate: Gateway, server: DocumentServer
) -> None:
    client = NtlmClient("alice")
    async with line_to(gate) as line:
        answer = client.second(await line.ask(client.first()))
        assert status(await line.ask(answer)) == 200
        assert status(await line.ask(answer)) == 401
    assert len(server.seen) == 1


async def test_handshakes_of_two_hundred_connections_at_once_never_mix(gate: Gateway, server: DocumentServer) -> None:
    names = [("alice", "bob", "carol", "dave")[number % 4] for number in range(200)]

    async with contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(line_to(gate)) for _ in names]
        clients = [NtlmClient(name) for name in names]
        pairs = list(zip(lines, clients, strict=True))
        challenges = await asyncio.gather(*(line.ask(client.first()) for line, client in pairs))
        heads = await asyncio.gather(
            *(
                line.ask(client.second(challenge), path=f"/portal/{number}")
                for number, ((line, client), challenge) in enumerate(zip(pairs, challenges, strict=True))
            )
        )
    assert {status(head) for head in heads} == {200}
    seen = {int(exchange.path.rpartition("/")[2]): exchange.values("QVUSER")[0] for exchange in server.seen}
    assert seen == {number: f"DEMO\\{name}" for number, name in enumerate(names)}


async def test_http_1_0_client_signs_in_when_it_keeps_its_connection(gate: Gateway, server: DocumentServer) -> None:
    client = NtlmClient("alice")
    async with line_to(gate) as line:
        challenge = await line.ask(client.first(), version="1.0")
        assert status(challenge) == 401
        assert status(await line.ask(client.second(challenge), version="1.0")) == 200
    assert len(server.seen) == 1


async def test_http_1_0_client_is_refused_when_it_closes_its_connection(gate: Gateway) -> None:
    reply = await curl(f"{gate.url}/portal", "--http1.0", "-H", "Connection: close", user="alice", password=PASSWORD)
    assert reply.status == 401


async def test_request_that_is_pipelined_behind_the_first_token_ends_the_handshake(
    gate: Gateway, server: DocumentServer
) -> None:
    """The pipelined request has no token: it is challenged itself, and the final token that follows is refused."""
    client = NtlmClient("alice")
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    first = f"GET /portal HTTP/1.1\r\nHost: gate\r\nAuthorization: NTLM {client.first()}\r\n\r\n"
    writer.write((first + "GET /portal HTTP/1.1\r\nHost: gate\r\n\r\n").encode())
    line = Line(reader, writer)
    heads = []
    for _ in range(2):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heads.append(head)
        length = next(int(one.split(":")[1]) for one in head.lower().split("\r\n") if one.startswith("content-length"))
        await reader.readexactly(length)
    assert [status(head) for head in heads] == [401, 401]
    assert status(await line.ask(client.second(heads[0]))) == 401
    writer.close()
    assert server.seen == []


FORM = b"a=1"


async def live_session(gate: Gateway, user: str) -> str:
    """Signs in, opens a document, and returns the Cookie header."""
    cookie = await cookie_of(gate, user)
    assert (await curl(f"{gate.url}/docs/sales", "-b", cookie)).status == 200
    return f"Cookie: {cookie}"


async def post_form(line: Line, client: NtlmClient, cookie: str) -> tuple[str, str]:
    """Posts a form as WinINET does on a new connection: first without the body, with the first NTLM message."""
    challenge = await line.ask(client.first(), method="POST", path="/form", fields=[cookie])
    return challenge, await line.ask(client.second(challenge), method="POST", path="/form", body=FORM, fields=[cookie])


async def test_form_that_waits_for_a_challenge_arrives_whole_and_the_session_stays(
    gate: Gateway, server: DocumentServer
) -> None:
    cookie = await live_session(gate, "alice")
    server.seen.clear()
    async with line_to(gate) as line:
        challenge, posted = await post_form(line, NtlmClient("alice"), cookie)
        assert (status(challenge), status(posted)) == (401, 200)
        assert "set-cookie" not in posted.lower(), "the same person: session, CAL and cookies stay"
        assert status(await line.ask("", fields=[cookie])) == 200
    assert [(seen.path, seen.body) for seen in server.seen] == [("/form", FORM), ("/portal", b"")]


async def test_curl_posts_a_form_with_ntlm_and_a_live_session(
    gate: Gateway, server: DocumentServer, tmp_path: Path
) -> None:
    jar = str(tmp_path / "jar")
    assert (await curl(f"{gate.url}/docs/sales", "-c", jar, user="alice")).status == 200
    server.seen.clear()
    posted = await curl(f"{gate.url}/form", "-b", jar, "-d", "a=1", user="alice")
    assert (posted.status, posted.values("set-cookie")) == (200, [])
    assert [seen.body for seen in server.seen] == [FORM]
    assert len(gate.decisions("signed in")) == 1
    assert (await curl(f"{gate.url}/docs/sales", "-b", jar)).status == 200, "the session and its CAL are still there"
    assert len(gate.decisions("CAL")) <= int(WORKERS), "each worker claims it once"


async def test_another_person_on_a_live_session_signs_in_and_ends_it(gate: Gateway, server: DocumentServer) -> None:
    cookie = await live_session(gate, "alice")
    server.seen.clear()
    async with line_to(gate) as line:
        _, posted = await post_form(line, NtlmClient("bob"), cookie)
        assert status(posted) == 200
        assert "set-cookie: calgate=" in posted.lower()
        assert status(await line.ask("", fields=[cookie])) == 401, "alice's session has ended"
    assert [seen.values("QVUSER") for seen in server.seen] == [["DEMO\\bob"]]


async def test_wrong_password_on_a_live_session_is_refused_and_the_session_stays(
    gate: Gateway, server: DocumentServer
) -> None:
    cookie = await live_session(gate, "alice")
    server.seen.clear()
    async with line_to(gate) as line:
        _, posted = await post_form(line, NtlmClient("alice", "wrong"), cookie)
        assert status(posted) == 401
        assert status(await line.ask("", fields=[cookie])) == 200
    assert [seen.path for seen in server.seen] == ["/portal"]


async def test_handshake_completes_though_the_client_expects_100_continue(
    gate: Gateway, server: DocumentServer
) -> None:
    client = NtlmClient("alice")
    async with line_to(gate) as line:
        challenge = await line.ask_expecting(client.first(), FORM)
        assert status(challenge) == 401
        assert status(await line.ask_expecting(client.second(challenge), FORM)) == 200
    assert [seen.body for seen in server.seen] == [FORM]


async def test_gateways_own_paths_end_an_unfinished_handshake(gate: Gateway, server: DocumentServer) -> None:
    for path in ("signed-out", "sign-in/", "nothing"):
        client = NtlmClient("alice")
        async with line_to(gate) as line:
            challenge = await line.ask(client.first())
            assert status(await line.ask("", path=f"/_calgate/{path}")) in (200, 403)
            assert status(await line.ask(client.second(challenge))) == 401, path
    assert server.seen == []


async def test_handshake_of_several_steps_is_refused_on_a_proxys_connection(
    server: DocumentServer, tmp_path: Path
) -> None:
    """The next request on it may be another user's. The final token alone is what an attacker would replay."""
    listen = 'trusted_proxies = ["127.0.0.1/32"]'
    async with gateway(write_settings(tmp_path, server.port, listen=listen)) as gate, line_to(gate) as line:
        head = await line.ask(NtlmClient("alice").first(), fields=["X-Forwarded-For: 192.0.2.1"])
        assert status(head) == 401
        assert "www-authenticate: ntlm tlrm" not in head.lower(), "no challenge"
