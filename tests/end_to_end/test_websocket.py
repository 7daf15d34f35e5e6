"""WebSockets through a running gateway: bytes both ways, closed by the gateway when the session ends."""

import asyncio
import base64
import hashlib
import json
import struct
import time
from pathlib import Path

from support.gateway_process import (
    DocumentServer,
    Exchange,
    Gateway,
    answer_plainly,
    calgate,
    cookie_of,
    curl,
    gateway,
    raw,
    write_settings,
)

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = base64.b64encode(b"0" * 16)
ACCEPT = "Sec-WebSocket-Accept: " + base64.b64encode(hashlib.sha1(KEY + GUID).digest()).decode()


async def echo(exchange: Exchange) -> None:
    """A WebSocket server that sends each frame back, unmasked; small frames only."""
    key = exchange.values("sec-websocket-key")[0].encode()
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Accept: {accept}", "Sec-WebSocket-Extensions: x-agreed", "", ""]
    exchange.writer.write("\r\n".join(lines).encode() + frame(b"hello, early"))
    while True:
        opcode, payload = await read_frame(exchange.reader)
        exchange.writer.write(frame(payload, opcode=opcode))
        if opcode == 8:
            exchange.writer.close()
            return


def frame(payload: bytes, *, opcode: int = 1, mask: bool = False) -> bytes:
    size = len(payload)
    length = (
        bytes([size])
        if size < 126
        else b"\x7e" + struct.pack(">H", size)
        if size < 65536
        else b"\x7f" + struct.pack(">Q", size)
    )
    if not mask:
        return bytes([0x80 | opcode]) + length + payload
    key = b"\x01\x02\x03\x04"
    masked = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))
    return bytes([0x80 | opcode, length[0] | 0x80]) + length[1:] + key + masked


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size == 126:
        size = struct.unpack(">H", await reader.readexactly(2))[0]
    elif size == 127:
        size = struct.unpack(">Q", await reader.readexactly(8))[0]
    key = await reader.readexactly(4) if second & 0x80 else b""
    payload = await reader.readexactly(size)
    return first & 0x0F, bytes(b ^ key[i % 4] for i, b in enumerate(payload)) if key else payload


