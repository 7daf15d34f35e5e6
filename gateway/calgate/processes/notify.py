"""Notifies systemd of the service's state (sd_notify(3)); does nothing without systemd."""

import os
import socket
import time


def notify(*states: str) -> None:
    """Sends states such as "READY=1"; adds the time that systemd needs with "RELOADING=1"."""
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
            return  # the gateway must not fail because the service manager has
