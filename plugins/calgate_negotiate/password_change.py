"""The page on which a user replaces an expired password, reached only by the right one.

The note binds the page to the browser that entered the password, and to the account. The old password is entered again:
it is kept in no session, no note and no store.
"""

import logging
from collections.abc import Mapping

from calgate.plugin import (
    Authenticated,
    AuthenticationFailed,
    Identity,
    PasswordChanger,
    ShowPage,
    SignInField,
    SignInForm,
    SignInRequest,
    Unavailable,
)
from calgate.plugin import mark as _
from calgate_negotiate.guard import NothingLearnedError, UndecidedError
from calgate_negotiate.password_attempts import PasswordAttempts, demand_possible
from calgate_negotiate.password_names import PasswordName
from calgate_negotiate.password_verifiers import Attempt

logger = logging.getLogger(__name__)

STEP = "change"
_NOTE = b"change\0"
_FORM = SignInForm(
    [
        SignInField("old", _("Old password"), kind="password", autocomplete="current-password"),
        SignInField("new", _("New password"), kind="password", autocomplete="new-password"),
        SignInField("again", _("New password, once more"), kind="password", autocomplete="new-password"),
    ],
    button=_("Change password"),
    step=STEP,
)


class _NewPasswordRefusedError(NothingLearnedError):
    """The old password was right, and the domain does not accept the new one."""


class _ChangedError(NothingLearnedError):
    """The password is changed, and the domain controller of the next query does not know it yet."""


class PasswordChange:
    """Shows the page, and changes the password."""

    def __init__(self, attempts: PasswordAttempts, changer: PasswordChanger) -> None:
        self._attempts = attempts
        self._changer = changer

    def page(self, user: str, why: str = "") -> ShowPage:
        """Returns the page for the user whose expired password was right; `why`: what was wrong with the new one."""
        text = why or _("You entered the right password, but it has expired. Choose a new one to sign in.")
        return ShowPage(_("Change your password"), text, _FORM, _NOTE + user.encode("utf-8"))

    async def handle(self, request: SignInRequest) -> ShowPage | Authenticated | None:
        """Carries out a change; None without a note: the page was not reached by the right password."""
        if not request.note.startswith(_NOTE):
            return None
        user = request.note.removeprefix(_NOTE).decode("utf-8")
        if request.method != "POST":
            return self.page(user)
        if why := _fault(request.form):
            return self.page(user, why)
        name = PasswordName.read(user)
        old, new = request.form["old"], request.form["new"]
        address = request.peer.address
        try:
            attempt = await self._attempts.carry_out(name, address, lambda: self._change(name, old, new, address))
        except _NewPasswordRefusedError as refusal:
            return self.page(user, refusal.detail)
        except _ChangedError:
            return ShowPage(
                _("Your password is changed"),
                _("Sign in with the new password. If it is not accepted yet, try again in a few minutes."),
            )
        return Authenticated(attempt.identity, is_fresh=True)

    async def _change(self, name: PasswordName, old: str, new: str, address: str) -> Attempt:
        identity = Identity(name.domain or name.suffix, name.account, mechanism="")
        try:
            reason = await self._changer.change_password(identity, old, new)
        except Unavailable as refusal:  # a domain controller may have counted a wrong old password
            raise UndecidedError(refusal.detail, code=refusal.code) from refusal
        if reason:
            raise _NewPasswordRefusedError(reason)
        logger.info("password: %s changed an expired password from %s", identity.account, address)
        try:
            return await self._attempts.verifier_of(name).verify(name, new)
        except (AuthenticationFailed, Unavailable) as refusal:
            raise _ChangedError(f"the new password does not work yet: {refusal.detail}") from refusal


def _fault(form: Mapping[str, str]) -> str:
    """Returns a fault of the entries themselves, which no server needs to see."""
    try:
        demand_possible(form.get("old", ""))
        demand_possible(form.get("new", ""))
    except AuthenticationFailed:
        return _("Enter the old password, and the new one twice. A password has at most 256 characters.")
    if form["new"] != form.get("again"):
        return _("The two new passwords differ. Enter the new one twice.")
    return ""
