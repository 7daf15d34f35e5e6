"""The document server behind all proxies of a comparison, and how the processes of a proxy are started."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.certificates import Authority, Signed
from support.ports import free_port

PYTHON = sys.executable
SIZES = {"1k": 1 << 10, "100k": 100 << 10, "10m": 10 << 20}
LOAD, PROXY, BOTH = "0", "1", "0,1"  # the cores of load and backend, of a proxy, and of a proxy with two workers
TESTS = Path(__file__).parents[1]

NGINX = """
daemon off; worker_processes {workers}; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 300s; sendfile on; tcp_nodelay on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi; client_max_body_size 0;
  {http}
}}
"""
# an upload is read to its end before the response, as a document server does; `return` alone would not wait
FILES = """
  server {{ listen 127.0.0.1:{port} reuseport backlog=4096; listen 127.0.0.1:{second} reuseport backlog=4096;
    listen 127.0.0.1:{tls} ssl reuseport backlog=4096; root {folder};
    ssl_certificate {certificate.certificate}; ssl_certificate_key {certificate.key};
    location = /two/1k {{ alias {folder}/1k; }}
    location = /QvAJAXZfc/QvsViewClient.aspx {{ default_type text/xml; return 200 '{qlikview}'; }}
    location /up {{ client_body_buffer_size 1m; proxy_pass_request_body off; proxy_set_header Content-Length "";
      proxy_pass http://unix:{folder}/taken.sock:/; }} }}
  server {{ listen unix:{folder}/taken.sock; location / {{ return 200 'taken'; }} }}
"""
QLIKVIEW = (
    '<?xml version="1.0" encoding="utf-8"?><result mark="0123456789abcdef" stamp="1">' + "<value/>" * 100 + "</result>"
)


@dataclass(frozen=True, slots=True)
class Backend:
    """The document server: files and uploads by nginx, WebSockets by `bench.sockets`."""

    port: int
    sockets: int  # the port of the WebSockets
    second: int  # another port with the same files
    tls: int  # the same over TLS
    ca: Path
    folder: Path

    def sign(self, *names: str) -> Signed:
        """Signs a certificate for these names."""
        return Authority(self.folder, f"CA of {names[0]}").sign(*names)


@contextlib.contextmanager
def process(words: list[str], port: int, log: Path, *, cores: str, host: str = "127.0.0.1") -> Iterator[int]:
    """Starts a server on these cores and yields its pid once it listens; stops it at the end."""
    with log.open("wb") as out:
        started = subprocess.Popen(
            ["taskset", "-c", cores, *words], start_new_session=True, stdout=out, stderr=out, cwd=TESTS
        )
    try:
        if not listens(port, host):
            raise RuntimeError(f"{words[0]} does not listen: {log.read_text()[-1000:]}")
        yield started.pid
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        started.wait(10)


def listens(port: int, host: str) -> bool:
    """Returns whether a server listens there within twenty seconds."""
    for _ in range(400):
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return True
        time.sleep(0.05)
    return False


@contextlib.contextmanager
def backend(folder: Path) -> Iterator[Backend]:
    """Starts nginx with files of the sizes above, and the WebSocket server."""
    folder.mkdir()
    folder.chmod(0o755)
    for name, size in SIZES.items():
        (folder / name).write_bytes(os.urandom(size))
    authority = Authority(folder)
    started = Backend(free_port(), free_port(), free_port(), free_port(), authority.file, folder)
    files = FILES.format(
        port=started.port, second=started.second, tls=started.tls, folder=folder, qlikview=QLIKVIEW,
        certificate=authority.sign("127.0.0.1"),
    )  # fmt: skip
    echo = [PYTHON, "-m", "bench.sockets", "serve", str(started.sockets)]
    with (
        nginx(folder, files, started.port, cores=LOAD),
        process(echo, started.sockets, folder / "sockets.log", cores=LOAD),
    ):
        yield started


@contextlib.contextmanager
def nginx(
    folder: Path, http: str, port: int, *, cores: str, workers: int = 1, host: str = "127.0.0.1"
) -> Iterator[int]:
    """Starts nginx with these servers and yields its pid."""
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(workers=workers, folder=folder, http=http))
    with process(["nginx", "-c", str(config)], port, folder / "nginx.log", cores=cores, host=host) as pid:
        yield pid
