"""The message for each refusal: what happened, why as far as the reader may know, and what the reader can do."""

from collections.abc import Callable, Mapping

from calgate import plugin as r
from calgate.pages.denials import message_for
from calgate.pages.languages import ENGLISH, Language
from calgate.pages.message import Message
from calgate.plugin.texts import mark as _

_BY_NAME = (
    _("Open the site by its name, not by an IP address: Windows sign-in works with names only."),
    _("The site must be on your browser's list of intranet sites; your administrator can set that for everybody."),
)
_SPN = (
    _("The service principal name HTTP/<the site's name> must belong to the gateway's account, and only to it."),
    _(
        "The site must be in the Local Intranet zone, or in AuthServerAllowlist (Edge, Chrome) or "
        "network.negotiate-auth.trusted-uris (Firefox)."
    ),
)

_SIGN_IN: Mapping[str, Message] = {
    "sign-in-needed": Message(
        _("Sign in to continue"),
        _("This site signs you in with your Windows account, and your browser has not sent it."),
        (_("Try again: a browser that was set up a moment ago may need a second attempt."), *_BY_NAME),
        _SPN,
    ),
    "sign-in-failed": Message(
        _("That sign-in did not work"),
        _("The name or the password was not accepted, or your Windows ticket could not be read."),
        (
            _("Try again. Write your name as DOMAIN\\name."),
            _("Lock and unlock your computer, or sign out of Windows and in again, to get a new ticket."),
            *_BY_NAME,
        ),
        (_("The log has the precise reason under the reference number below."),),
    ),
    "ntlm-off": Message(
        _("Your browser signed in the old way"),
        _("It sent NTLM, and only Kerberos is accepted here."),
        _BY_NAME,
        (*_SPN, _("A browser falls back to NTLM when it cannot get a Kerberos ticket for this name.")),
    ),
    "ntlm-behind-proxy": Message(
        _("Your browser signed in the old way"),
        _("It sent NTLM, which cannot pass the proxy in front of this site."),
        _BY_NAME,
        (*_SPN, _("NTLM proves a connection, and the proxy shares its connections between people; Kerberos works.")),
    ),
    "binding-missing": Message(
        _("Your sign-in was not bound to this connection"),
        _("This site requires that a sign-in is bound to its encrypted connection, and yours was not."),
        (_("Use a current version of your browser."), _("Do not use a proxy that decrypts connections.")),
        (_("Behind a TLS terminator, its certificate must be named in binding_certificate."),),
    ),
    "provider-refused": Message(
        _("That sign-in did not work"),
        _(
            "The sign-in provider did not sign you in, or its answer cannot be used: it took too long, was used "
            "before, or is for another browser."
        ),
        (_("Begin again here, in this browser."),),
        (_("The log has the precise reason under the reference number below."),),
    ),
}

_ACCOUNTS: Mapping[str, tuple[str, str]] = {
    "account-disabled": (_("Your account is disabled"), _("You were identified, but this account must not be used.")),
    "account-expired": (_("Your account has expired"), _("You were identified, but this account has expired.")),
    "account-locked": (
        _("Your account is locked"),
        _("There were too many wrong passwords. The account unlocks after a while."),
    ),
    "account-restricted": (
        _("Your account may not sign in now, or not from here"),
        _("You were identified, but this account is limited to certain hours or workstations."),
    ),
    "password-expired": (
        _("Your password has expired"),
        _("Change it on your computer, then come back and try again."),
    ),
    "account-unknown": (
        _("Your account is not known here"),
        _("You were identified, but the directory has no such account."),
    ),
    "not-delegated": (
        _("You cannot be signed in at the document server"),
        _("You may open this, but the domain does not let this site sign you in at the document server."),
    ),
}

_WAITS = _("Nothing is wrong with your account. Try again in a moment.")
_UNAVAILABLE: Mapping[str, tuple[str, str]] = {
    "store-unavailable": (_("Licenses cannot be checked right now"), _("The gateway cannot reach its store.")),
    "directory-unavailable": (_("Groups cannot be checked right now"), _("The directory is not responding.")),
    "logon-server-unavailable": (_("Sign-in is not possible right now"), _("No domain controller is responding.")),
    "provider-unavailable": (
        _("Sign-in is not possible right now"),
        _("The sign-in provider is not responding, or does not accept this site."),
    ),
    "rules-unresolved": (
        _("Access cannot be decided right now"),
        _("A group that the access rules name could not be found in the directory."),
    ),
    "starting": (_("Almost there"), _("The gateway is starting.")),
    "no-upstream": (
        _("The document server is not available"),
        _("None of the document servers of this site is responding."),
    ),
}


