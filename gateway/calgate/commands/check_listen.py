"""The part of `calgate check` about this machine: addresses to listen on, certificates, files that others can read."""

import asyncio
import contextlib
import errno
import socket
import ssl
import stat
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from calgate.config.model import Settings
from calgate.http.settings import Address, Listen, Tls
from calgate.http.tls import NOT_VALID_YET, Certificate, certificate_validity
from calgate.plugin.checks import Finding, closing_command
from calgate.plugin.errors import ConfigError
from calgate.plugin.settings import Secret, Section
from calgate.processes.sockets import NOT_A_SOCKET, is_other_file

EXPIRES_SOON = 14 * 86_400.0
_RESPONSE_WITHIN = 3.0  # seconds
_OURS = {  # what a running gateway responds, by setting
    "listen.bind": ("/_calgate/health", b'"status"'),
    "listen.redirect_http": ("/", b" 308 "),
    "listen.admin": ("/healthz", b"alive"),
    "console.bind": ("/", b"calgate"),  # a redirect to /_calgate/, or a refusal
}


async def check(settings: Settings, hosts: Sequence[str]) -> AsyncIterator[Finding]:
    """Yields all findings; `hosts` are the public names that certificates must be for."""
    listen = settings.core.listen
    console = settings.core.console
    async for finding in addresses(listen, console.bind if console is not None else None):
        yield finding
    if listen.tls is not None:
        for finding in await asyncio.to_thread(list, certificates((listen.tls, *listen.sni), hosts)):
            yield finding
    for finding in exposed(settings):
        yield finding


# ---------------------------------------------------------------- addresses


async def addresses(listen: Listen, console: Address | None = None) -> AsyncIterator[Finding]:
    """Yields a finding for each address: whether a gateway can listen on it, or already does."""
    wanted = [("listen.bind", address) for address in listen.bind]
    wanted += [("listen.redirect_http", listen.redirect_http)] if listen.redirect_http is not None else []
    wanted += [("listen.admin", listen.admin)] if listen.admin is not None else []
    wanted += [("console.bind", console)] if console is not None else []
    for setting, address in wanted:
        yield await (_unix(setting, address) if address.path else _tcp(setting, address, listen.tls is not None))


async def _tcp(setting: str, address: Address, has_tls: bool) -> Finding:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address.host, address.port))
            probe.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return await _in_use(setting, address, has_tls=has_tls and setting in ("listen.bind", "console.bind"))
        if error.errno == errno.EACCES:
            if await _is_listening(address):
                return await _in_use(setting, address, has_tls=has_tls and setting in ("listen.bind", "console.bind"))
            what = f"nothing listens on {address}, and this user may not try to"
            remedy = "nothing, if the service has CAP_NET_BIND_SERVICE, which calgate.service gives it"
            return Finding("note", setting, what, remedy)
        remedy = "write an address of this machine" if error.errno == errno.EADDRNOTAVAIL else ""
        return Finding("fail", setting, f"cannot listen on {address}: {error.strerror or error}", remedy)
    return Finding("ok", setting, f"{address} is free to listen on")


async def _is_listening(address: Address) -> bool:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_RESPONSE_WITHIN):
            _, writer = await asyncio.open_connection(_reachable(address), address.port)
            writer.close()
            return True
    return False


async def _in_use(setting: str, address: Address, *, has_tls: bool) -> Finding:
    path, expected = _OURS[setting]
    if expected in await _response(address, path, has_tls=has_tls):
        return Finding("ok", setting, f"a running gateway listens on {address}")
    remedy = f"stop it, or change {setting}: ss -ltnp shows which it is"
    return Finding("fail", setting, f"another program already listens on {address}", remedy)


async def _response(address: Address, path: str, *, has_tls: bool) -> bytes:
    """The beginning of a response, or b"" if there is none."""
    context = None
    if has_tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # only to see whether it is a gateway
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_RESPONSE_WITHIN):
            reader, writer = await asyncio.open_connection(_reachable(address), address.port, ssl=context)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                return await reader.read(4096)
            finally:
                writer.close()
    return b""


