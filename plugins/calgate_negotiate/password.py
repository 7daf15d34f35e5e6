"""`[password]`: users sign in with their Windows name and password on a page.

The domain verifies the password by Kerberos, or the users file by its hashes. Failures are counted together with those
of NTLM, and answered no sooner than a second after the request: an unknown name would be told by its time otherwise.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from pydantic import Field

from calgate.plugin import (
    Authenticated,
    AuthenticationFailed,
    MethodRefused,
    Refusal,
    Section,
    Services,
    ShowPage,
    SignInField,
    SignInForm,
    SignInMethod,
    SignInRequest,
)
from calgate.plugin import mark as _
from calgate_negotiate.guard import Guard, GuardSection
from calgate_negotiate.password_names import PasswordName
from calgate_negotiate.password_verifiers import Attempt, FileVerifier, PasswordVerifier, open_domain
from calgate_negotiate.settings import Config as NegotiateConfig

__all__ = ["Config", "role", "start", "warnings"]

role = "sign-in"

_SLOWEST = 1.0  # seconds that a failure takes at least: unknown and known names differ by 15 to 90 ms otherwise
_LONGEST_PASSWORD = 256  # characters: Windows allows 127 in its own dialogs, and 256 in the directory


class Config(Section):
    """`[password]`: sign-in by name and password on a page."""

    realms: dict[str, str] = Field(default_factory=dict)
    """NetBIOS names of domains and their Kerberos realms; the first is for a name without a domain. Left out: the
    keytab's realm, with its first label as the name of the domain."""
    keytab: Path | None = None
    """The keytab that proves that the domain responded, and not somebody in its place. Left out: negotiate.keytab."""
    insecure: bool = False
    """Whether passwords may be sent in clear text, for a trial without TLS."""


@asynccontextmanager
async def start(config: Config, services: Services) -> AsyncIterator[SignInMethod]:
    """Yields the sign-in method. Raises ValueError if a setting cannot be used."""
    if not services.can_be_https and not config.insecure:
        raise ValueError(
            "passwords would be sent in clear text; set listen.tls, listen.trusted_proxies for a proxy that ends TLS,"
            " or insecure = true for a trial"
        )
    negotiate = services.siblings.get("negotiate")
    beside = negotiate if isinstance(negotiate, NegotiateConfig) else None
    keytab = config.keytab or (beside.keytab if beside is not None else None)
    async with AsyncExitStack() as stack:
        verifiers: list[PasswordVerifier] = []
        if keytab is not None:
            domain = open_domain(keytab, config.realms)
            stack.callback(domain.close)
            verifiers.append(domain)
        if services.ntlm_verifier is not None:
            verifiers.append(FileVerifier(services.ntlm_verifier))
        if not verifiers:
            raise ValueError(
                "needs negotiate.keytab (it proves that the domain responded, and not somebody in its place) or a"
                " [users] file"
            )
        section = beside.guard if beside is not None else GuardSection()
        guard = Guard(services.store, section, passed_on=keytab is not None, reported=False)
        stack.push_async_callback(guard.close)
        yield PasswordForm(verifiers, guard, needs_https=not config.insecure)


def warnings(config: Config) -> Sequence[str]:
    """Returns sentences about settings that are allowed but unwise."""
    if config.insecure:
        return ["password.insecure: passwords can be read on the network; remove it once listen.tls is set"]
    return []


class PasswordForm:
    """The `SignInMethod` of this plugin."""

    label = _("Sign in with your Windows name and password")
    mechanisms = ("password",)

    def __init__(
        self,
        verifiers: Sequence[PasswordVerifier],
        guard: Guard,
        *,
        needs_https: bool,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`verifiers`: the first that knows the domain of a name decides, and the first of all without a domain."""
        self.needs_https = needs_https
        self.form: SignInForm | None = SignInForm(
            [
                SignInField("user", _("Name"), autocomplete="username"),
                SignInField("password", _("Password"), kind="password", autocomplete="current-password"),
            ]
        )
        self._verifiers = tuple(verifiers)
        self._guard = guard
        self._sleep = sleep

    async def handle(self, request: SignInRequest) -> ShowPage | Authenticated:
        """Shows the form, or verifies what was entered into it."""
        if request.step:
            raise MethodRefused("the password form has one page", ("GET",))
        if request.method != "POST":
            return ShowPage(self.label, _("Write your name as DOMAIN\\name, or as name@domain."), self.form)
        loop = asyncio.get_running_loop()
        earliest = loop.time() + _SLOWEST
        try:
            attempt = await self._verify(request)
        except Refusal:
            await self._sleep(max(0.0, earliest - loop.time()))
            raise
        return Authenticated(attempt.identity)

    async def _verify(self, request: SignInRequest) -> Attempt:
        name = PasswordName.read(request.form.get("user", ""))
        password = request.form.get("password", "")
        if not password or len(password) > _LONGEST_PASSWORD or "\0" in password:
            raise AuthenticationFailed(f"a password of {len(password)} characters is not passed on")
        verifier = self._verifier_of(name)
        if verifier is None:
            raise AuthenticationFailed(f"there is no domain {name.domain} here; name it in password.realms")
        account = verifier.canonical(name)
        return await self._guard.verify(account, request.peer.address, lambda: verifier.verify(name, password))

    def _verifier_of(self, name: PasswordName) -> PasswordVerifier | None:
        if not name.domain:
            return self._verifiers[0]
        return next((one for one in self._verifiers if one.knows(name)), None)
