"""Every way the gateway says no, and what an operator did wrong. The one place that knows the HTTP status of a refusal.

A refusal's `code` is stable: programs read it in `application/problem+json`, and administrators find it in the log. Its
`detail` is for the log alone; pages show what the kind's own fields say, never the detail.
"""

from collections.abc import Sequence
from typing import ClassVar


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not an error of the program
    """The caller is refused; `detail` says in the log what a page must not."""

    status: ClassVar[int] = 403
    code: str = "forbidden"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code


class BadRequest(Refusal):
    """The request cannot be read in exactly one way (RFC 9112), so it is not read at all."""

    status = 400
    code = "bad-request"


class RequestTimeout(Refusal):
    """The client began a body and sent nothing more of it."""

    status = 408
    code = "request-timeout"


class MethodRefused(Refusal):
    """The method is not on the gateway's list."""

    status = 405
    code = "method-not-allowed"


class TooLarge(Refusal):
    """A header or a body that must be looked at is larger than the gateway looks at."""

    status = 413
    code = "too-large"


class HeadersTooLarge(TooLarge):
    """One header field, or all together, exceed the limit."""

    status = 431
    code = "headers-too-large"


class SignInNeeded(Refusal):
    """No proof of identity came with the request. `challenges` are the values for WWW-Authenticate, in order."""

    status = 401
    code = "sign-in-needed"

    def __init__(self, detail: str, challenges: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.challenges = tuple(challenges)


class AuthenticationFailed(Refusal):
    """The proof was tried and is wrong, or of a kind that is not accepted.

    Codes: `sign-in-failed`, `ntlm-off` (the browser sent NTLM where only Kerberos is on), `ntlm-behind-proxy`,
    `binding-missing` (channel binding required).
    """

    status = 401
    code = "sign-in-failed"


class AccountRefused(Refusal):
    """The person is who he says, but the account may not sign in.

    Codes: `account-disabled`, `account-expired`, `account-locked`, `account-restricted` (not now or not from there),
    `password-expired`, `account-unknown`.
    """

    code = "account-disabled"


class Forbidden(Refusal):
    """An access rule, named, says no (or none says yes: `rule` is None)."""

    def __init__(self, detail: str, rule: str | None = None) -> None:
        super().__init__(detail)
        self.rule = rule


class CrossSite(Refusal):
    """A page of another site made this request; it is neither challenged nor carried out."""

    code = "cross-site"


class TooManySignIns(Refusal):
    """Too many failed sign-ins; the next is looked at in `retry_after` seconds."""

    status = 429
    code = "too-many-sign-ins"

    def __init__(self, detail: str, retry_after: float) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(Refusal):
    """Something that must be asked does not answer: not a no, and never remembered as one.

    Codes: `store-unavailable`, `directory-unavailable`, `logon-server-unavailable`, `rules-unresolved`, `starting`,
    `no-upstream`.
    """

    status = 503
    code = "store-unavailable"

    def __init__(self, detail: str, *, code: str | None = None, retry_after: float = 10) -> None:
        super().__init__(detail, code=code)
        self.retry_after = retry_after


class BadGateway(Refusal):
    """The document server could not be reached, or its answer could not be read in exactly one way."""

    status = 502
    code = "bad-gateway"


class GatewayTimeout(Refusal):
    """The document server did not answer in time."""

    status = 504
    code = "gateway-timeout"


class ConfigError(Exception):
    """What the operator wrote or set up does not work. One line a fault; `code` is the exit code."""

    def __init__(self, faults: Sequence[str], code: int = 2) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)
        self.code = code
