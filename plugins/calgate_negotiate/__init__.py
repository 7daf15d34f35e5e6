"""Signs people in by HTTP Negotiate and NTLM.

Kerberos is accepted against a keytab (RFC 4559); NTLM, raw and inside SPNEGO, by an acceptor of our own whose proof
comes from whatever knows the NT hashes. Only NTLMv2 is accepted.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from calgate.contract import Authenticator, Prover, Services
from calgate.setting import Section
from calgate_negotiate.handshake import Mechanisms, NegotiateAuthenticator

if TYPE_CHECKING:
    from calgate_negotiate.kerberos import Acceptor

role = "authenticator"

UNKNOWN_MACHINE = "CALGATE"
"""The NetBIOS computer name in our challenges: where this machine is no member of a domain it tells nothing of it."""


class Config(Section):
    """`[negotiate]`."""

    keytab: Path | None = None  # Kerberos is on where this is given
    ntlm: Literal["off", "users"] = "off"  # users: the file of [users] knows the NT hashes

    @model_validator(mode="after")
    def _somebody_can_sign_in(self) -> "Config":
        if self.keytab is None and self.ntlm == "off":
            raise ValueError('nobody could sign in: give a keytab for Kerberos, or ntlm = "users"')
        return self


@asynccontextmanager
async def start(config: Config, services: Services) -> AsyncIterator[Authenticator]:
    """Yields the authenticator; raises ValueError with a sentence where keytab or prover cannot be used."""
    mechanisms = Mechanisms(
        kerberos=_kerberos(config.keytab),
        prover=_prover(config, services),
        computer=UNKNOWN_MACHINE,
    )
    try:
        yield NegotiateAuthenticator(mechanisms)
    finally:
        if mechanisms.kerberos is not None:
            mechanisms.kerberos.close()


def warnings(config: Config) -> Sequence[str]:
    """Settings that are allowed and unwise."""
    if config.keytab is None:
        return [
            "negotiate.ntlm without negotiate.keytab: browsers can sign in by NTLM only, which Windows is giving up;"
            " a keytab adds Kerberos"
        ]
    return []


def _kerberos(keytab: Path | None) -> "Acceptor | None":
    if keytab is None:
        return None
    try:
        from calgate_negotiate.kerberos import Acceptor
    except ImportError as error:
        raise ValueError(
            f"negotiate.keytab needs python-gssapi, which is not usable here ({error});"
            " install libkrb5-dev and a C compiler, then: pip install -r deploy/requirements-kerberos.txt"
        ) from error
    return Acceptor(keytab)


def _prover(config: Config, services: Services) -> Prover | None:
    if config.ntlm == "off":
        return None
    if services.prover is None:
        raise ValueError('negotiate.ntlm = "users" needs a [users] section: its file knows the NT hashes')
    return services.prover
