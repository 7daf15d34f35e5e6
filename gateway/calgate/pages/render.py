"""Renders messages and facts with templates; an administrator can replace any template."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from jinja2 import TemplateError

from calgate import plugin as r
from calgate.dialect import DialectResponse
from calgate.pages.denials import ANONYMOUS_CODES, as_requested, pools_of
from calgate.pages.environment import OURS, environment, located, translation
from calgate.pages.languages import Language, Languages
from calgate.pages.look import Look, ask_link
from calgate.pages.message import Message
from calgate.pages.messages import words_for
from calgate.pages.negotiation import prefers_page
from calgate.pages.problem_json import ASK_AGAIN, headers, problem, retry_after
from calgate.pages.samples import SAMPLES
from calgate.pages.settings import PagesSection
from calgate.plugin.texts import mark as _

_SIGN_OUT = Message(
    _("Sign out"),
    _(
        "A Session CAL that you hold is released for others once its minimum time is over. A CAL that is "
        "assigned to you stays yours."
    ),
)
_SIGNED_OUT = Message(_("You are signed out"), _("It is safe to close this window."))
_GIVE_BACK = Message(
    _("Give the license back"),
    _("The license with which this browser opens documents is released for others once its minimum time is over."),
)
_GIVEN_BACK = Message(_("The license is given back"), _("It is safe to close this window."))


@dataclass(frozen=True, slots=True)
class SignInOption:
    """A sign-in method on a page: its form, or a link to its own page."""

    name: str  # of its path
    label: str
    form: r.SignInForm | None


@dataclass(frozen=True, slots=True)
class PageContext:
    """The reader of a page, and the request it responds to."""

    now: float  # Unix time
    accept: str = ""  # the Accept header
    accept_language: str = ""  # the Accept-Language header
    reference: str = ""  # leads to the line in the log
    site: str = ""  # the host as the browser names it
    user: str | None = None  # CORP\alice, where a user is signed in
    path: str = "/"  # path and query to try again; anything but a path of this site becomes "/"
    methods: Sequence["SignInOption"] = ()  # by which the reader can sign in on a page
    sign_in_path: str = ""  # where the reader of a public route's page can sign in instead; "": nowhere
    write: Callable[[str], DialectResponse | None] = lambda words: (
        None
    )  # the dialect's own form, for calls of its client


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """A response without framing, challenges and cookies."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


def check_pages(section: PagesSection) -> None:
    """Reads each of the administrator's languages, and renders each of their templates, once.

    Raises ValueError with the file and line of a fault.
    """
    pages = Pages(section)
    if section.languages is not None:
        pages.tags()
    if section.templates is not None:
        pages.demand_whole(section.templates)


