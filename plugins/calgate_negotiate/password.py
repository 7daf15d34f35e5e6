"""`[password]`: users sign in with their Windows name and password on a page.

The domain verifies the password by Kerberos, or the users file by its hashes. Failures are counted together with those
of NTLM, and the response comes no sooner than a second after the request: its time would otherwise show that a name is
unknown.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from calgate.plugin import (
    AccountRefused,
    Authenticated,
    MethodRefused,
    PasswordChanger,
    Peer,
    Services,
    ShowPage,
    SignInField,
    SignInForm,
    SignInMethod,
    SignInRequest,
)
from calgate.plugin import mark as _
from calgate_negotiate.guard import Guard, GuardSection
from calgate_negotiate.load_password_kerberos import open_domain
from calgate_negotiate.password_attempts import PasswordAttempts
from calgate_negotiate.password_basic import BasicHandshake
from calgate_negotiate.password_change import STEP, PasswordChange
from calgate_negotiate.password_check import check
from calgate_negotiate.password_settings import Config, negotiate_beside
from calgate_negotiate.password_verifiers import FileVerifier, PasswordVerifier

__all__ = ["Config", "check", "role", "start", "warnings"]

role = "sign-in"


@asynccontextmanager
async def start(config: Config, services: Services) -> AsyncIterator[SignInMethod]:
    """Yields the sign-in method. Raises ValueError if a setting cannot be used."""
    if fault := config.fault_beside(services):
        raise ValueError(fault)
    keytab = config.keytab_beside(services)
    async with AsyncExitStack() as stack:
        verifiers: list[PasswordVerifier] = []
        if keytab is not None:
            domain = open_domain(keytab, config.realms, config.keytab_setting)
            stack.callback(domain.close)
            verifiers.append(domain)
        if services.ntlm_verifier is not None:
            verifiers.append(FileVerifier(services.ntlm_verifier))
        negotiate = negotiate_beside(services)
        section = negotiate.guard if negotiate is not None else GuardSection()
        guard = Guard(services.store, section, passed_on=keytab is not None, reported=False)
        stack.push_async_callback(guard.close)
        attempts = PasswordAttempts(verifiers, guard)
        changer = services.password_changer if config.change and keytab is not None else None
        make = PasswordFormWithBasic if config.basic else PasswordForm
        yield make(attempts, needs_https=not config.insecure, changer=changer)


def warnings(config: Config) -> Sequence[str]:
    """Returns sentences about settings that are allowed but unwise."""
    if config.insecure:
        return ["password.insecure: passwords can be read on the network; remove it once listen.tls is set"]
    return []


class PasswordForm:
    """The `SignInMethod` of this plugin."""

    label = _("Sign in with your Windows name and password")
    mechanisms = ("password",)
    fresh_step = ""

    def __init__(
        self, attempts: PasswordAttempts, *, needs_https: bool, changer: PasswordChanger | None = None
    ) -> None:
        """`changer`: where users can change an expired password; None: they cannot."""
        self.needs_https = needs_https
        self.form: SignInForm | None = SignInForm(
            [
                SignInField("user", _("Name"), autocomplete="username"),
                SignInField("password", _("Password"), kind="password", autocomplete="current-password"),
            ]
        )
        self._attempts = attempts
        self._change = PasswordChange(attempts, changer) if changer is not None else None

    async def handle(self, request: SignInRequest) -> ShowPage | Authenticated:
        """Shows the form, or verifies what was entered into it."""
        if request.step == STEP and self._change is not None:
            return await self._change.handle(request) or self._page()
        if request.step:
            raise MethodRefused("the password form has no such page", ("GET",))
        if request.method != "POST":
            return self._page()
        user, password = request.form.get("user", ""), request.form.get("password", "")
        try:
            attempt = await self._attempts.verify(user, password, request.peer.address)
        except AccountRefused as refusal:
            if refusal.code != "password-expired" or self._change is None:
                raise
            return self._change.page(user)
        return Authenticated(attempt.identity, is_fresh=True)

    def _page(self) -> ShowPage:
        return ShowPage(self.label, _("Write your name as DOMAIN\\name, or as name@domain."), self.form)


class PasswordFormWithBasic(PasswordForm):
    """Fills the role of an `Authenticator` too: programs send name and password with a request."""

    schemes: Sequence[str] = ()
    unoffered_schemes: Sequence[str] = ("Basic",)

    def begin(self, peer: Peer) -> BasicHandshake:
        return BasicHandshake(self._attempts, peer, needs_https=self.needs_https)
