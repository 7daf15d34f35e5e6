"""The socket on which the console's process serves the workers: a file under `state_dir`, for the gateway's user."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "console.sock"


@contextmanager
def reachable(state_dir: Path) -> Iterator[str]:
    """Yields a path to the socket that fits into a socket address however long the folder's own path is."""
    folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{NAME}"
    finally:
        os.close(folder)


def listen(state_dir: Path) -> socket.socket:
    """Returns a listening socket in place of the one of an earlier process, which gets no new connections."""
    with reachable(state_dir) as path:
        own = f"{path}.{os.getpid()}"
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)  # the file must never be open to others, not even for a moment
        try:
            Path(own).unlink(missing_ok=True)
            listening.bind(own)
        finally:
            os.umask(before)
        listening.listen(128)
        Path(own).replace(path)
        return listening
