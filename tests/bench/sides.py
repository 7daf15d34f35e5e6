"""The sides of a comparison: a backend, and the proxies in front of it, each on a port of its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PYTHON = sys.executable
SIZES = {"1k": 1 << 10, "100k": 100 << 10, "10m": 10 << 20}

NGINX = """
daemon off; worker_processes {workers}; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 300s; sendfile on; tcp_nodelay on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi; client_max_body_size 0;
  {http}
}}
"""
BACKEND = "server {{ listen 127.0.0.1:{port} reuseport; root {folder}; location /up {{ return 200 'taken'; }} }}"
PROXY = """
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} reuseport;
    location / {{ proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header QVUSER "DEMO\\\\alice"; }}
  }}
"""


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(words: list[str], port: int, *, core: int, host: str = "127.0.0.1") -> Iterator[int]:
    """A server pinned to a core, once it listens; ended at the end."""
    started = subprocess.Popen(["taskset", "-c", str(core), *words], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, host)
        yield started.pid
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        started.wait(10)


def wait_for(port: int, host: str = "127.0.0.1") -> None:
    """Until somebody listens there."""
    for _ in range(400):
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nobody listens on {port}")


@contextlib.contextmanager
def backend(folder: Path) -> Iterator[int]:
    """nginx with files of the sizes above; its port."""
    folder.mkdir()
    folder.chmod(0o755)
    for name, size in SIZES.items():
        (folder / name).write_bytes(os.urandom(size))
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(workers=1, folder=folder, http=BACKEND.format(port=port, folder=folder)))
    with process(["nginx", "-c", str(config)], port, core=0):
        yield port


@contextlib.contextmanager
def nginx(folder: Path, backend_port: int) -> Iterator[tuple[int, list[int]]]:
    """nginx as a bare proxy: (port, the pids that work)."""
    folder.mkdir()
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(workers=1, folder=folder, http=PROXY.format(port=port, backend=backend_port)))
    with process(["nginx", "-c", str(config)], port, core=1) as pid:
        yield port, children_of(pid)


def workers_of(pid: int) -> list[int]:
    """A gateway's workers, once there are any: of its children, those that are no private store."""
    for _ in range(200):
        workers = [child for child in children_of(pid) if b"worker" in Path(f"/proc/{child}/cmdline").read_bytes()]
        if workers:
            return workers
        time.sleep(0.05)
    raise RuntimeError("the gateway has no workers")


def children_of(pid: int) -> list[int]:
    """The processes that a process started."""
    for _ in range(100):
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if found:
            return [int(child) for child in found]
        time.sleep(0.05)
    return []
