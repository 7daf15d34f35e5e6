"""Opens the keytab, which needs python-gssapi: a site without Kerberos need not install it."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calgate_negotiate.kerberos import Acceptor


def open_keytab(keytab: Path) -> "Acceptor":
    """Raises ValueError if the library or the keytab cannot be used."""
    try:
        from calgate_negotiate.kerberos import Acceptor
    except ImportError as error:
        raise ValueError(
            f"negotiate.keytab: python-gssapi cannot be imported ({error});"
            " install libkrb5-dev and a C compiler, then: pip install -r deploy/requirements-kerberos.txt"
        ) from error
    return Acceptor(keytab)
