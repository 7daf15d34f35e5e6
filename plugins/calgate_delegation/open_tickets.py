"""Prepares this process for delegation, which needs python-gssapi: a site without Kerberos need not install it."""

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from calgate_delegation import client_keytab
from calgate_delegation.settings import Config

if TYPE_CHECKING:
    from calgate_delegation.tickets import Tickets

_FORWARDABLE = "[libdefaults]\n    forwardable = true\n"
_numbers = itertools.count(1)


@contextmanager
def open_tickets(config: Config, state_dir: Path) -> Iterator["Tickets"]:
    """Yields the tickets of one route. Raises ValueError if the library or the keytab cannot be used."""
    try:
        from calgate_delegation.tickets import Tickets
    except ImportError as error:
        raise ValueError(
            f"python-gssapi cannot be imported ({error});"
            " install libkrb5-dev and a C compiler, then: pip install -r deploy/requirements-kerberos.txt"
        ) from error
    with _folder(state_dir) as folder:
        keys = folder / "client.keytab"
        try:
            client_keytab.write(config.keytab, config.account, keys)
        except OSError as error:
            raise ValueError(f"keytab: {error}; let the gateway's user read it") from error
        _request_forwardable_tickets(folder / "krb5.conf")
        _have_no_default_tickets()
        yield Tickets(config, keys)


@contextmanager
def _folder(state_dir: Path) -> Iterator[Path]:
    """Makes a folder of this process's own: `calgate check` may run as another user than the gateway."""
    for left in state_dir.glob("delegation-*-*"):  # of a process that was killed
        if not Path("/proc", left.name.split("-")[1]).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = state_dir / f"delegation-{os.getpid()}-{next(_numbers)}"
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier process with this number
    folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _request_forwardable_tickets(file: Path) -> None:
    """Puts our own file before the system's: without a forwardable ticket the KDC refuses every delegation."""
    file.write_text(_FORWARDABLE)
    os.environ["KRB5_CONFIG"] = f"{file}:{os.environ.get('KRB5_CONFIG', '/etc/krb5.conf')}"


def _have_no_default_tickets() -> None:
    """Hides the tickets of the account that runs the gateway.

    SPNEGO takes them silently where it cannot use the credential that it was given: the document server would then see
    another user.
    """
    os.environ["KRB5CCNAME"] = "FILE:/nonexistent/calgate-uses-no-default-tickets"
