"""A sign-in by Kerberos from end to end, with somebody's password: both sides in this process."""

from pathlib import Path

import gssapi
from gssapi.raw import acquire_cred_with_password

from calgate.plugin import Authenticated, AuthenticationFailed, Identity
from calgate_negotiate.channel_binding import ExpectedBinding
from calgate_negotiate.kerberos import Acceptor


def sign_in(keytab: Path, host: str, user: str, password: str) -> Identity:
    """Who it was; raises Unproven, or ValueError where the KDC gives no ticket or the keytab is of no use. Blocks."""
    try:
        name = gssapi.Name(user, gssapi.NameType.user)
        mechanisms = [gssapi.MechType.kerberos]
        acquired = acquire_cred_with_password(name, password.encode(), usage="initiate", mechs=mechanisms)
        target = gssapi.Name(f"HTTP@{host}", gssapi.NameType.hostbased_service)
        client = gssapi.SecurityContext(name=target, creds=gssapi.Credentials(acquired.creds), usage="initiate")
        token = client.step()
    except gssapi.exceptions.GSSError as error:
        raise ValueError(f"the KDC gives no ticket: {error}") from error
    acceptor = Acceptor(keytab)
    try:
        outcome = acceptor.begin(ExpectedBinding("off", None)).step_here(token)
    finally:
        acceptor.close()
    if not isinstance(outcome, Authenticated):
        raise AuthenticationFailed("the handshake does not end after one token")
    return outcome.identity
