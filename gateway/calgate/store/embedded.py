"""The gateway's private Redis or Valkey: a child process on a unix socket, with its data in the state folder.

One process owns it, by a lock on the folder: a second server on the same data would start happily and ruin it. Others
(workers, the command line) attach to the socket; when the owner ends, whoever still waits takes the lock and goes on.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from calgate.store.server_binary import NoServerError, find_server

logger = logging.getLogger(__name__)

_LONGEST_SOCKET_PATH = 107  # sockaddr_un.sun_path less its NUL
_START_WITHIN = 10.0
_STOP_WITHIN = 2.0  # twice at most: asked, then killed
_PAUSE = 0.2
_HANDED_OVER = "CALGATE_STORE_LOCK"

# Runs before the server: it must die with the gateway, also when that is killed. Its parent may have died already.
_TIED_TO_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]): sys.exit(0)
os.execv(sys.argv[2], sys.argv[2:])
"""

_SETTINGS = {
    "port": "0",  # no TCP at all
    "unixsocket": "store.sock",  # relative to `dir`, so its length does not matter to the server
    "unixsocketperm": "700",
    "pidfile": "server.pid",
    "logfile": "server.log",
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "always",  # claims are rare, and a Named CAL that was granted must not be forgotten
    "save": "",
    "maxmemory-policy": "noeviction",
}


class EmbeddedFaultError(Exception):
    """The private store cannot be started; the message names the folder and what the server said."""


@contextlib.asynccontextmanager
async def private_server(state_dir: Path) -> AsyncIterator[str]:
    """Keeps a server running under `state_dir`/store while the context lives, or attaches to one; yields its socket.

    Raises NoServerError or EmbeddedFaultError if it cannot be started now; if it ends later, it is started again.
    """
    folder = (state_dir / "store").resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise EmbeddedFaultError(f"state_dir: the private store's folder {folder}: {error.strerror}") from error
    keeper = _Keeper(folder, _short(folder / _SETTINGS["unixsocket"], handle))
    keeping = asyncio.create_task(keeper.keep(), name="private store")
    try:
        answering = asyncio.create_task(keeper.wait_until_it_answers())
        await asyncio.wait({keeping, answering}, timeout=_START_WITHIN, return_when=asyncio.FIRST_COMPLETED)
        answering.cancel()
        if keeping.done():
            await keeping  # raises what ended it
        keeping.add_done_callback(_tell_if_failed)
        yield keeper.socket
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError, EmbeddedFaultError, NoServerError):
            await keeping
        os.close(handle)


def _short(socket: Path, folder: int) -> str:
    """A path to the socket that fits into a socket address: through the folder's descriptor where it is too long."""
    return str(socket) if len(os.fsencode(socket)) <= _LONGEST_SOCKET_PATH else f"/proc/self/fd/{folder}/{socket.name}"


