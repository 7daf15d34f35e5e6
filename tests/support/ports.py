"""Free TCP ports for the servers of a test."""

import itertools
import os
import random
import socket

# below the ports that Linux gives to outgoing connections, and another range in each process that runs tests: nothing
# takes a port between the probe and the moment when the test's server listens
_FIRST, _SHARE, _SHARES = 11_000, 2_000, 10
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
_offsets = itertools.count(random.randrange(_SHARE))


def free_port() -> int:
    """Returns a TCP port of 127.0.0.1 that nothing listens on, another one each time."""
    for offset in itertools.islice(_offsets, _SHARE):
        port = _FIRST + _worker * _SHARE + offset % _SHARE
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port is free from {_FIRST + _worker * _SHARE} on")