def _reachable(address: Address) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - compared, not bound


async def _unix(setting: str, address: Address) -> Finding:
    folder = Path(address.path).parent
    if not folder.is_dir():
        return Finding("fail", setting, f"cannot listen on {address}: there is no folder {folder}", f"mkdir {folder}")
    if is_other_file(address.path):
        what, _, remedy = NOT_A_SOCKET.partition("; ")
        return Finding("fail", setting, f"cannot listen on {address}: {what}", remedy)
    return Finding("ok", setting, f"{folder} is there for {address}")


# ---------------------------------------------------------------- certificates


def certificates(files: Sequence[Tls], hosts: Sequence[str]) -> Iterator[Finding]:
    """Yields a finding for each certificate, and one for the public names that no certificate is for."""
    loaded = []
    for tls in files:
        try:
            loaded.append(Certificate(tls))
        except ConfigError as error:
            remedy = "give a certificate, its chain below it, and the key that it was made for, as PEM"
            yield Finding("fail", "certificate", str(error), remedy)
        else:
            yield validity(tls.certificate)
    strangers = [host for host in hosts if not any(one.covers(host.lower()) for one in loaded)]
    if strangers and len(loaded) == len(files):  # else one that cannot be loaded may be for them
        named = ", ".join(str(tls.certificate) for tls in files)
        what = f"{named} {'is' if len(files) == 1 else 'are'} not for {', '.join(strangers)}"
        yield Finding("fail", "certificate", what, "have one made for that name")


def validity(file: Path) -> Finding:
    """Returns whether a certificate is valid, and until when."""
    begin, until = certificate_validity(file)
    day = time.strftime("%Y-%m-%d", time.gmtime(until))
    if begin > time.time():
        first = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(begin))
        return Finding("fail", "certificate", f"{file} is not valid before {first}", NOT_VALID_YET)
    if until < time.time():
        return Finding("fail", "certificate", f"{file} has expired", "renew it")
    if until < time.time() + EXPIRES_SOON:
        return Finding("warn", "certificate", f"{file} ends on {day}", "renew it")
    return Finding("ok", "certificate", f"{file} is good until {day}")


# ---------------------------------------------------------------- secrets


def exposed(settings: Settings) -> Iterator[Finding]:
    """Yields a warning for each key or secret that every user of this machine can read or replace."""
    sections: list[object] = [settings.core, *settings.plugins.values(), *(one for _, one in settings.sign_on.values())]
    files = dict.fromkeys(file for section in sections for file in _secret_files(section))
    for file in files:
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(file.stat().st_mode)
            if mode & stat.S_IROTH and _is_reachable(file):
                what = f"every user of this machine can read {file} (mode {mode:04o})"
                yield Finding("warn", "secrets", what, closing_command(file, settings.state_dir))
            if writable := _writable(file):
                what = f"every user of this machine can replace {file}: they may write to {writable}"
                yield Finding("warn", "secrets", what, f"chmod o-w {writable}")


def _writable(file: Path) -> Path | None:
    """Returns the file, or a folder above it or above a link to it, that other users may write to; None if they cannot.

    In a folder with the sticky bit, such as /tmp, they cannot replace the files of others.
    """
    if not _is_reachable(file):
        return None
    for one in (file.resolve(), *file.resolve().parents, *file.absolute().parents):
        mode = one.stat().st_mode
        if mode & stat.S_IWOTH and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
            return one
    return None


def _is_reachable(file: Path) -> bool:
    """Whether other users may enter all folders above a file."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in file.resolve().parents)


def _secret_files(value: object) -> Iterator[Path]:
    """Walks sections for private keys and for secrets in files of their own."""
    if isinstance(value, Tls):
        yield value.key
    elif isinstance(value, Secret):
        if value.file is not None:
            yield value.file
    elif isinstance(value, Section):
        for _, inner in value:
            yield from _secret_files(inner)
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _secret_files(inner)
