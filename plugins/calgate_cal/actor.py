"""Who makes a change, for the record."""

import getpass
import socket


def actor() -> str:
    """The operating system's user and machine, as root@gateway1."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's number without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
