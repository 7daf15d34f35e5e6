"""The settings of a route's `sign_on`."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from calgate.plugin import Duration, Section

_PRINCIPAL = re.compile(r"[^@/\\\s]+@[^@/\\\s]+")
_SERVICE = re.compile(r"[A-Za-z]+/(\{host\}|[A-Za-z0-9._-]+)")


def _account(text: str) -> str:
    if not _PRINCIPAL.fullmatch(text):
        raise ValueError(f'{text!r} is not an account and its realm; write "svc-calgate@CORP.EXAMPLE"')
    account, _, realm = text.partition("@")
    return f"{account}@{realm.upper()}"


def _service(text: str) -> str:
    if not _SERVICE.fullmatch(text):
        raise ValueError(f'{text!r} is not a service; write "HTTP/{{host}}", or "HTTP/" and the name in the SPN')
    return text


class Config(Section):
    """A route's `sign_on`: Kerberos delegation to document servers with Windows authentication."""

    keytab: Path
    """The file with the keys of the gateway's account, usually that of [negotiate]."""
    account: Annotated[str, AfterValidator(_account)]
    """The account that holds the keys, by its logon name and realm: "svc-calgate@CORP.EXAMPLE"."""
    service: Annotated[str, AfterValidator(_service)] = "HTTP/{host}"
    """The document server's SPN. {host} is the upstream's host; a farm that runs under one account has one name."""
    cache: Duration = 300.0
    """How long a user's ticket is kept; set it no longer than [ldap] cache."""

    @property
    def realm(self) -> str:
        """The Kerberos realm of the gateway's account, and so of the users that it can stand for."""
        return self.account.partition("@")[2]

    def service_on(self, host: str) -> str:
        """Returns the SPN of the document server on this host."""
        return self.service.replace("{host}", host)