class _Keeper:
    """Takes the lock when it is free, and from then on sees to it that exactly one server runs."""

    def __init__(self, folder: Path, socket: str) -> None:
        self.socket = socket
        self._folder = folder
        self._used = folder / "server.path"
        self._has_answered = False

    async def keep(self) -> None:
        """Never returns; raises EmbeddedFaultError if the first start fails."""
        with _lock.open(self._folder / "lock") as lock:
            await _take(lock.fileno())
            _lock.held = lock.fileno()
            server: asyncio.subprocess.Process | Adopted | None = self._adopted()
            if server is None:
                await self._end_left_over()
            while True:
                server = server or await self._start()
                try:
                    code = await server.wait()
                finally:
                    await _stop(server)
                if not self._has_answered:
                    raise EmbeddedFaultError(
                        f"the private store in {self._folder} does not start: {self._last_words()}"
                    )
                logger.error("the private store ended (%s) and is started again: %s", code, self._last_words())
                server = None
                await asyncio.sleep(_PAUSE)

    async def wait_until_it_answers(self) -> None:
        """Returns when the server has loaded its data."""
        while not await _answers(self.socket):  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(0.02)
        self._has_answered = True

    async def _start(self) -> asyncio.subprocess.Process:
        last_used = Path(self._used.read_text(encoding="utf-8")) if self._used.exists() else None
        program = await asyncio.to_thread(find_server, last_used)
        self._used.write_text(str(program), encoding="utf-8")
        settings = [word for name, value in _SETTINGS.items() for word in (f"--{name}", value)]
        # Started from the main thread: the kernel's "parent died" signal follows the thread that forked.
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _TIED_TO_PARENT, str(os.getpid()), str(program), *settings),
            cwd=self._folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C at the terminal is for the gateway, which stops the store last
        )

    def _adopted(self) -> "Adopted | None":
        """The server of the program image that this process had before an upgrade: it goes on as ours."""
        pid = self._left_over() if _lock.was_handed_over else None
        return Adopted(pid) if pid is not None else None

    async def _end_left_over(self) -> None:
        """Ends a server that still runs on this data although nobody owns it (its gateway was killed)."""
        left_over = self._left_over()
        if left_over is None:
            return
        logger.warning("a private store was left over by a gateway that was killed (pid %d); it is ended", left_over)
        for sent in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(left_over, sent)
            if await _gone(left_over, within=_STOP_WITHIN):
                return
        raise EmbeddedFaultError(f"another server (pid {left_over}) uses {self._folder} and cannot be ended")

    def _left_over(self) -> int | None:
        """The pid in the server's own file, if that process really works in this folder."""
        try:
            pid = int((self._folder / _SETTINGS["pidfile"]).read_text(encoding="ascii"))
            return pid if Path(f"/proc/{pid}/cwd").readlink() == self._folder else None
        except (OSError, ValueError):
            return None

    def _last_words(self) -> str:
        try:
            lines = (self._folder / _SETTINGS["logfile"]).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "it wrote no log"
        return " / ".join(lines[-3:])


async def _take(lock: int) -> None:
    """Waits for the lock; asked for again and again because a blocking flock would hold a thread for ever."""
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(0.25)
        else:
            return


class Adopted:
    """A child of this process that another program image of it started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    async def wait(self) -> int:
        """Its exit code; asked for again and again, since no event loop knows of it."""
        while self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)  # noqa: ASYNC222 - it does not block
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            else:
                await asyncio.sleep(_PAUSE)
        return self.returncode

    def send_signal(self, sent: int) -> None:
        os.kill(self.pid, sent)


class Lock:
    """The lock on the data, which a program image may hand over to the one that takes its place."""

    def __init__(self) -> None:
        self.held: int | None = None
        self._handed_over = os.environ.pop(_HANDED_OVER, "")

    @property
    def was_handed_over(self) -> bool:
        return bool(self._handed_over)

    def open(self, file: Path) -> IO[str]:
        """The lock file: as handed over, locked, or opened anew."""
        if self._handed_over:
            os.set_inheritable(int(self._handed_over), False)
            return os.fdopen(int(self._handed_over), "w", encoding="ascii")
        return file.open("w", encoding="ascii")

    def hand_over(self) -> None:
        """Before this program is replaced: the lock stays taken, and the server goes on."""
        if self.held is not None:
            os.set_inheritable(self.held, True)
            os.environ[_HANDED_OVER] = str(self.held)


_lock = Lock()  # one process keeps one private store
hand_over = _lock.hand_over


async def _stop(server: "asyncio.subprocess.Process | Adopted") -> None:
    for sent in (signal.SIGTERM, signal.SIGKILL):
        if server.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            server.send_signal(sent)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.wait(), _STOP_WITHIN)


async def _gone(pid: int, within: float) -> bool:
    for _ in range(int(within / 0.05)):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        await asyncio.sleep(0.05)
    return False


async def _answers(socket: str) -> bool:
    """Whether a server has loaded its data and answers within a second."""
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(b"PING\r\n")
                return (await reader.readline()).startswith(b"+PONG")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def _tell_if_failed(keeping: asyncio.Task[None]) -> None:
    if not keeping.cancelled() and (error := keeping.exception()):
        logger.error("the private store is no longer kept running: %s", error)
