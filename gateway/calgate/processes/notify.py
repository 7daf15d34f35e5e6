"""Tells systemd how the service is (sd_notify(3)); where there is no systemd, nobody."""

import os
import socket
import time


def notify(*states: str) -> None:
    """Sends states such as "READY=1"; "RELOADING=1" with the time that systemd wants beside it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    lines = list(states)
    if "RELOADING=1" in states:
        lines.append(f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        try:
            out.sendto("\n".join(lines).encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            return  # a service manager that went away is no reason to fail
