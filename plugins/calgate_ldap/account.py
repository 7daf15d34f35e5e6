"""Reads accounts from a directory's attributes: SIDs, and whether an account may sign in now (MS-ADTS)."""

from calgate.plugin import AccountRefused
from calgate.plugin import mark as _
from calgate_ldap.connection import Entry

STATE = ("userAccountControl", "msDS-User-Account-Control-Computed", "accountExpires")
"""Attributes of the account's state. Every user object has them, so one that is missing cannot be read."""
REQUIRED = ("objectClass", "objectSid", "sAMAccountName", "primaryGroupID", "tokenGroups", *STATE)
"""Attributes that every user object has. Without them neither groups nor state are known."""

_DISABLED = 0x0002  # ADS_UF_ACCOUNT_DISABLE, of userAccountControl
_LOCKED = 0x0010  # ADS_UF_LOCKOUT, of the computed attribute: lockoutTime remains set after a lock has ended
_NEVER = (0, 0x7FFFFFFFFFFFFFFF)
_RESTRICTED = "0000052D"  # ERROR_PASSWORD_RESTRICTION, at the beginning of a server's message
_EPOCH = 116_444_736_000_000_000  # 1970 as a FILETIME, in 100 ns since 1601


def refuse_unless_usable(entry: Entry, name: str, now: float) -> None:
    """Raises AccountRefused if the account is disabled, expired or locked. `now`: Unix time.

    An expired password is not checked: it yields neither a ticket nor an NTLM proof, and a user who signs in with a
    smart card may have had one all along.
    """
    if entry.number("userAccountControl") & _DISABLED:
        raise AccountRefused(f"{name} is disabled", code="account-disabled")
    expires = entry.number("accountExpires")
    if expires not in _NEVER and (expires - _EPOCH) / 10_000_000 <= now:
        raise AccountRefused(f"{name} has expired", code="account-expired")
    if entry.number("msDS-User-Account-Control-Computed") & _LOCKED:
        raise AccountRefused(f"{name} is locked", code="account-locked")


def password_policy(message: str) -> str:
    """Returns advice for the user from a server's message about a new password; the whole message is for the log."""
    if message.startswith(_RESTRICTED):
        return _(
            "The domain does not accept the new password: it is too short, too simple or too much like an earlier one, "
            "or the last change was too recent."
        )
    return _("The domain does not accept the new password.")
