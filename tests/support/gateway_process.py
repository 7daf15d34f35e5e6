"""A gateway process, a recording document server as its upstream, and real clients."""

import asyncio
import base64
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import spnego

from calgate_users import edit, ntlmv2
from support.ports import free_port

PASSWORD = "pass-Word 1"
WORKERS = os.environ.get("CALGATE_TEST_WORKERS", "1")  # of a gateway, unless the test sets its own number
BODY = b"<h1>a document</h1>"

Behaviour = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    """One request as the document server received it, byte by byte, and the means to respond to it."""

    head: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    body: bytes = b""

    @property
    def request_line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def path(self) -> str:
        return self.request_line.split(" ")[1]

    @property
    def fields(self) -> list[tuple[str, str]]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines if line)]

    def values(self, name: str) -> list[str]:
        return [value for field_name, value in self.fields if field_name.lower() == name.lower()]

    async def answer(self, body: bytes = BODY, *, status: str = "200 OK", fields: Sequence[str] = ()) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
        self.writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        await self.writer.drain()


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    """Reads a chunked body as the gateway sends it: no extensions, no trailers. Raises ValueError for anything else."""
    body = b""
    while size := int((await reader.readuntil(b"\r\n"))[:-2], 16):
        body += await reader.readexactly(size)
        if await reader.readexactly(2) != b"\r\n":
            raise ValueError("a chunk that does not end")
    if await reader.readexactly(2) != b"\r\n":
        raise ValueError("trailers")
    return body


async def answer_plainly(exchange: Exchange) -> None:
    """Responds with the usual document."""
    await exchange.answer()


@dataclass(eq=False)
class DocumentServer:
    """An HTTP/1.1 server that records every request; `behaviour` decides the response."""

    port: int = 0
    seen: list[Exchange] = field(default_factory=list)
    behaviour: Behaviour = answer_plainly
    reads_body: bool = True

    connections: set[asyncio.Task[None]] = field(default_factory=set)
    listening: asyncio.Server | None = None
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def stop(self) -> None:
        """Stops listening and ends all connections."""
        assert self.listening is not None
        self.listening.close()
        for task in self.connections:
            task.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)
        for writer in self.writers:  # a task that was cancelled before it began has not closed its connection
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers = [known for known in self.writers if not known.is_closing()] + [writer]
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self.connections.add(task)
        task.add_done_callback(self.connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                exchange = Exchange(head, reader, writer)
                length = exchange.values("content-length")
                if self.reads_body and length:
                    exchange.body = await reader.readexactly(int(length[0]))
                elif self.reads_body and exchange.values("transfer-encoding"):
                    exchange.body = await read_chunks(reader)
                self.seen.append(exchange)
                await self.behaviour(exchange)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the gateway or the test has ended the connection
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def document_server() -> AsyncIterator[DocumentServer]:
    """Starts a document server on a free port."""
    server = DocumentServer()
    listening = await asyncio.start_server(server.accept, "127.0.0.1", 0, limit=1 << 20)
    server.port = listening.sockets[0].getsockname()[1]
    server.listening = listening
    async with listening:
        yield server
        await server.stop()


SETTINGS = """
state_dir = "{folder}/state"

[listen]
bind = "127.0.0.1:{port}"
{listen}

[store]
{store}

[session]
{session}

[negotiate]
ntlm = "users"

[users]
file = "{folder}/users.toml"

[[access]]
name = "app users"
groups = ["DEMO\\\\app-users"]

[licenses.demo]
contact = "help@demo.example"
{license}

[[routes]]
path = "/"
upstreams = ["http://127.0.0.1:{upstream}"]
license = "demo"
opens = '^/docs/(?P<document>[^?/]+)$'
uses = '^/docs/(?P<document>[^?/]+)/click$'
polls = '^/docs/(?P<document>[^?/]+)/poll$'
sign_on = {{ headers = {{ QVUSER = '{{domain}}\\{{account}}' }} }}
{route}

{more}
"""

POOLS = "named = { in_license = 2 }\nsession = { in_license = 2 }"


@dataclass
class Gateway:
    """A running `calgate run`."""

    process: asyncio.subprocess.Process
    settings: Path
    port: int
    scheme: str
    log: Path

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def decisions(self, event: str | None = None) -> list[dict[str, object]]:
        """Returns the JSON lines of the log, or only those of one event."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if event in (None, line["event"])]

    def last_line(self, beginning: str) -> str:
        """Returns the text of the last line of the log that begins so; others can follow it at any time."""
        return [text for line in self.decisions() if (text := str(line["event"])).startswith(beginning)][-1]

    async def stop(self, sent: int = signal.SIGTERM) -> int:
        """Sends a signal, waits for the end and returns the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(sent)
        return await asyncio.wait_for(self.process.wait(), 30)


def write_settings(
    folder: Path,
    upstream: int,
    *,
    users: Sequence[str] = ("alice", "bob", "carol", "dave"),
    listen: str = "",
    store: str = "",
    session: str = "",
    license: str = POOLS,
    route: str = "",
    more: str = "",
    port: int | None = None,
) -> Path:
    """Writes a settings file and its users file, in which all users but mallory are in app-users; returns its path."""
    nt_hash = ntlmv2.nt_hash(PASSWORD)
    for name in (*users, "mallory"):
        groups = ("app-users",) if name != "mallory" else ("others",)
        edit.add(folder / "users.toml", name, domain="DEMO", display_name=None, groups=groups, nt_hash=nt_hash)
    file = folder / "calgate.toml"
    if WORKERS != "1" and "workers" not in listen:
        listen += f"\nworkers = {WORKERS}"
    text = SETTINGS.format(
        folder=folder,
        port=port or free_port(),
        upstream=upstream,
        listen=listen,
        store=store,
        session=session,
        license=license,
        route=route,
        more=more,
    )
    file.write_text(text)
    return file


@contextlib.asynccontextmanager
async def gateway(settings: Path, *, prefix: Sequence[str] = ()) -> AsyncIterator[Gateway]:
    """Starts a gateway and waits until it serves; stops it at the end."""
    text = settings.read_text()
    port = int(re.search(r'bind = \[?"127\.0\.0\.1:(\d+)"', text)[1])  # type: ignore[index]
    log = settings.with_suffix(".log")
    started = log.stat().st_size if log.exists() else 0
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *(*prefix, sys.executable, "-m", "calgate", "run", "-c", str(settings)), stdout=out, stderr=out
        )
    running = Gateway(process, settings, port, "https" if "tls = " in text else "http", log)
    try:
        await _until_ready(running, started)
        yield running
    finally:
        if process.returncode is None:
            await running.stop()


