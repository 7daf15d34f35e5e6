"""Handshakes at their edges: bodies, replays, many at once, old clients."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from support.gateway_process import PASSWORD, DocumentServer, Gateway, NtlmClient, curl


class Line:
    """A connection of a client's own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(
        self, token: str, *, method: str = "GET", path: str = "/portal", body: bytes = b"", version: str = "1.1"
    ) -> str:
        """Sends a request with a token; the head of the answer."""
        lines = [f"{method} {path} HTTP/{version}", "Host: gate", f"Authorization: NTLM {token}"]
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


@contextlib.asynccontextmanager
async def line_to(gate: Gateway) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    yield Line(reader, writer)
    writer.close()


def status(head: str) -> int:
    return int(head.split(" ")[1])


@pytest.mark.parametrize("size", [0, 100, 1 << 20])
async def test_a_body_that_comes_with_every_leg_arrives_once_and_whole(
    gate: Gateway, server: DocumentServer, size: int
) -> None:
    """Browsers send none until they are signed in; other clients send all of it each time."""
    client, body = NtlmClient("alice"), b"x" * size
    async with line_to(gate) as line:
        challenge = await line.ask(client.first(), method="POST", path="/form", body=body)
        assert status(challenge) == 401
        assert status(await line.ask(client.second(challenge), method="POST", path="/form", body=body)) == 200
    assert [(seen.path, len(seen.body)) for seen in server.seen] == [("/form", size)]


async def test_an_answer_shown_again_on_another_connection_is_refused(gate: Gateway, server: DocumentServer) -> None:
    client, other = NtlmClient("alice"), NtlmClient("alice")
    async with line_to(gate) as line, line_to(gate) as thief:
        answer = client.second(await line.ask(client.first()))
        assert status(await line.ask(answer)) == 200
        await thief.ask(other.first())
        assert status(await thief.ask(answer)) == 401
    assert len(server.seen) == 1


async def test_an_answer_shown_again_on_its_own_connection_is_refused(gate: Gateway, server: DocumentServer) -> None:
    client = NtlmClient("alice")
    async with line_to(gate) as line:
        answer = client.second(await line.ask(client.first()))
        assert status(await line.ask(answer)) == 200
        assert status(await line.ask(answer)) == 401
    assert len(server.seen) == 1


async def test_two_hundred_connections_with_all_challenges_out_at_once_never_mix(
    gate: Gateway, server: DocumentServer
) -> None:
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


async def test_an_old_client_that_keeps_its_connection_signs_in(gate: Gateway, server: DocumentServer) -> None:
    client = NtlmClient("alice")
    async with line_to(gate) as line:
        challenge = await line.ask(client.first(), version="1.0")
        assert status(challenge) == 401
        assert status(await line.ask(client.second(challenge), version="1.0")) == 200
    assert len(server.seen) == 1


async def test_an_old_client_that_does_not_keep_it_is_refused_and_nothing_breaks(gate: Gateway) -> None:
    reply = await curl(f"{gate.url}/portal", "--http1.0", "-H", "Connection: close", user="alice", password=PASSWORD)
    assert reply.status == 401


async def test_a_request_sent_ahead_of_the_challenge_ends_the_handshake(gate: Gateway, server: DocumentServer) -> None:
    """Pipelined behind NEGOTIATE, without a token: it is challenged itself, and the answer that follows is refused."""
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
