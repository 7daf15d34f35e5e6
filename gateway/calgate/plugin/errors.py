"""All refusals and their HTTP status, and the error for an operator's mistakes.

A refusal's `code` is stable: programs read it in `application/problem+json`, and administrators find it in the log. Its
`detail` is for the log alone: pages show the other fields of the refusal, never the detail.
"""

from collections.abc import Sequence
from typing import ClassVar


class Refusal(Exception):  # noqa: N818 - a refusal is a response, not an error of the program
    """The request is refused. `detail` is for the log: it may say what a page must not."""

    status: ClassVar[int] = 403
    code: str = "forbidden"
    further_codes: ClassVar[tuple[str, ...]] = ()  # that a refusal of this kind can have instead of `code`

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code


class BadRequest(Refusal):
    """The request cannot be parsed in exactly one way (RFC 9112), so it is not parsed at all."""

    status = 400
    code = "bad-request"


class RequestTimeout(Refusal):
    """The client began a body and stopped sending it."""

    status = 408
    code = "request-timeout"


class MethodRefused(Refusal):
    """The method is not in `listen.methods`, or not in `allow`, the methods of one path."""

    status = 405
    code = "method-not-allowed"

    def __init__(self, detail: str, allow: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.allow = tuple(allow)


class TooLarge(Refusal):
    """A header or a body that the gateway must inspect is larger than its limit."""

    status = 413
    code = "too-large"


class HeadersTooLarge(TooLarge):
    """One header, or all headers together, exceed the limit."""

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
    """The credentials were verified and are wrong, or of a kind that is not accepted.

    Codes: `sign-in-failed`, `ntlm-off` (the browser sent NTLM where only Kerberos is on), `ntlm-behind-proxy`,
    `binding-missing` (channel binding required), `provider-refused` (the sign-in at a provider).
    """

    status = 401
    code = "sign-in-failed"
    further_codes = ("ntlm-off", "ntlm-behind-proxy", "binding-missing", "provider-refused")


class AccountRefused(Refusal):
    """The user is authenticated, but the account may not sign in here, or not at the document server.

    Codes: `account-disabled`, `account-expired`, `account-locked`, `account-restricted` (not now or not from there),
    `password-expired`, `account-unknown`, `not-delegated` (the domain does not let the gateway act in the user's name).
    """

    code = "account-disabled"
    further_codes = (
        "account-expired",
        "account-locked",
        "account-restricted",
        "password-expired",
        "account-unknown",
        "not-delegated",
    )


class Forbidden(Refusal):
    """An access rule denies the request; `rule` is None if no rule grants it."""

    def __init__(self, detail: str, rule: str | None = None) -> None:
        super().__init__(detail)
        self.rule = rule


class CrossSite(Refusal):
    """A page of another site made this request, so it is neither challenged nor carried out."""

    code = "cross-site"


class TooManySignIns(Refusal):
    """There were too many failed sign-ins; the next attempt is accepted in `retry_after` seconds."""

    status = 429
    code = "too-many-sign-ins"

    def __init__(self, detail: str, retry_after: float) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(Refusal):
    """A service that the decision needs is not responding. This is not a denial, and is never cached as one.

    Codes: `store-unavailable`, `directory-unavailable`, `logon-server-unavailable`, `provider-unavailable` (where users
    sign in by OpenID Connect), `rules-unresolved`, `starting`, `no-upstream`.
    """

    status = 503
    code = "store-unavailable"
    further_codes = (
        "directory-unavailable",
        "logon-server-unavailable",
        "provider-unavailable",
        "rules-unresolved",
        "starting",
        "no-upstream",
    )

    def __init__(self, detail: str, *, code: str | None = None, retry_after: float = 10) -> None:
        super().__init__(detail, code=code)
        self.retry_after = retry_after


class BadGateway(Refusal):
    """The document server could not be reached, or its response cannot be parsed in exactly one way."""

    status = 502
    code = "bad-gateway"


class GatewayTimeout(Refusal):
    """The document server did not respond in time."""

    status = 504
    code = "gateway-timeout"


def refusal_codes(kind: type[Refusal] = Refusal) -> frozenset[str]:
    """Returns every code that a refusal can have, of all kinds that are defined by now."""
    own = {kind.code, *kind.further_codes}
    return frozenset(own).union(*(refusal_codes(one) for one in kind.__subclasses__()))


class ConfigError(Exception):
    """The settings, or something that they name, cannot work. One line for each fault; `code` is the exit code."""

    def __init__(self, faults: Sequence[str], code: int = 2) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)
        self.code = code
