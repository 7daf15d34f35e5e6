"""From the claims of a verified ID token to the user whom a directory looks up. Pure."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from calgate.plugin import AccountRefused, Identity
from calgate_oidc.settings import Config

MECHANISM = "oidc"
_SID = re.compile(r"S-1-5-21(-[0-9]{1,10}){4}")  # an account's: never a built-in group or a well-known name
_ACCOUNT = re.compile(
    r"[^\x00-\x1f\x7f\"/\\\[\]:;|=,+*?<>@]{1,256}"
)  # as sAMAccountName ([MS-SAMR] 3.1.1.6), without @


def identity_of(claims: Mapping[str, object], config: Config) -> Identity:
    """Returns the user that the claims name. Raises AccountRefused (account-unknown) if they name none."""
    if config.person.sid is not None:
        sid = _claim(claims, config.person.sid)
        if not _SID.fullmatch(sid):
            raise AccountRefused(f"oidc: the claim {config.person.sid} is not an account's SID", code="account-unknown")
        # The SID alone names the user: a directory without SIDs must not find somebody by name or account.
        return Identity(urlsplit(config.issuer).hostname or "", sid, MECHANISM, sid=sid)
    assert config.person.account is not None
    assert config.person.domain is not None
    domain, backslash, account = _claim(claims, config.person.account).rpartition("\\")
    if backslash and domain.casefold() != config.person.domain.casefold():
        raise AccountRefused(
            f"oidc: the claim {config.person.account} names the domain {domain[:40]!r}, not {config.person.domain}",
            code="account-unknown",
        )
    if not _ACCOUNT.fullmatch(account) or account != account.strip():
        raise AccountRefused(f"oidc: the claim {config.person.account} is not an account", code="account-unknown")
    return Identity(config.person.domain, account, MECHANISM)


def _claim(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    if isinstance(value, str) and value:
        return value
    raise AccountRefused(
        f"oidc: the token of the subject {str(claims.get('sub'))[:100]!r} has no claim {name}: the account is not"
        " synchronized from the directory, or the claim is not requested at the provider",
        code="account-unknown",
    )
