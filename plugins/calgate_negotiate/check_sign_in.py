"""A Kerberos sign-in from end to end with a user's password: client and acceptor in this process."""

from pathlib import Path

import gssapi
from gssapi.raw import acquire_cred_with_password

from calgate.plugin import Authenticated, AuthenticationFailed, Identity
from calgate_negotiate.channel_binding import ExpectedBinding
from calgate_negotiate.kerberos import Acceptor


def sign_in(keytab: Path, host: str, user: str, password: str) -> Identity:
    """Returns the user. Raises AuthenticationFailed, or ValueError without a ticket or a usable keytab. Blocks."""
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
        outcome = acceptor.begin(ExpectedBinding("off", None)).step_blocking(token)
    finally:
        acceptor.close()
    if not isinstance(outcome, Authenticated):
        raise AuthenticationFailed("the handshake is not complete after one token")
    return outcome.identity