class Pages:
    """Renders refusals and pages in the form that the client understands."""

    def __init__(self, settings: PagesSection, *, embed_in: Sequence[str] = (), timezone: str = "UTC") -> None:
        """`embed_in`: the origins that may frame the site; `timezone`: the site's. Raises ValueError."""
        self._contact = settings.contact
        self._languages = Languages(settings.language, settings.languages)
        self._zone = ZoneInfo(timezone)
        self._look = Look.read(settings)
        self._ask_link = settings.ask_link
        self._frames = " ".join(("'self'", *embed_in))
        self._templates = environment(settings.templates)

    def refuse(self, refusal: r.Refusal, viewer: PageContext) -> RenderedPage:
        """Returns the response to a refused request."""
        language = self._languages.choose(viewer.accept_language)
        words = words_for(refusal, language)
        fields = headers(refusal, viewer.now)
        if written := viewer.write(self._spoken(refusal, words, viewer, language)):
            return self._response(refusal.status, written.content_type, written.body, fields)
        if not prefers_page(viewer.accept):
            body = problem(refusal, words_for(refusal), viewer.reference, viewer.now)
            return self._response(refusal.status, "application/problem+json", body, fields)
        contact = getattr(refusal, "contact", "") or self._contact
        body, policy = self._page(words.template, viewer, words=words, refusal=refusal, contact=contact)
        return self._response(refusal.status, "text/html; charset=utf-8", body, (*fields, policy))

    def sign_in(self, viewer: PageContext) -> RenderedPage:
        """Returns the page with every way to sign in, without a challenge: the browser would sign in by itself."""
        words = Message(_("Sign in"), _("The user who is signed in in this browser is signed out."))
        return self._plain("sign-in.html", words, viewer)

    def method_page(self, viewer: PageContext, method: str, page: r.ShowPage) -> RenderedPage:
        """Returns the page that a sign-in method shows."""
        words = Message(page.title, page.text).translated(self._languages.choose(viewer.accept_language))
        body, policy = self._page(
            "form.html", viewer, words=words, refusal=None, contact=self._contact, method=method, form=page.form
        )
        return self._response(200, "text/html; charset=utf-8", body, (policy,))

    def sign_out(self, viewer: PageContext, *, is_visitor: bool = False) -> RenderedPage:
        """Returns the page whose button signs out: with a POST, so that no link or image can do it.

        `is_visitor`: nobody is signed in, and the browser has a CAL on a public route to give back.
        """
        words = _GIVE_BACK if is_visitor else _SIGN_OUT
        return self._plain("sign-out.html", words, viewer)

    def signed_out(self, viewer: PageContext, *, is_visitor: bool = False) -> RenderedPage:
        """Returns the page after a sign-out, without a challenge: the browser would sign in again by itself."""
        words = _GIVEN_BACK if is_visitor else _SIGNED_OUT
        return self._plain("signed-out.html", words, viewer, is_visitor=is_visitor)

    def _plain(self, template: str, message: Message, viewer: PageContext, **more: object) -> RenderedPage:
        words = message.translated(self._languages.choose(viewer.accept_language))
        body, policy = self._page(template, viewer, words=words, refusal=None, contact=self._contact, **more)
        return self._response(200, "text/html; charset=utf-8", body, (policy,))

    def _page(self, template: str, viewer: PageContext, **more: object) -> tuple[bytes, tuple[str, str]]:
        nonce = secrets.token_urlsafe(12)
        language = self._languages.choose(viewer.accept_language)
        text = self._templates.get_template(template).render(
            viewer=viewer,
            path=own_path(viewer.path),
            nonce=nonce,
            ask_again=ASK_AGAIN,
            zone=self._zone,
            look=self._look,
            ask_link=self._ask(viewer, more, language),
            **translation(language),
            **_facts(viewer, more.get("refusal")),
            **more,
        )
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src 'self' data:; "
            f"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors {self._frames}"
        )
        return text.encode(), ("Content-Security-Policy", policy)

    def _ask(self, viewer: PageContext, page: Mapping[str, object], language: Language) -> str:
        path = own_path(viewer.path)
        refusal = page.get("refusal")
        document = as_requested(refusal.document, path) if isinstance(refusal, r.NoCal) else path
        values = {
            "address": viewer.site + path,
            "document": document,
            "user": viewer.user or "",
            "reference": viewer.reference,
        }
        return ask_link(self._ask_link, str(page.get("contact", "")), refusal, values, language)

    def _response(self, status: int, content_type: str, body: bytes, more: Sequence[tuple[str, str]]) -> RenderedPage:
        common = (
            ("Content-Type", content_type),
            ("Cache-Control", "no-store"),
            ("Vary", "Accept, Accept-Language"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "same-origin"),
        )
        return RenderedPage(status, (*common, *more), body)

    def _spoken(self, refusal: r.Refusal, words: Message, viewer: PageContext, language: Language) -> str:
        """Returns one string for a client that shows nothing else."""
        parts = [f"{words.title}.", words.without_page or words.text]
        if refusal.code == "no-cal" and isinstance(refusal, r.NoCal) and refusal.free_at is not None:
            moment = language.time(refusal.free_at, viewer.now, self._zone)
            parts.append(language.text(_("When the next one can come free: %(moment)s."), moment=moment))
        if viewer.reference:
            parts.append(language.text(_("Reference %(reference)s."), reference=viewer.reference))
        return " ".join(parts)

    def tags(self) -> Sequence[str]:
        """Returns the languages that the pages have. Raises ValueError if a file cannot be used."""
        return [language.tag for language in self._languages.every()]

    def demand_whole(self, folder: Path) -> None:
        """Renders every page once, so that a fault is found at start and not by the first user who is refused.

        Raises ValueError naming each broken template and its line.
        """
        if not folder.is_dir():
            raise ValueError(f"templates: {folder} is not a folder")
        ours = {name for name in OURS.list_templates() if not name.startswith("_")}
        named = sorted(file.name for file in folder.glob("*.html") if not file.name.startswith("_"))
        faults = [
            f"{folder / name}: there is no such page; there are {', '.join(sorted(ours))}, and parts begin with _"
            for name in named
            if name not in ours
        ]
        for name, sample in SAMPLES.items():
            try:
                self._page(name, PageContext(0.0, user="CORP\\sample"), contact="", **sample)
            except (TemplateError, TypeError, AttributeError, ValueError) as error:  # all that a template can raise
                faults.append(located(error, folder, name))
        if faults:
            raise ValueError("\n".join(dict.fromkeys(faults)))


def _facts(viewer: PageContext, refusal: object) -> Mapping[str, object]:
    """Returns what a page shows besides the words: when another attempt makes sense; the document and the pools."""
    wait = retry_after(refusal, viewer.now) if isinstance(refusal, r.Refusal) else None
    facts: dict[str, object] = {"again_at": None if wait is None else viewer.now + wait}
    if isinstance(refusal, r.NoCal):
        pools, others = pools_of(refusal)
        facts |= {"document": as_requested(refusal.document, viewer.path), "pools": pools, "other_pools": others}
        is_only_time = refusal.code == "no-cal" and all(pool.note == "full" for pool in pools)
        facts["sign_in_path"] = viewer.sign_in_path if refusal.code in ANONYMOUS_CODES else ""
        facts["look_for"] = ",".join(pool.kind for pool in pools) if is_only_time else ""
    return facts


def own_path(path: str) -> str:
    """Returns a path of this site, else "/": to a browser `//host` and `/\\host` are other sites."""
    safe = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if safe else "/"
