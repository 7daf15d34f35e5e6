"""The message for each refusal: what happened, why as far as the reader may know, and what the reader can do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from calgate import plugin as r


@dataclass(frozen=True, slots=True)
class Message:
    """What people read about one refusal."""

    title: str
    text: str
    advice: tuple[str, ...] = ()  # what the reader can do, most useful first
    for_administrators: tuple[str, ...] = ()  # what the reader's administrator should look at
    template: str = "problem.html"
    without_page: str = ""  # replaces `text` for clients that show no page of ours; "": the text fits them too


_BY_NAME = (
    "Open the site by its name, not by an IP address: Windows sign-in works with names only.",
    "The site must be on your browser's list of intranet sites; your administrator can set that for everybody.",
)
_SPN = (
    "The service principal name HTTP/<the site's name> must belong to the gateway's account, and only to it.",
    "The site must be in the Local Intranet zone, or in AuthServerAllowlist (Edge, Chrome) or "
    "network.negotiate-auth.trusted-uris (Firefox).",
)

_SIGN_IN: Mapping[str, Message] = {
    "sign-in-needed": Message(
        "Sign in to continue",
        "This site signs you in with your Windows account, and your browser has not sent it.",
        ("Try again: a browser that was set up a moment ago may need a second attempt.", *_BY_NAME),
        _SPN,
    ),
    "sign-in-failed": Message(
        "That sign-in did not work",
        "The name or the password was not accepted, or your Windows ticket could not be read.",
        (
            "Try again. Write your name as DOMAIN\\name.",
            "Lock and unlock your computer, or sign out of Windows and in again, to get a new ticket.",
            *_BY_NAME,
        ),
        ("The log has the precise reason under the reference number below.",),
    ),
    "ntlm-off": Message(
        "Your browser signed in the old way",
        "It sent NTLM, and only Kerberos is accepted here.",
        _BY_NAME,
        (*_SPN, "A browser falls back to NTLM when it cannot get a Kerberos ticket for this name."),
    ),
    "ntlm-behind-proxy": Message(
        "Your browser signed in the old way",
        "It sent NTLM, which cannot pass the proxy in front of this site.",
        _BY_NAME,
        (*_SPN, "NTLM proves a connection, and the proxy shares its connections between people; Kerberos works."),
    ),
    "binding-missing": Message(
        "Your sign-in was not bound to this connection",
        "This site requires that a sign-in is bound to its encrypted connection, and yours was not.",
        ("Use a current version of your browser.", "Do not use a proxy that decrypts connections."),
        ("Behind a TLS terminator, its certificate must be named in binding_certificate.",),
    ),
}

_ACCOUNTS: Mapping[str, tuple[str, str]] = {
    "account-disabled": ("Your account is disabled", "You were identified, but this account must not be used."),
    "account-expired": ("Your account has expired", "You were identified, but this account has expired."),
    "account-locked": (
        "Your account is locked",
        "There were too many wrong passwords. The account unlocks after a while.",
    ),
    "account-restricted": (
        "Your account may not sign in now, or not from here",
        "You were identified, but this account is limited to certain hours or workstations.",
    ),
    "password-expired": ("Your password has expired", "Change it on your computer, then come back and try again."),
    "account-unknown": (
        "Your account is not known here",
        "You were identified, but the directory has no such account.",
    ),
}

_WAITS = "Nothing is wrong with your account. Try again in a moment."
_UNAVAILABLE: Mapping[str, tuple[str, str]] = {
    "store-unavailable": ("Licenses cannot be checked right now", "The gateway cannot reach its store."),
    "directory-unavailable": ("Groups cannot be checked right now", "The directory is not responding."),
    "logon-server-unavailable": ("Sign-in is not possible right now", "No domain controller is responding."),
    "rules-unresolved": (
        "Access cannot be decided right now",
        "A group that the access rules name could not be found in the directory.",
    ),
    "starting": ("Almost there", "The gateway is starting."),
    "no-upstream": ("The document server is not available", "None of the document servers of this site is responding."),
}


def words_for(refusal: r.Refusal) -> Message:
    """Returns the message for a refusal of any kind."""
    for kind, write in _WRITERS:
        if isinstance(refusal, kind):
            return write(refusal)
    return _FAULT if refusal.status >= 500 else Message("This is not possible", "The request was refused.")


_FAULT = Message(
    "Something went wrong here",
    "This is a fault of the gateway, not yours. The log has it under the reference number below.",
    ("Try again. If it happens every time, tell your administrator the reference number.",),
)


def _sign_in(refusal: r.Refusal) -> Message:
    words = _SIGN_IN.get(refusal.code, _SIGN_IN["sign-in-failed"])
    return Message(words.title, words.text, words.advice, words.for_administrators, "sign-in.html")


def _account(refusal: r.Refusal) -> Message:
    title, text = _ACCOUNTS.get(refusal.code, _ACCOUNTS["account-disabled"])
    return Message(title, text, ("Ask your help desk about your account.",), template="forbidden.html")


def _forbidden(refusal: r.Refusal) -> Message:
    rule = getattr(refusal, "rule", None)
    why = (
        f"The access rule “{rule}” does not allow you to open this."
        if rule
        else "No access rule allows you to open this."
    )
    advice = ("If you need it for your work, ask for access and give the reference number.",)
    return Message("You do not have access to this", why, advice, template="forbidden.html")


def _cross_site(refusal: r.Refusal) -> Message:
    return Message(
        "That came from another site",
        "A page of another site tried to use this site in your name, so the request was not carried out.",
        ("If you wanted to come here, open this site yourself.",),
        template="forbidden.html",
    )


def _too_many(refusal: r.Refusal) -> Message:
    return Message(
        "Too many failed sign-ins",
        "So that nobody can guess passwords, sign-in is blocked for a while.",
        ("Wait, then try again with the right password.", "If that was not you, tell your help desk."),
        template="sign-in.html",
    )


_OTHER_DENIALS: Mapping[str, Message] = {
    "no-cal-held": Message(
        "Your license for this document has ended",
        "The license (CAL) was not used for a while, so others can use it now.",
        ("Open the document again: you get another license if one is free.",),
        template="denial.html",
    ),
    "in-use-elsewhere": Message(
        "You are working on another computer",
        "Your license (a Named CAL) is in use there, and it serves one computer at a time.",
        ("Close the documents there and sign out, then try again here.",),
        template="denial.html",
    ),
    "taken-over": Message(
        "You continued on another computer",
        "You opened a document there, and your license (a Named CAL) moved with you: it serves one computer at a time.",
        ("Try again to continue here; the license then leaves the other computer.",),
        template="denial.html",
    ),
}


def _no_cal(refusal: r.Refusal) -> Message:
    assert isinstance(refusal, r.NoCal)
    if refusal.code in _OTHER_DENIALS:
        return _OTHER_DENIALS[refusal.code]
    if refusal.place is not None:
        return Message(
            "You are in the queue",
            "No license is free for you just now. This page keeps your place and continues by itself; leave it open.",
            template="waiting.html",
            without_page=f"No license is free for you just now. You are number {refusal.place} in the queue. Open the "
            "document again in a new window to wait for your turn; the place is kept for half a minute only.",
        )
    return Message(
        "No license is free for you",
        "You may open this document, but that takes a client access license (CAL), and none is free for you.",
        (
            "Try again later.",
            "Close documents you no longer need and sign out, so that others can use the license.",
        ),
        template="denial.html",
    )


def _unavailable(refusal: r.Refusal) -> Message:
    title, text = _UNAVAILABLE.get(
        refusal.code, ("Not available right now", "A service that this site depends on is not responding.")
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
            "The document server is taking too long",
            "It was reached, but it has not responded in time.",
            "Try again in a moment.",
            template="unavailable.html",
        ),
    ),
    (
        r.BadGateway,
        _plain(
            "The document server could not be reached",
            "It is not responding, or its response could not be read.",
            "Try again in a moment.",
            template="unavailable.html",
        ),
    ),
    (
        r.HeadersTooLarge,
        _plain(
            "Your browser sent too much",
            "The headers of the request are larger than this site accepts; old cookies are the usual cause.",
            "Delete this site's cookies in your browser and try again.",
        ),
    ),
    (r.TooLarge, _plain("The request is too large", "It is larger than this site can check.")),
    (
        r.RequestTimeout,
        _plain("The upload stopped", "The rest did not arrive in time.", "Try again in a moment."),
    ),
    (r.MethodRefused, _plain("This kind of request is not allowed here", "This site does not accept its method.")),
    (
        r.BadRequest,
        _plain(
            "This address cannot be read",
            "It could be understood in more than one way, so the request was not carried out.",
            "Check the link, or open the document from the start page.",
        ),
    ),
)
