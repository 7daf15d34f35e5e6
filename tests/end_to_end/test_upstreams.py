"""Several document servers behind one route: which one serves a session, and what happens when one fails."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from support.gateway_process import (
    DocumentServer,
    Exchange,
    Gateway,
    calgate,
    cookie_of,
    curl,
    document_server,
    gateway,
    write_settings,
)
from support.waiting import until

USERS = [f"user{number}" for number in range(12)]


@contextlib.asynccontextmanager
async def two_servers(folder: Path, route: str = "") -> AsyncIterator[tuple[Gateway, DocumentServer, DocumentServer]]:
    async with document_server() as one, document_server() as two:
        settings = write_settings(folder, one.port, users=USERS, route=route, license="session = { in_license = 99 }")
        text = settings.read_text()
        both = f'["http://127.0.0.1:{one.port}", "http://127.0.0.1:{two.port}"]'
        settings.write_text(text.replace(f'["http://127.0.0.1:{one.port}"]', both))
        async with gateway(settings) as gate:
            yield gate, one, two


async def cookies_of(gate: Gateway) -> list[str]:
    return [await cookie_of(gate, name) for name in USERS]


async def ask(gate: Gateway, cookie: str, *options: str) -> int:
    return (await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}", *options)).status


async def test_session_stays_with_its_server_and_both_servers_get_some(tmp_path: Path) -> None:
    async with two_servers(tmp_path) as (gate, one, two):
        for cookie in await cookies_of(gate):
            one.seen.clear()
            two.seen.clear()
            for _ in range(3):
                assert await ask(gate, cookie) == 200
            assert {len(one.seen), len(two.seen)} == {0, 3}
        assert one.connections
        assert two.connections


async def test_sessions_of_a_failed_server_move_and_the_others_stay(tmp_path: Path) -> None:
    async with two_servers(tmp_path) as (gate, one, two):
        cookies = await cookies_of(gate)
        homes = {}
        for cookie in cookies:
            one.seen.clear()
            await ask(gate, cookie)
            homes[cookie] = one if one.seen else two
        await one.stop()
        for cookie in cookies:
            assert await ask(gate, cookie) == 200
            posted = await curl(f"{gate.url}/form", "-H", f"Cookie: {cookie}", "-d", "a=1")
            assert posted.status == 200, "nothing had been sent to the failed server, so a POST is retried as well"
        assert len(two.seen) >= 2 * len(cookies)
        assert set(homes.values()) == {one, two}


async def test_slow_uploads_of_one_user_leave_connections_to_others(tmp_path: Path) -> None:
    route = 'connections = 6\nconnect_timeout = "2s"'
    async with document_server() as server, contextlib.AsyncExitStack() as stack:
        gate = await stack.enter_async_context(gateway(write_settings(tmp_path, server.port, route=route)))
        slow, other = await cookie_of(gate, "alice"), await cookie_of(gate, "bob")
        head = f"POST /form HTTP/1.1\r\nHost: g\r\nCookie: {slow}\r\nContent-Length: 100000\r\n\r\nbegun"
        for _ in range(12):
            _, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            stack.callback(writer.close)
            writer.write(head.encode())
        await until(lambda: len(server.writers) >= 3)
        assert [await ask(gate, other) for _ in range(3)] == [200, 200, 200]
        assert await ask(gate, slow) == 503, "further requests of the same user wait and then fail"
        assert "requests of this user were using" in gate.log.read_text()


async def test_post_is_never_sent_twice(tmp_path: Path) -> None:
    async def hang_up(exchange: Exchange) -> None:
        exchange.writer.transport.abort()

    async with two_servers(tmp_path) as (gate, one, two):
        cookie = await cookie_of(gate, "user0")
        one.behaviour = two.behaviour = hang_up
        one.seen.clear()
        two.seen.clear()
        assert (await curl(f"{gate.url}/form", "-H", f"Cookie: {cookie}", "-d", "a=1")).status == 502
        assert len(one.seen) + len(two.seen) == 1


async def test_slow_upload_does_not_count_as_a_failure_of_the_server(tmp_path: Path) -> None:
    async with two_servers(tmp_path, 'answer_timeout = "1s"') as (gate, *_):
        cookie = await cookie_of(gate, "user0")

        async def upload_slowly() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            writer.write(f"POST /form HTTP/1.1\r\nHost: g\r\nCookie: {cookie}\r\nContent-Length: 3\r\n\r\n".encode())
            for piece in (b"a", b"=", b"1"):
                writer.write(piece)
                await asyncio.sleep(2.5)
            answer = await reader.readuntil(b"\r\n")
            writer.close()
            return answer

        assert await asyncio.gather(*(upload_slowly() for _ in range(3))) == [b"HTTP/1.1 200 OK\r\n"] * 3
        assert "marked down" not in gate.log.read_text()


async def test_get_on_a_stale_connection_is_sent_on_another(gate: Gateway, server: DocumentServer) -> None:
    async def once(exchange: Exchange) -> None:
        await exchange.answer()
        exchange.writer.close()

    cookie = await cookie_of(gate, "alice")
    server.behaviour = once
    for _ in range(10):
        assert await ask(gate, cookie) == 200


async def test_health_check_marks_a_server_down_and_up(tmp_path: Path) -> None:
    async def sick(exchange: Exchange) -> None:
        await exchange.answer(status="500 Internal Server Error" if exchange.path == "/healthy" else "200 OK")

    async with two_servers(tmp_path, 'health = { path = "/healthy", every = "200ms" }') as (gate, one, two):
        one.behaviour = sick
        await until(lambda: "marked down by its health check (status 500)" in gate.log.read_text())
        cookies = await cookies_of(gate)
        one.seen.clear()
        for cookie in cookies:
            assert await ask(gate, cookie) == 200
        assert [exchange.path for exchange in one.seen if exchange.path != "/healthy"] == []
        one.behaviour = Exchange.answer
        await until(lambda: "marked up by its health check" in gate.log.read_text())
        for cookie in cookies:
            await ask(gate, cookie)
        assert any(exchange.path == "/portal" for exchange in one.seen)
        two.behaviour = one.behaviour = sick
        for _ in range(100):
            reply = await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookies[0]}")
            if reply.status == 503:
                break
            await asyncio.sleep(0.05)
        assert (reply.status, reply.json["code"]) == (503, "no-upstream")


async def test_administrator_drains_a_server_and_restores_it(tmp_path: Path) -> None:
    async with two_servers(tmp_path) as (gate, one, _):
        cookies = await cookies_of(gate)
        name = f"http://127.0.0.1:{one.port}"
        code, out, err = await calgate("upstreams", "drain", name, "-c", str(gate.settings))
        assert (code, out) == (0, f"{name} is drained\n"), err

        async def is_unused() -> bool:
            one.seen.clear()
            assert {await ask(gate, cookie) for cookie in cookies} == {200}
            return not one.seen

        async def is_used() -> bool:
            return not await is_unused()

        await until(is_unused)
        _, out, _ = await calgate("upstreams", "list", "-c", str(gate.settings), "--json")
        assert '"drained": true' in out
        await calgate("upstreams", "restore", name, "-c", str(gate.settings))
        await until(is_used)
        code, _, err = await calgate("upstreams", "drain", "http://other", "-c", str(gate.settings))
        assert code == 1
        assert name in err
