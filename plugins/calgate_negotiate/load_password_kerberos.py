"""Loads the domain's verifier of passwords, which needs python-gssapi: that is not installed everywhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calgate_negotiate.password_kerberos import DomainVerifier


def open_domain(keytab: Path, realms: Mapping[str, str], setting: str) -> "DomainVerifier":
    """Opens the domain's verifier, which needs python-gssapi; `setting` is the one that names the keytab.

    Raises ValueError if the library or the keytab cannot be used.
    """
    try:
        from calgate_negotiate.password_kerberos import DomainVerifier
    except ImportError as error:
        raise ValueError(
            f"python-gssapi cannot be imported ({error}); install libkrb5-dev and a C compiler, then:"
            " pip install -r deploy/requirements-kerberos.txt"
        ) from error
    return DomainVerifier(keytab, realms, setting)
