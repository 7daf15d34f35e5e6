"""Listening sockets: the parent binds them, keeps them while their address is wanted, and passes copies to workers.

Each worker has a TCP socket of its own on the same address (SO_REUSEPORT: the kernel spreads connections). Closing a
listening socket resets the connections in its queue (94 of 200 in a trial), so a worker that ends closes only its copy:
the parent's copy keeps the queue for the worker that replaces it. Unix sockets are shared by all workers.
"""

import errno
import json
import os
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from calgate.config.model import Core
from calgate.http.settings import Address
from calgate.plugin.errors import ConfigError

Role = Literal["main", "redirect", "admin", "console"]
_BACKLOG = 1024
_REFUSED = 111  # ECONNREFUSED
_IN_USE = 98  # EADDRINUSE
_FIRST_OF_SYSTEMD = 3  # sd_listen_fds(3)
HANDOVER = "CALGATE_SOCKETS"
NOT_A_SOCKET = "a file is there that is no socket; remove it if nobody needs it, or write another path"


@dataclass(frozen=True, slots=True)
class SocketKey:
    """The purpose of a socket."""

    role: Role
    address: str
    slot: int  # the worker's number; 0 if all workers share it


class Sockets:
    """Every listening socket that the parent holds."""

    def __init__(self, inherited: Mapping[SocketKey, socket.socket] | None = None) -> None:
        self._held = dict(inherited or {})
        _ours.update(filter(None, map(_address_of, self._held.values())))

    def open(self, core: Core, given: Sequence[socket.socket] = ()) -> None:
        """Binds what the settings want and is not held yet. Raises ConfigError (exit 1), and then leaves all as it was.

        `given`: sockets from systemd; each serves the address that it is bound to, for all workers.
        """
        taken = {_name_of(sock): sock for sock in given}
        opened: dict[SocketKey, socket.socket] = {}
        try:
            for place, address in _wanted(core):
                if place not in self._held:
                    opened[place] = taken.get(place.address) or _bind(address, _setting_of(place.role))
        except BaseException:
            for sock in opened.values():
                sock.close()
            raise
        self._held |= opened

    def close_others(self, core: Core) -> None:
        """Closes the sockets that the settings no longer want."""
        wanted = {place for place, _ in _wanted(core)}
        for place in list(self._held.keys() - wanted):
            self._held.pop(place).close()

    def addresses(self) -> set[str]:
        """Returns the addresses that this process listens on."""
        return {place.address for place in self._held}

    def of_worker(self, slot: int) -> list[tuple[Role, socket.socket]]:
        """Returns the sockets that one worker accepts on."""
        return [
            (place.role, sock)
            for place, sock in self._held.items()
            if place.role != "admin" and (place.slot == slot or place.address.startswith("unix:"))
        ]

    def of_admin(self) -> list[socket.socket]:
        """Returns the sockets that the parent itself accepts on."""
        return [sock for place, sock in self._held.items() if place.role == "admin"]

    def close(self) -> None:
        for sock in self._held.values():
            sock.close()
        self._held.clear()

    def hand_over(self) -> str:
        """Returns a description of the descriptors for the program that replaces this one."""
        for sock in self._held.values():
            sock.set_inheritable(True)
        return json.dumps([[p.role, p.address, p.slot, sock.fileno()] for p, sock in self._held.items()])


def inherited() -> Sockets:
    """Returns the sockets that the replaced program handed over, if there was one."""
    text = os.environ.pop(HANDOVER, "[]")
    return Sockets({SocketKey(role, address, slot): _adopt(fd) for role, address, slot, fd in json.loads(text)})


def from_systemd() -> list[socket.socket]:
    """Returns the sockets of socket activation (sd_listen_fds(3))."""
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return []
    return [_adopt(fd) for fd in range(_FIRST_OF_SYSTEMD, _FIRST_OF_SYSTEMD + count)]


def _adopt(fd: int) -> socket.socket:
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def _wanted(core: Core) -> Iterator[tuple[SocketKey, Address]]:
    listen = core.listen
    roles: list[tuple[Role, Address]] = [("main", address) for address in listen.bind]
    if listen.redirect_http is not None:
        roles.append(("redirect", listen.redirect_http))
    if core.console is not None and core.console.bind is not None:
        roles.append(("console", core.console.bind))
    for role, address in roles:
        for slot in range(1 if address.path else listen.workers):
            yield SocketKey(role, str(address), slot), address
    if listen.admin is not None:
        yield SocketKey("admin", str(listen.admin), 0), listen.admin


def _setting_of(role: Role) -> str:
    return {
        "main": "listen.bind",
        "redirect": "listen.redirect_http",
        "admin": "listen.admin",
        "console": "console.bind",
    }[role]


def _name_of(sock: socket.socket) -> str:
    name = sock.getsockname()
    return str(Address(name[0], name[1])) if isinstance(name, tuple) else f"unix:{name}"


def _address_of(sock: socket.socket) -> tuple[str, int] | None:
    name = sock.getsockname()
    return (name[0], name[1]) if isinstance(name, tuple) else None


def bind(address: Address, setting: str) -> socket.socket:
    """Returns a listening socket that no other process shares. Raises ConfigError (exit 1)."""
    return _bind(address, setting)


def try_addresses(core: Core, listening: Collection[str]) -> None:
    """Binds the wanted addresses that nobody listens on yet, and lets them go again. Raises ConfigError (exit 1)."""
    for place, address in _wanted(core):
        if place.slot == 0 and place.address not in listening:
            _bind(address, _setting_of(place.role)).close()
            if address.path:
                Path(address.path).unlink()


def _bind(address: Address, setting: str) -> socket.socket:
    try:
        listening = _bind_unix(address.path) if address.path else _bind_tcp(address)
    except OSError as error:
        reason = "another program already listens there" if error.errno == _IN_USE else error.strerror or error
        raise ConfigError([f"{setting}: cannot listen on {address}: {reason}"], code=1) from error
    listening.setblocking(False)
    return listening


_ours: set[tuple[str, int]] = set()  # addresses at which this process has several sockets


def _bind_tcp(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    here = (address.host, address.port)
    if here not in _ours:
        # this fails if anything listens there; with SO_REUSEPORT another gateway would get half of our users
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            _set_options(probe, family)
            probe.bind(here)
    listening = socket.socket(family, socket.SOCK_STREAM)
    _set_options(listening, family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind(here)
    listening.listen(_BACKLOG)
    if address.port:
        _ours.add(here)
    return listening


def _set_options(sock: socket.socket, family: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def _bind_unix(path: str) -> socket.socket:
    if is_other_file(path):
        raise FileExistsError(errno.EEXIST, NOT_A_SOCKET)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(path) == _REFUSED:  # the socket file of a process that has ended
            with suppress(FileNotFoundError):
                Path(path).unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(path)
    listening.listen(_BACKLOG)
    return listening


def is_other_file(path: str) -> bool:
    """Whether the path is a file but not a socket: a connection to it is refused too, and it must not be removed."""
    return os.path.lexists(path) and not Path(path).is_socket()