async def _until_ready(running: Gateway, started: int) -> None:
    for _ in range(2400):
        if running.process.returncode is not None:
            raise AssertionError(f"the gateway ended: {running.log.read_text()}")
        if "listening on" in running.log.read_text()[started:]:
            return
        await asyncio.sleep(0.025)
    raise AssertionError(f"the gateway does not listen: {running.log.read_text()[started:]}")


def workers_of(gate: Gateway) -> list[int]:
    """Returns the pids of the workers, oldest first."""
    children = Path(f"/proc/{gate.process.pid}/task/{gate.process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"\0worker\0" in _command_line_of(pid)]


def _command_line_of(pid: str) -> bytes:
    """Returns the words of a process, none if it has just ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def memory_of(gate: Gateway) -> int:
    """Returns the resident memory of the workers, in bytes."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in workers_of(gate)]
    return sum(int(text.partition("VmRSS:")[2].split()[0]) * 1024 for text in texts)


@dataclass(frozen=True)
class Reply:
    """The response that curl received."""

    status: int
    headers: str
    body: bytes
    exit: int

    def values(self, name: str) -> list[str]:
        return re.findall(rf"(?im)^{re.escape(name)}: *(.*?)\r?$", self.headers)

    @property
    def json(self) -> dict[str, object]:
        return dict(json.loads(self.body))


async def curl(url: str, *options: str, user: str | None = None, password: str = PASSWORD) -> Reply:
    """Runs curl and returns the last response; with `user`, curl signs in by NTLM."""
    words = ["curl", "-sS", "--max-time", "60", "-g", "--noproxy", "*", *options]
    if user is not None:
        words += ["--ntlm", "-u", f"{user if chr(92) in user else 'DEMO' + chr(92) + user}:{password}"]
    with tempfile.TemporaryDirectory() as folder:
        head = Path(folder) / "head"
        process = await asyncio.create_subprocess_exec(
            *(*words, "-D", str(head), url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "HOME": folder},
        )
        body, errors = await process.communicate()
        headers = head.read_bytes().decode("latin-1") if head.exists() else errors.decode()
    blocks = [block for block in headers.split("\r\n\r\n") if block.startswith("HTTP/")]
    last = blocks[-1] if blocks else ""
    status = int(last.split(" ")[1]) if last else 0
    return Reply(status, last, body, process.returncode or 0)


async def has_status(asking: Awaitable[Reply], status: int) -> bool:
    """Whether a request gets this status; for `until`."""
    return (await asking).status == status


async def raw(port: int, data: bytes, *, within: float = 5, begins: float = 30) -> bytes:
    """Sends bytes and returns what comes back until the gateway closes, or sends nothing more for `within` seconds.

    `begins`: seconds for the first bytes, many, because a loaded machine may respond late.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    received = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while piece := await asyncio.wait_for(reader.read(65536), within if received else begins):
            received += piece
    writer.close()
    return received


async def calgate(*words: str, stdin: bytes | None = None) -> tuple[int, str, str]:
    """Runs a command of calgate and returns exit code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "calgate", *words),
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(stdin), 60)
    return process.returncode or 0, out.decode(), err.decode()


class NtlmClient:
    """An NTLM client for one handshake on a raw connection; pyspnego sends a MIC, as Windows does."""

    def __init__(self, name: str, password: str = PASSWORD) -> None:
        self._context = spnego.client(
            f"DEMO\\{name}",
            password,
            hostname="gate",
            service="HTTP",
            protocol="ntlm",
            options=spnego.NegotiateOptions.use_ntlm,
        )

    def first(self) -> str:
        """Returns the first message, in base64."""
        return base64.b64encode(self._context.step()).decode()

    def second(self, head: str) -> str:
        """Returns the message that follows the challenge in a response's head, in base64."""
        token = re.search(r"(?i)www-authenticate: ntlm (\S+)", head)
        assert token is not None, head
        return base64.b64encode(self._context.step(base64.b64decode(token[1]))).decode()


async def cookie_of(gate: Gateway, user: str) -> str:
    """Signs in and returns the session cookie as name=value."""
    reply = await curl(f"{gate.url}/portal", user=user)
    assert reply.status == 200, reply
    return next(c for c in reply.values("set-cookie") if "calgate=" in c).partition(";")[0]
