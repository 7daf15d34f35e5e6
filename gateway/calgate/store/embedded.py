"""The gateway's private Redis or Valkey: a child process on a unix socket, with its data in the state folder.

One process owns it, by a lock on the folder: a second server would start on the same data and ruin it. Others (workers,
the command line) attach to the socket; when the owner ends, a process that waits takes the lock and runs the server.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from getpass import getuser
from pathlib import Path
from typing import IO

from calgate.store.server_binary import NoServerError, find_server

logger = logging.getLogger(__name__)

_LONGEST_SOCKET_PATH = 107  # sockaddr_un.sun_path less its NUL
_START_WITHIN = 10.0
_STOP_WITHIN = 2.0  # twice at most: after SIGTERM, then after SIGKILL
_PAUSE = 0.2
_HANDED_OVER = "CALGATE_STORE_LOCK"

# Runs before the server, which must end with the gateway even if that is killed; the gateway may have ended already.
_TIED_TO_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]): sys.exit(0)
os.execv(sys.argv[2], sys.argv[2:])
"""

_SETTINGS = {
    "port": "0",  # no TCP at all
    "unixsocket": "store.sock",  # relative to the working directory, so a long path does not matter
    "unixsocketperm": "700",
    "pidfile": "server.pid",
    "logfile": "server.log",
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "always",  # claims are rare, and a granted Named CAL must not be lost
    "save": "",
    "maxmemory-policy": "noeviction",
}


class EmbeddedFaultError(Exception):
    """The private store cannot be started; the message has the folder and the server's last log lines."""


def _unusable(state_dir: Path, folder: Path, error: OSError) -> EmbeddedFaultError:
    if state_dir.exists():
        return EmbeddedFaultError(f"state_dir: the private store's folder {folder}: {error.strerror}")
    remedy = f"install -d -m 0700 -o {getuser()} {state_dir}"
    return EmbeddedFaultError(f"state_dir: {state_dir} cannot be made ({error.strerror}); as root: {remedy}")


@contextlib.asynccontextmanager
async def private_server(state_dir: Path) -> AsyncIterator[str]:
    """Runs a server under `state_dir`/store, or attaches to a running one, and yields its socket.

    Raises NoServerError or EmbeddedFaultError if it cannot be started now. If it ends later, it is started again.
    """
    folder = (state_dir / "store").resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _unusable(state_dir, folder, error) from error
    keeper = _Keeper(folder, _short(folder / _SETTINGS["unixsocket"], handle))
    keeping = asyncio.create_task(keeper.keep(), name="private store")
    try:
        loading = asyncio.create_task(keeper.wait_until_ready())
        await asyncio.wait({keeping, loading}, timeout=_START_WITHIN, return_when=asyncio.FIRST_COMPLETED)
        loading.cancel()
        if keeping.done():
            await keeping  # raises what ended it
        keeping.add_done_callback(_log_failure)
        yield keeper.socket
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError, EmbeddedFaultError, NoServerError):
            await keeping
        os.close(handle)


def _short(socket: Path, folder: int) -> str:
    """Returns a path to the socket that fits into a socket address: by the folder's descriptor if it is too long."""
    return str(socket) if len(os.fsencode(socket)) <= _LONGEST_SOCKET_PATH else f"/proc/self/fd/{folder}/{socket.name}"


class _Keeper:
    """Takes the lock when it is free, and from then on makes sure that exactly one server runs."""

    def __init__(self, folder: Path, socket: str) -> None:
        self.socket = socket
        self._folder = folder
        self._used = folder / "server.path"
        self._was_ready = False

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
                if not self._was_ready:
                    raise EmbeddedFaultError(
                        f"the private store in {self._folder} does not start: {self._last_lines()}"
                    )
                logger.error("store: the private server ended (%s); starting it again: %s", code, self._last_lines())
                server = None
                await asyncio.sleep(_PAUSE)

    async def wait_until_ready(self) -> None:
        """Returns when the server has loaded its data."""
        while not await _responds(self.socket):  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.02)
        self._was_ready = True

    async def _start(self) -> asyncio.subprocess.Process:
        last_used = Path(self._used.read_text(encoding="utf-8")) if self._used.exists() else None
        program = await asyncio.to_thread(find_server, last_used)
        self._used.write_text(str(program), encoding="utf-8")
        settings = [word for name, value in _SETTINGS.items() for word in (f"--{name}", value)]
        # From the main thread: the kernel sends the signal when the thread that forked ends.
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _TIED_TO_PARENT, str(os.getpid()), str(program), *settings),
            cwd=self._folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C at a terminal must reach only the gateway, which stops the store last
        )

    def _adopted(self) -> "Adopted | None":
        """Returns the server of the program that this one replaced: it goes on."""
        pid = self._left_over() if _lock.was_handed_over else None
        return Adopted(pid) if pid is not None else None

    async def _end_left_over(self) -> None:
        """Ends a server that still runs on this data without an owner (its gateway was killed)."""
        left_over = self._left_over()
        if left_over is None:
            return
        logger.warning("store: ending the private server (pid %d) that a killed gateway left behind", left_over)
        for sent in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(left_over, sent)
            if await _gone(left_over, within=_STOP_WITHIN):
                return
        raise EmbeddedFaultError(f"another server (pid {left_over}) uses {self._folder} and cannot be ended")

    def _left_over(self) -> int | None:
        """Returns the pid in the server's own file, if that process really works in this folder."""
        try:
            pid = int((self._folder / _SETTINGS["pidfile"]).read_text(encoding="ascii"))
            return pid if Path(f"/proc/{pid}/cwd").readlink() == self._folder else None
        except (OSError, ValueError):
            return None

    def _last_lines(self) -> str:
        try:
            lines = (self._folder / _SETTINGS["logfile"]).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "it wrote no log"
        return " / ".join(lines[-3:])


async def _take(lock: int) -> None:
    """Waits for the lock. It polls, because a blocking flock would occupy a thread without end."""
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(0.25)
        else:
            return


class Adopted:
    """A child of this process that the replaced program started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    async def wait(self) -> int:
        """Returns its exit code. It polls, because the event loop does not know this child."""
        while self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)  # noqa: ASYNC222 - WNOHANG does not block
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            else:
                await asyncio.sleep(_PAUSE)
        return self.returncode

    def send_signal(self, sent: int) -> None:
        os.kill(self.pid, sent)


class Lock:
    """The lock on the data, which a program hands over to the one that replaces it."""

    def __init__(self) -> None:
        self.held: int | None = None
        self._handed_over = os.environ.pop(_HANDED_OVER, "")

    @property
    def was_handed_over(self) -> bool:
        return bool(self._handed_over)

    def open(self, file: Path) -> IO[str]:
        """Opens the lock file, or takes it over, locked, from the replaced program."""
        if self._handed_over:
            os.set_inheritable(int(self._handed_over), False)
            return os.fdopen(int(self._handed_over), "w", encoding="ascii")
        return file.open("w", encoding="ascii")

    def hand_over(self) -> None:
        """Keeps the lock while this program is replaced, so that the server goes on."""
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
        if _has_ended(pid):
            return True
        await asyncio.sleep(0.05)
    return False


def _has_ended(pid: int) -> bool:
    """Whether a process has ended. One that its parent has not reaped yet has: a container's init may never do it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in ("Z", "X")


async def _responds(socket: str) -> bool:
    """Whether a server has loaded its data and responds within a second."""
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


def _log_failure(keeping: asyncio.Task[None]) -> None:
    if not keeping.cancelled() and (error := keeping.exception()):
        logger.error("store: the private server is no longer supervised; restart the gateway: %s", error)
