"""The same bytes through the gateway, nginx and HAProxy: `vectors.py` explains each difference.

Each proxy forwards to a recording document server of its own and is configured as its manual suggests.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from end_to_end.vectors import VECTORS, Vector
from support.gateway_process import (
    DocumentServer,
    Exchange,
    cookie_of,
    document_server,
    gateway,
    raw,
    write_settings,
)
from support.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

WATCHED = ("forwarded", "te", "keep-alive", "upgrade", "expect", "proxy-x")
OF_PROXIES = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")
SILENCE = 0.4  # seconds without a byte after which the response is complete

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""
HAPROXY = """
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend near
    bind 127.0.0.1:{port}
    default_backend documents
backend documents
    server one 127.0.0.1:{upstream}
"""


@dataclass(eq=False)
class Stand:
    """A proxy with a document server of its own."""

    port: int
    server: DocumentServer
    cookie: str = ""
    arrived: list[str] = field(default_factory=list)

    async def record(self, exchange: Exchange) -> None:
        """Records a request once it is complete; a truncated or malformed one counts as not arrived."""
        if exchange.values("transfer-encoding"):
            body, trailers = await read_any_chunks(exchange.reader)
        else:
            body, trailers = await exchange.reader.readexactly(int((exchange.values("content-length") or ["0"])[0])), []
        self.arrived.append(describe(exchange, body, trailers))
        await exchange.answer()

    async def try_out(self, vector: Vector) -> tuple[str, bytes]:
        """Returns what arrives at the document server, "" if nothing does, and the proxy's response."""
        self.arrived.clear()
        answer = await raw(
            self.port, vector.sent.replace(b"COOKIE", self.cookie.encode()), within=SILENCE, begins=SILENCE
        )
        return ", ".join(self.arrived), answer


async def read_any_chunks(reader: asyncio.StreamReader) -> tuple[bytes, list[str]]:
    """Reads a chunked body and its trailers; chunk extensions become part of the body, so that the test sees them."""
    body = b""
    while True:
        size, separator, extension = (await reader.readuntil(b"\r\n"))[:-2].partition(b";")
        body += separator + extension
        if not int(size, 16):
            break
        body += (await reader.readexactly(int(size, 16) + 2))[:-2]
    trailers = []
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        trailers.append(line.decode("latin-1").strip())
    return body, trailers


def describe(exchange: Exchange, body: bytes, trailers: list[str]) -> str:
    method, target, _ = exchange.request_line.split(" ", 2)
    shown = [
        f"{name.lower()}={value}"
        for name, value in exchange.fields
        if (name.lower().startswith("x") or name.lower() in WATCHED) and name.lower() not in OF_PROXIES
    ]
    text = body.decode("latin-1")
    return " ".join([method, target, *([f"'{text}'"] if body else []), *shown, *(f"trailer {t}" for t in trailers)])


@contextlib.asynccontextmanager
async def peer(program: str, text: str, folder: Path) -> AsyncIterator[Stand]:
    """Starts nginx or HAProxy with this configuration."""
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    async with document_server() as server:
        stand = Stand(free_port(), server)
        file = folder / f"{program}.conf"
        file.write_text(text.format(folder=folder, port=stand.port, upstream=server.port))
        options = ("-p", str(folder), "-c") if program == "nginx" else ("-db", "-f")
        with (folder / f"{program}.out").open("wb") as out:
            process = await asyncio.create_subprocess_exec(program, *options, str(file), stdout=out, stderr=out)
        try:
            await _until_open(stand.port, process, folder / f"{program}.out")
            yield stand
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _until_open(port: int, process: asyncio.subprocess.Process, out: Path) -> None:
    for _ in range(200):
        assert process.returncode is None, out.read_text()
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"the proxy does not listen: {out.read_text()}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stands(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Stand]]:
    """Starts the gateway, nginx and HAProxy."""
    folder = tmp_path_factory.mktemp("differential")
    async with (
        document_server() as server,
        gateway(write_settings(folder, server.port)) as gate,
        peer("nginx", NGINX, folder) as nginx,
        peer("haproxy", HAPROXY, folder) as haproxy,
    ):
        found = {
            "calgate": Stand(gate.port, server, await cookie_of(gate, "alice")),
            "nginx": nginx,
            "haproxy": haproxy,
        }
        for stand in found.values():
            stand.server.reads_body = False
            stand.server.behaviour = stand.record
        yield found


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
async def test_vector_has_its_verdict_and_explains_every_difference(stands: dict[str, Stand], vector: Vector) -> None:
    tried = await asyncio.gather(*(stand.try_out(vector) for stand in stands.values()))
    (arrived, answer), *others = tried
    status = answer.split(b" ")[1].decode() if answer.startswith(b"HTTP/1.1 ") else "no answer"
    assert (arrived or status) == vector.verdict
    for name, (theirs, said), explanation in zip(
        ("nginx", "haproxy"), others, (vector.nginx, vector.haproxy), strict=True
    ):
        told = f"{name}: {theirs or 'refused'} ({said[:40]!r}); the gateway: {arrived or 'refused'}"
        assert (theirs != arrived) == bool(explanation), told
