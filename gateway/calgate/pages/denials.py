"""The message of a denial, and which pools of CALs concern the person who is denied."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import unquote

from calgate.pages.languages import mark_plural
from calgate.pages.message import Message
from calgate.paths import fold
from calgate.plugin.licensing import NoCal, Pool
from calgate.plugin.texts import mark as _

_FOR_OTHERS = ("not-assigned", "not-allocated")  # only an administrator can change that, so time does not help

_OTHER_CODES: Mapping[str, Message] = {
    "no-cal-held": Message(
        _("Your license for this document has ended"),
        _("The license (CAL) was not used for a while, its time is over, or an administrator ended it."),
        (_("Open the document again: you get another license if one is free."),),
        template="denial.html",
    ),
    "in-use-elsewhere": Message(
        _("You are working on another computer"),
        _("Your license (a Named CAL) is in use there, and it serves one computer at a time."),
        (_("Close the documents there and sign out, then try again here."),),
        template="denial.html",
    ),
    "taken-over": Message(
        _("You continued on another computer"),
        _(
            "You opened a document there, and your license (a Named CAL) moved with you: it serves one computer at a "
            "time."
        ),
        (_("Try again to continue here; the license then leaves the other computer."),),
        template="denial.html",
    ),
}
_WAIT = (
    _("Wait for a license to come free."),
    _("Close documents you no longer need and sign out, so that others can use the license."),
)
_NONE_FOR_VISITORS = _("No license is free for visitors")
_ANONYMOUS: Mapping[str, Message] = {
    "cookie-needed": Message(
        _("Your browser must accept a cookie"),
        _("You open this document without signing in, so the license that you use is tied to a cookie of this site."),
        (_("Allow cookies for this site, then try again."),),
        template="denial.html",
    ),
    "anonymous-full": Message(
        _NONE_FOR_VISITORS,
        _("All licenses that visitors can use without signing in are in use."),
        _WAIT[:1],
        template="denial.html",
    ),
    "address-full": Message(
        _NONE_FOR_VISITORS,
        _("Visitors at your network address use, or have just requested, as many licenses as they may."),
        _WAIT[:1],
        template="denial.html",
    ),
    "none-for-anonymous": Message(
        _NONE_FOR_VISITORS,
        _("The licenses of this site are in use, or kept for its users."),
        _WAIT[:1],
        template="denial.html",
    ),
}
ANONYMOUS_CODES = frozenset(_ANONYMOUS)
"""Codes of denials on public routes, whose readers may have an account that they can sign in with."""
_QUEUED = Message(
    _("You are in the queue"),
    _("No license is free for you just now. This page keeps your place and continues by itself; leave it open."),
    template="waiting.html",
    without_page=_(
        "No license is free for you just now. You are number %(place)s in the queue. Open the document again in a new "
        "window to wait for your turn; the place is kept for half a minute only."
    ),
)
_TITLE = _("No license is free for you")
_ASK = (_("If you need this document for your work, ask for a license."),)
_ALL_OF_THE_SITE = mark_plural(
    "The only license of this site is in use.", "All %(num)s licenses of this site are in use."
)
_ALL_FOR_YOU = mark_plural("The only license open to you is in use.", "All %(num)s licenses open to you are in use.")
_REASONS: Mapping[str, str] = {
    "capped": _("Your group already uses as many licenses as it may use at once."),
    "reserved": _("The licenses that are free are reserved for a group that you are not in."),
    "promised": _("The licenses that are free are kept for people who were waiting before you."),
}
_NO_POOL = _("No licenses have been set up for this site yet.")
_NONE_FOR_YOU = _("The licenses of this site are assigned to certain people or documents, and none of them is yours.")


def message_for(refusal: NoCal) -> Message:
    """Returns the message of a denial: its text is about this person's licenses."""
    if refusal.code in _OTHER_CODES:
        return _OTHER_CODES[refusal.code]
    if refusal.code in _ANONYMOUS:
        return _ANONYMOUS[refusal.code]
    if refusal.place is not None:
        return replace(_QUEUED, values={"place": refusal.place})
    concerned, others = pools_of(refusal)
    if not concerned:
        return Message(_TITLE, _NONE_FOR_YOU if others else _NO_POOL, _ASK, template="denial.html")
    notes = {pool.note for pool in concerned}
    for note, text in _REASONS.items():
        if note in notes:
            return Message(_TITLE, text, _WAIT, template="denial.html")
    one, many = _ALL_FOR_YOU if others else _ALL_OF_THE_SITE
    number = sum(pool.limit for pool in concerned)
    return Message(_TITLE, one, _WAIT, template="denial.html", plural=many, values={"num": number})


def pools_of(refusal: NoCal) -> tuple[Sequence[Pool], Sequence[Pool]]:
    """Returns the pools that can have a CAL for this person, and the others; without those that were not bought."""
    bought = [pool for pool in refusal.pools if pool.limit]
    return [pool for pool in bought if pool.note not in _FOR_OTHERS], [p for p in bought if p.note in _FOR_OTHERS]


def as_requested(document: str, target: str) -> str:
    """Returns the document's name in the upper and lower case of the request; the folded name where that has none."""
    name = document.rpartition("|")[2]
    written = unquote(target).replace("\\", "/")
    begin = fold(written).find(name)  # folding keeps the length
    return written[begin : begin + len(name)] if begin >= 0 and name else name
