"""Opens the keytab with the library that reads it, which need not be installed."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calgate_negotiate.kerberos import Acceptor


def open_keytab(keytab: Path) -> "Acceptor":
    """Raises ValueError with a sentence where the library or the keytab is of no use."""
    try:
        from calgate_negotiate.kerberos import Acceptor
    except ImportError as error:
        raise ValueError(
            f"negotiate.keytab needs python-gssapi, which is not usable here ({error});"
            " install libkrb5-dev and a C compiler, then: pip install -r deploy/requirements-kerberos.txt"
        ) from error
    return Acceptor(keytab)
