"""The meaning of an NTSTATUS of a domain controller or of winbindd for a sign-in. Pure."""

from calgate.plugin import AccountRefused, AuthenticationFailed, NtlmAttempt, Refusal, Unavailable
from calgate_negotiate.guard import UndecidedError

# NTSTATUS (MS-ERREF 2.3.1) of a wrong password or name
_WRONG = {
    0xC000006A: "wrong password",
    0xC0000064: "no such user",
    0xC000006D: "wrong user or password",
    0xC0000073: "no such user",
}
# NTSTATUS of an attempt that reached no domain controller, so that none has counted it
_NOT_PASSED_ON = {
    0xC000005E,  # NO_LOGON_SERVERS
    0xC0000233,  # DOMAIN_CONTROLLER_NOT_FOUND
    0xC000023C,  # NETWORK_UNREACHABLE
    0xC000023D,  # HOST_UNREACHABLE
    0xC0000236,  # CONNECTION_REFUSED
    0xC00000DA,  # CANT_ACCESS_DOMAIN_INFO
    0xC00000DF,  # NO_SUCH_DOMAIN
    0xC000018A,  # NO_TRUST_LSA_SECRET
    0xC000018B,  # NO_TRUST_SAM_ACCOUNT
    0xC000018C,  # TRUSTED_DOMAIN_FAILURE
    0xC000018D,  # TRUSTED_RELATIONSHIP_FAILURE
    0xC0000022,  # ACCESS_DENIED, to this machine's own account
}
_REFUSED = {
    0xC0000072: ("account-disabled", "is disabled"),
    0xC0000193: ("account-expired", "has expired"),
    0xC0000234: ("account-locked", "is locked"),
    0xC0000071: ("password-expired", "has a password that has expired"),
    0xC0000224: ("password-expired", "has to change the password"),
    0xC000006E: ("account-restricted", "is restricted by policy"),
    0xC000006F: ("account-restricted", "may not sign in at this hour"),
    0xC0000070: ("account-restricted", "may not sign in from this workstation"),
}


def verdict(attempt: NtlmAttempt, status: int, name: str) -> Refusal:
    """Returns the refusal of an attempt that the domain did not verify. `name`: the status as winbindd names it."""
    user = f"{attempt.domain}\\{attempt.account}"
    if status in _WRONG:
        return AuthenticationFailed(f"NTLM: {_WRONG[status]}: {user}")
    if status in _REFUSED:
        code, why = _REFUSED[status]
        return AccountRefused(f"{user} {why} ({name})", code=code)
    detail = f"the domain did not verify {user}: {name} ({status:#010x})"
    if status in _NOT_PASSED_ON:
        return unavailable(detail)
    return UndecidedError(f"NTLM: {detail}", code="logon-server-unavailable")


def unavailable(detail: str) -> Unavailable:
    """Makes the refusal for an attempt that no domain controller has counted."""
    return Unavailable(f"NTLM: {detail}", code="logon-server-unavailable")