async def open_websocket(
    gate: Gateway, cookie: str, *, origin: str | None = None, path: str = "/live"
) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    lines = [
        f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{gate.port}", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {base64.b64encode(b'0' * 16).decode()}",
        "Sec-WebSocket-Extensions: x-agreed", f"Origin: {origin or gate.url}", f"Cookie: {cookie}", "", "",
    ]  # fmt: skip
    writer.write("\r\n".join(lines).encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    return head, reader, writer


async def test_websocket_echoes_and_negotiates_extensions_end_to_end(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    server.behaviour = echo
    head, reader, writer = await open_websocket(gate, cookie)
    assert head.startswith("HTTP/1.1 101 ")
    assert "Sec-WebSocket-Extensions: x-agreed" in head
    assert server.seen[-1].values("QVUSER") == ["DEMO\\alice"]
    assert await read_frame(reader) == (1, b"hello, early"), "bytes that arrived with the 101 were lost"
    for payload in (b"a", b"b" * 200, b"c" * 100_000):
        writer.write(frame(payload, mask=True))
        assert await read_frame(reader) == (1, payload)
    writer.write(frame(b"ping", opcode=9, mask=True))
    assert await read_frame(reader) == (9, b"ping"), "pings are forwarded, not answered by the gateway"
    writer.write(frame(struct.pack(">H", 1000), opcode=8, mask=True))
    assert (await read_frame(reader))[0] == 8
    assert await reader.read() == b""
    writer.close()


def greeting(cookie: str) -> bytes:
    """Returns a 101 response with a cookie, which is written to the store before the tunnel begins."""
    lines = (
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        ACCEPT,
        f"Set-Cookie: {cookie}=1",
    )
    return "\r\n".join([*lines, "", ""]).encode()


async def test_bytes_right_after_a_101_are_forwarded(gate: Gateway, server: DocumentServer) -> None:
    async def greet(exchange: Exchange) -> None:
        exchange.writer.write(greeting(exchange.path[1:]))
        await asyncio.sleep(0)  # two writes, which mostly arrive as two reads
        exchange.writer.write(frame(b"hello"))
        await exchange.reader.read()

    cookie = await cookie_of(gate, "alice")
    server.behaviour = greet
    for number in range(10):
        head, reader, writer = await open_websocket(gate, cookie, path=f"/c{number}")
        assert head.startswith("HTTP/1.1 101 ")
        assert await asyncio.wait_for(read_frame(reader), 5) == (1, b"hello")
        writer.close()


async def test_bytes_of_a_server_that_closes_right_after_its_101_are_forwarded(
    gate: Gateway, server: DocumentServer
) -> None:
    async def greet(exchange: Exchange) -> None:
        exchange.writer.write(greeting("c") + frame(struct.pack(">H", 1013), opcode=8))
        exchange.writer.close()

    cookie = await cookie_of(gate, "alice")
    server.behaviour = greet
    head, reader, writer = await open_websocket(gate, cookie)
    assert head.startswith("HTTP/1.1 101 ")
    assert await asyncio.wait_for(reader.read(), 5) == frame(struct.pack(">H", 1013), opcode=8)
    writer.close()


async def test_websocket_is_closed_with_1008_when_its_session_ends(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    server.behaviour = echo
    _, reader, writer = await open_websocket(gate, cookie)
    await read_frame(reader)
    code, out, err = await calgate("sessions", "end", "DEMO\\alice", "-c", str(gate.settings))
    assert (code, out) == (0, "1 session ended\n"), err
    opcode, payload = await asyncio.wait_for(read_frame(reader), 20)
    assert (opcode, struct.unpack(">H", payload[:2])[0]) == (8, 1008)
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()


async def test_close_frame_waits_for_the_end_of_a_frame_under_way(gate: Gateway, server: DocumentServer) -> None:
    go_on = asyncio.Event()

    async def half_a_frame(exchange: Exchange) -> None:
        head = f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{ACCEPT}\r\n\r\n"
        exchange.writer.write(head.encode())
        whole = frame(b"x" * 100)
        exchange.writer.write(whole[:50])
        await go_on.wait()
        exchange.writer.write(whole[50:] + frame(b"never seen"))
        await exchange.reader.read()

    cookie = await cookie_of(gate, "alice")
    server.behaviour = half_a_frame
    _, reader, writer = await open_websocket(gate, cookie)
    assert len(await reader.readexactly(50)) == 50
    await calgate("sessions", "end", "DEMO\\alice", "-c", str(gate.settings))
    go_on.set()
    assert await reader.readexactly(52) == frame(b"x" * 100)[50:]
    assert (await read_frame(reader))[0] == 8
    writer.close()


async def test_websocket_is_closed_with_1012_when_the_gateway_stops(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    server.behaviour = echo
    _, reader, writer = await open_websocket(gate, cookie)
    await read_frame(reader)
    stopping = asyncio.create_task(gate.stop())
    opcode, payload = await asyncio.wait_for(read_frame(reader), 5)
    assert (opcode, struct.unpack(">H", payload[:2])[0]) == (8, 1012)
    writer.close()
    assert await stopping == 0


async def test_websocket_of_a_foreign_or_null_origin_is_403(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    server.seen.clear()
    for origin in ("http://evil.example", "null"):
        head, _, writer = await open_websocket(gate, cookie, origin=origin)
        assert head.startswith("HTTP/1.1 403 ")
        writer.close()
    assert server.seen == []


async def test_upgrade_with_a_body_hides_no_second_request(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    server.seen.clear()
    hidden = b"GET /hidden HTTP/1.1\r\nHost: g\r\n\r\n"
    request = (
        f"GET /live HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nCookie: {cookie}\r\n"
        f"Content-Length: {len(hidden)}\r\n\r\n"
    ).encode()
    answer = await raw(gate.port, request + hidden, within=1)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert server.seen == []


async def test_upgrade_to_another_protocol_is_dropped(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    request = (
        f"GET /portal HTTP/1.1\r\nHost: g\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\nCookie: {cookie}\r\n\r\n"
    )
    assert (await raw(gate.port, request.encode())).startswith(b"HTTP/1.1 200 ")
    assert server.seen[-1].values("upgrade") == []


async def closed_with(reader: asyncio.StreamReader, within: float) -> int:
    """Skips frames until a Close frame arrives, and returns its status code."""
    async with asyncio.timeout(within):
        while True:
            opcode, payload = await read_frame(reader)
            if opcode == 8:
                return int(struct.unpack(">H", payload[:2])[0])


async def say(writer: asyncio.StreamWriter, every: float, *, opcode: int) -> None:
    """Sends a frame every few seconds until cancelled."""
    while True:
        writer.write(frame(b"x", opcode=opcode, mask=True))
        await asyncio.sleep(every)


async def test_data_keeps_session_and_cal_alive_and_pings_do_not(server: DocumentServer, tmp_path: Path) -> None:
    settings = write_settings(tmp_path, server.port, session='idle = "8s"')
    async with gateway(settings) as gate, asyncio.TaskGroup() as tasks:
        ends: dict[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}
        talking = []
        for user, opcode in (("alice", 1), ("bob", 9)):
            cookie = await cookie_of(gate, user)
            server.behaviour = echo
            head, *ends[user] = await open_websocket(gate, cookie, path="/docs/a")  # type: ignore[assignment]
            server.behaviour = answer_plainly
            assert head.startswith("HTTP/1.1 101 "), head
            talking.append(tasks.create_task(say(ends[user][1], 0.5, opcode=opcode)))
        began = time.time()
        assert await closed_with(ends["bob"][0], within=25) == 1008, "pings do not count as use, so bob's session ends"
        await asyncio.sleep(max(0.0, began + 12 - time.time()))  # longer than the idle timeout of a session
        _, out, _ = await calgate("cals", "list", "-c", str(settings), "--json")
        used = {holder["name"]: holder["last_used"] for holder in json.loads(out)["holders"]}
        assert used["DEMO\\alice"] > began + 5, "data frames count as use of the CAL"
        assert used["DEMO\\bob"] < began + 5
        alice_closed = asyncio.create_task(closed_with(ends["alice"][0], within=3))
        await asyncio.wait({alice_closed}, timeout=0.5)
        assert not alice_closed.done()
        alice_closed.cancel()
        for task in talking:
            task.cancel()
        for _, writer in ends.values():
            writer.close()


async def test_websocket_is_closed_when_its_cal_ends(server: DocumentServer, tmp_path: Path) -> None:
    license = 'session = { in_license = 2, idle_timeout = "2s", minimum = "2s" }'
    async with gateway(write_settings(tmp_path, server.port, license=license)) as gate:
        cookie = await cookie_of(gate, "alice")
        server.behaviour = echo
        _, reader, writer = await open_websocket(gate, cookie, path="/docs/a")
        assert await closed_with(reader, within=20) == 1008
        writer.close()


async def test_websocket_is_closed_with_1001_when_idle(server: DocumentServer, tmp_path: Path) -> None:
    async with gateway(write_settings(tmp_path, server.port, route='websocket_idle = "1s"')) as gate:
        cookie = await cookie_of(gate, "alice")
        server.behaviour = echo
        _, reader, writer = await open_websocket(gate, cookie)
        for _ in range(4):  # longer than websocket_idle; pings count as traffic
            await asyncio.sleep(0.5)
            writer.write(frame(b"x", opcode=9, mask=True))
        assert await closed_with(reader, within=5) == 1001
        writer.close()


async def test_websockets_of_one_user_are_limited_and_those_of_others_still_open(
    server: DocumentServer, tmp_path: Path
) -> None:
    settings = write_settings(tmp_path, server.port, listen="workers = 1", route="connections_per_user = 2")
    async with gateway(settings) as gate:
        alice, again, bob = [await cookie_of(gate, user) for user in ("alice", "alice", "bob")]
        server.behaviour = echo
        first, second = await open_websocket(gate, alice), await open_websocket(gate, again)
        refused = await open_websocket(gate, alice)
        assert refused[0].startswith("HTTP/1.1 503 "), "another session is not another user"
        server.behaviour = answer_plainly
        assert (await curl(f"{gate.url}/portal", "-H", f"Cookie: {alice}")).status == 200
        server.behaviour = echo
        others = await open_websocket(gate, bob)
        assert [head[:13] for head, _, _ in (first, second, others)] == ["HTTP/1.1 101 "] * 3
        first[2].write(frame(struct.pack(">H", 1000), opcode=8, mask=True))
        assert await asyncio.wait_for(first[1].read(), 5)  # up to its end
        after = await open_websocket(gate, alice)
        assert after[0].startswith("HTTP/1.1 101 ")
        for _, _, writer in (first, second, refused, others, after):
            writer.close()


async def test_101_that_does_not_fit_the_key_is_502(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    good = base64.b64encode(hashlib.sha1(base64.b64encode(b"0" * 16) + GUID).digest()).decode()
    upgrade, accept = "Upgrade: websocket", f"Sec-WebSocket-Accept: {good}"
    for wrong in (
        *([upgrade], [upgrade, f"Sec-WebSocket-Accept: {good[::-1]}"], [upgrade, accept, accept]),
        *([accept], ["Upgrade: h2c", accept], [upgrade, "Upgrade: h2c", accept]),
    ):

        async def switch(exchange: Exchange, wrong: list[str] = wrong) -> None:
            lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", *wrong, "", ""]
            exchange.writer.write("\r\n".join(lines).encode() + frame(b"hello"))

        server.behaviour = switch
        head, _, writer = await open_websocket(gate, cookie)
        assert head.startswith("HTTP/1.1 502 "), wrong
        writer.close()


async def test_upgrade_without_a_key_is_a_plain_request(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    lines = ("GET /portal HTTP/1.1", "Host: g", "Connection: Upgrade, close", "Upgrade: websocket", f"Cookie: {cookie}")
    request = "\r\n".join([*lines, "", ""])
    assert (await raw(gate.port, request.encode())).startswith(b"HTTP/1.1 200 ")
    assert server.seen[-1].values("upgrade") == []
