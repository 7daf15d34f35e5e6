"""WebSockets through the real door: bytes both ways, closed by the gateway when the session ends."""

import asyncio
import base64
import hashlib
import struct

from whole.rig import DocumentServer, Exchange, Gateway, calgate, cookie_of, raw

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


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
    gate: Gateway, cookie: str, *, origin: str | None = None
) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    lines = [
        "GET /live HTTP/1.1", f"Host: 127.0.0.1:{gate.port}", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {base64.b64encode(b'0' * 16).decode()}",
        "Sec-WebSocket-Extensions: x-agreed", f"Origin: {origin or gate.url}", f"Cookie: {cookie}", "", "",
    ]  # fmt: skip
    writer.write("\r\n".join(lines).encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    return head, reader, writer


async def test_a_websocket_echoes_and_extensions_are_agreed_end_to_end(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    server.behaviour = echo
    head, reader, writer = await open_websocket(gate, cookie)
    assert head.startswith("HTTP/1.1 101 ")
    assert "Sec-WebSocket-Extensions: x-agreed" in head
    assert server.seen[-1].values("QVUSER") == ["DEMO\\alice"]
    assert await read_frame(reader) == (1, b"hello, early"), "bytes that came with the 101 are kept"
    for payload in (b"a", b"b" * 200, b"c" * 100_000):
        writer.write(frame(payload, mask=True))
        assert await read_frame(reader) == (1, payload)
    writer.write(frame(b"ping", opcode=9, mask=True))
    assert await read_frame(reader) == (9, b"ping"), "pings are the two ends' own"
    writer.write(frame(struct.pack(">H", 1000), opcode=8, mask=True))
    assert (await read_frame(reader))[0] == 8
    assert await reader.read() == b""
    writer.close()


async def test_it_is_closed_with_1008_when_its_session_ends(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    server.behaviour = echo
    _, reader, writer = await open_websocket(gate, cookie)
    await read_frame(reader)
    code, out, err = await calgate("sessions", "end", "DEMO\\alice", "-c", str(gate.settings))
    assert (code, out) == (0, "1 session ended\n"), err
    opcode, payload = await asyncio.wait_for(read_frame(reader), 2)
    assert (opcode, struct.unpack(">H", payload[:2])[0]) == (8, 1008)
    assert await asyncio.wait_for(reader.read(), 3) == b""
    writer.close()


async def test_the_close_frame_waits_for_the_end_of_a_frame_under_way(gate: Gateway, server: DocumentServer) -> None:
    go_on = asyncio.Event()

    async def half_a_frame(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
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


async def test_it_is_told_1012_when_the_gateway_stops(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    server.behaviour = echo
    _, reader, writer = await open_websocket(gate, cookie)
    await read_frame(reader)
    stopping = asyncio.create_task(gate.stop())
    opcode, payload = await asyncio.wait_for(read_frame(reader), 5)
    assert (opcode, struct.unpack(">H", payload[:2])[0]) == (8, 1012)
    writer.close()
    assert await stopping == 0


async def test_a_foreign_or_null_origin_is_refused(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    server.seen.clear()
    for origin in ("http://evil.example", "null"):
        head, _, writer = await open_websocket(gate, cookie, origin=origin)
        assert head.startswith("HTTP/1.1 403 ")
        writer.close()
    assert server.seen == []


async def test_an_upgrade_with_a_body_does_not_hide_a_second_request(gate: Gateway, server: DocumentServer) -> None:
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


async def test_any_other_upgrade_is_dropped(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    request = (
        f"GET /portal HTTP/1.1\r\nHost: g\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\nCookie: {cookie}\r\n\r\n"
    )
    assert (await raw(gate.port, request.encode())).startswith(b"HTTP/1.1 200 ")
    assert server.seen[-1].values("upgrade") == []