def words_for(refusal: r.Refusal, language: Language = ENGLISH) -> Message:
    """Returns the message for a refusal of any kind."""
    for kind, write in _WRITERS:
        if isinstance(refusal, kind):
            return write(refusal).translated(language)
    return (_FAULT if refusal.status >= 500 else _OTHER).translated(language)


_OTHER = Message(_("This is not possible"), _("The request was refused."))
_FAULT = Message(
    _("Something went wrong here"),
    _("This is a fault of the gateway, not yours. The log has it under the reference number below."),
    (_("Try again. If it happens every time, tell your administrator the reference number."),),
)


def _sign_in(refusal: r.Refusal) -> Message:
    words = _SIGN_IN.get(refusal.code, _SIGN_IN["sign-in-failed"])
    return Message(words.title, words.text, words.advice, words.for_administrators, "sign-in.html")


def _account(refusal: r.Refusal) -> Message:
    title, text = _ACCOUNTS.get(refusal.code, _ACCOUNTS["account-disabled"])
    return Message(title, text, (_("Ask your help desk about your account."),), template="forbidden.html")


def _forbidden(refusal: r.Refusal) -> Message:
    rule = getattr(refusal, "rule", None)
    return Message(
        _("You do not have access to this"),
        _("The access rule “%(rule)s” does not allow you to open this.")
        if rule
        else _("No access rule allows you to open this."),
        (_("If you need it for your work, ask for access and give the reference number."),),
        template="forbidden.html",
        values={"rule": rule} if rule else {},
    )


def _cross_site(refusal: r.Refusal) -> Message:
    return Message(
        _("That came from another site"),
        _("A page of another site tried to use this site in your name, so the request was not carried out."),
        (_("If you wanted to come here, open this site yourself."),),
        template="forbidden.html",
    )


def _too_many(refusal: r.Refusal) -> Message:
    return Message(
        _("Too many failed sign-ins"),
        _("So that nobody can guess passwords, sign-in is blocked for a while."),
        (_("Wait, then try again with the right password."), _("If that was not you, tell your help desk.")),
        template="sign-in.html",
    )


def _no_cal(refusal: r.Refusal) -> Message:
    assert isinstance(refusal, r.NoCal)
    return message_for(refusal)


def _unavailable(refusal: r.Refusal) -> Message:
    title, text = _UNAVAILABLE.get(
        refusal.code, (_("Not available right now"), _("A service that this site depends on is not responding."))
    )
    return Message(title, text, (_WAITS,), template="unavailable.html")


def _plain(title: str, text: str, *advice: str, template: str = "problem.html") -> Callable[[r.Refusal], Message]:
    words = Message(title, text, advice, template=template)
    return lambda refusal: words


_WRITERS: tuple[tuple[type[r.Refusal], Callable[[r.Refusal], Message]], ...] = (
    (r.SignInNeeded, _sign_in),
    (r.AuthenticationFailed, _sign_in),
    (r.AccountRefused, _account),
    (r.Forbidden, _forbidden),
    (r.CrossSite, _cross_site),
    (r.TooManySignIns, _too_many),
    (r.NoCal, _no_cal),
    (r.Unavailable, _unavailable),
    (
        r.GatewayTimeout,
        _plain(
            _("The document server is taking too long"),
            _("It was reached, but it has not responded in time."),
            _("Try again in a moment."),
            template="unavailable.html",
        ),
    ),
    (
        r.BadGateway,
        _plain(
            _("The document server gave no valid response"),
            _("It is not responding, or its response could not be read."),
            _("Try again in a moment."),
            template="unavailable.html",
        ),
    ),
    (
        r.HeadersTooLarge,
        _plain(
            _("Your browser sent too much"),
            _("The headers of the request are larger than this site accepts; old cookies are the usual cause."),
            _("Delete this site's cookies in your browser and try again."),
        ),
    ),
    (r.TooLarge, _plain(_("The request is too large"), _("It is larger than this site can check."))),
    (
        r.RequestTimeout,
        _plain(_("The upload stopped"), _("The rest did not arrive in time."), _("Try again in a moment.")),
    ),
    (
        r.MethodRefused,
        _plain(_("This kind of request is not allowed here"), _("This site does not accept its method.")),
    ),
    (
        r.BadRequest,
        _plain(
            _("This address cannot be read"),
            _("It could be understood in more than one way, so the request was not carried out."),
            _("Check the link, or open the document from the start page."),
        ),
    ),
)
