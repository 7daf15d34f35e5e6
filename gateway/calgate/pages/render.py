"""Renders messages and facts with templates; an administrator can replace any template."""

import math
import re
import secrets
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined, TemplateError
from markupsafe import Markup

from calgate import plugin as r
from calgate.dialect import DialectResponse
from calgate.pages.messages import Message, words_for
from calgate.pages.negotiation import prefers_page
from calgate.pages.problem_json import ASK_AGAIN, headers, iso, problem, retry_after
from calgate.pages.samples import SAMPLES
from calgate.pages.settings import PagesSection

_OURS = PackageLoader("calgate.pages")
_SEATS_DRAWN = 24  # a pool with more CALs than this is drawn as one bar


@dataclass(frozen=True, slots=True)
class PageContext:
    """The reader of a page, and the request it responds to."""

    now: float  # Unix time
    accept: str = ""  # the Accept header
    reference: str = ""  # leads to the line in the log
    site: str = ""  # the host as the browser names it
    user: str | None = None  # CORP\alice, where a user is signed in
    path: str = "/"  # path and query to try again; anything but a path of this site becomes "/"
    write: Callable[[str], DialectResponse | None] = lambda words: (
        None
    )  # the dialect's own form, for calls of its client


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """A response without framing, challenges and cookies."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


def check_templates(section: PagesSection) -> None:
    """Renders each of the administrator's templates once. Raises ValueError with the file and line of a fault."""
    if section.templates is not None:
        Pages(section).demand_whole(section.templates)


class Pages:
    """Renders refusals and pages in the form that the client understands."""

    def __init__(self, settings: PagesSection, *, embed_in: Sequence[str] = ()) -> None:
        """`embed_in`: the origins that may frame the site."""
        self._contact = settings.contact
        self._frames = " ".join(("'self'", *embed_in))
        own = [FileSystemLoader(settings.templates)] if settings.templates else []
        self._templates = Environment(
            loader=ChoiceLoader([*own, _OURS]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(moment=_moment, seats=_seats, breaks=_breaks)

    def refuse(self, refusal: r.Refusal, viewer: PageContext) -> RenderedPage:
        """Returns the response to a refused request."""
        words = words_for(refusal)
        fields = headers(refusal, viewer.now)
        if written := viewer.write(_spoken(refusal, words, viewer)):
            return self._response(refusal.status, written.content_type, written.body, fields)
        if not prefers_page(viewer.accept):
            body = problem(refusal, words, viewer.reference, viewer.now)
            return self._response(refusal.status, "application/problem+json", body, fields)
        contact = getattr(refusal, "contact", "") or self._contact
        body, policy = self._page(words.template, viewer, words=words, refusal=refusal, contact=contact)
        return self._response(refusal.status, "text/html; charset=utf-8", body, (*fields, policy))

    def sign_out(self, viewer: PageContext) -> RenderedPage:
        """Returns the page whose button signs out: with a POST, so that no link or image can do it."""
        return self._plain(
            "sign-out.html",
            Message(
                "Sign out",
                "A Session CAL that you hold is released for others once its minimum time is over. A CAL that is "
                "assigned to you stays yours.",
            ),
            viewer,
        )

    def signed_out(self, viewer: PageContext) -> RenderedPage:
        """Returns the page after a sign-out, without a challenge: the browser would sign in again by itself."""
        return self._plain("signed-out.html", Message("You are signed out", "It is safe to close this window."), viewer)

    def _plain(self, template: str, words: Message, viewer: PageContext) -> RenderedPage:
        body, policy = self._page(template, viewer, words=words, refusal=None, contact=self._contact)
        return self._response(200, "text/html; charset=utf-8", body, (policy,))

    def _page(self, template: str, viewer: PageContext, **more: object) -> tuple[bytes, tuple[str, str]]:
        nonce = secrets.token_urlsafe(12)
        text = self._templates.get_template(template).render(
            viewer=viewer, path=_own_path(viewer.path), nonce=nonce, ask_again=ASK_AGAIN, **_wait(viewer, more), **more
        )
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src 'self' data:; "
            f"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors {self._frames}"
        )
        return text.encode(), ("Content-Security-Policy", policy)

    def _response(self, status: int, content_type: str, body: bytes, more: Sequence[tuple[str, str]]) -> RenderedPage:
        common = (
            ("Content-Type", content_type),
            ("Cache-Control", "no-store"),
            ("Vary", "Accept"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "same-origin"),
        )
        return RenderedPage(status, (*common, *more), body)

    def demand_whole(self, folder: Path) -> None:
        """Renders every page once, so that a fault is found at start and not by the first user who is refused.

        Raises ValueError naming each broken template and its line.
        """
        if not folder.is_dir():
            raise ValueError(f"templates: {folder} is not a folder")
        ours = {name for name in _OURS.list_templates() if not name.startswith("_")}
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
                faults.append(_located(error, folder, name))
        if faults:
            raise ValueError("\n".join(dict.fromkeys(faults)))


def _located(error: Exception, folder: Path, page: str) -> str:
    """Adds the template's file and line: of the syntax error, else of the innermost template in the traceback."""
    file, line = getattr(error, "filename", None), getattr(error, "lineno", None)
    if line is None:
        places = [
            (f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith(".html")
        ]
        file, line = places[-1] if places else (None, None)
    return f"{file or folder / page}, line {line or 1}: {error}"


def _spoken(refusal: r.Refusal, words: Message, viewer: PageContext) -> str:
    """Returns one string for a client that shows nothing else."""
    parts = [f"{words.title}.", words.without_page or words.text]
    if refusal.code == "no-cal" and isinstance(refusal, r.NoCal) and refusal.free_at is not None:
        parts.append(f"The next one can come free at {_clock(refusal.free_at)} UTC.")
    if viewer.reference:
        parts.append(f"Reference {viewer.reference}.")
    return " ".join(parts)


def _wait(viewer: PageContext, more: Mapping[str, object]) -> Mapping[str, object]:
    """Returns when another attempt makes sense, for refusals that know it."""
    refusal = more.get("refusal")
    wait = retry_after(refusal, viewer.now) if isinstance(refusal, r.Refusal) else None
    return {"again_at": None if wait is None else viewer.now + wait}


def _own_path(path: str) -> str:
    """Returns a path of this site, else "/": to a browser `//host` and `/\\host` are other sites."""
    safe = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if safe else "/"


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(math.ceil(moment), UTC).strftime("%H:%M")


def _moment(moment: float) -> Markup:
    """Formats a time in UTC; the page's script converts it to the reader's time zone."""
    return Markup('<time datetime="{}">{} UTC</time>').format(iso(moment), _clock(moment))


def _seats(pool: r.Pool) -> Sequence[tuple[float, float, bool]]:
    """Draws a pool 100 units wide: (left, width, is taken) for each CAL, or for two bars where there are many CALs."""
    taken = min(pool.occupied, pool.limit)
    if pool.limit > _SEATS_DRAWN:
        share = 100 * taken / pool.limit
        return [(0.0, share, True), (share, 100 - share, False)]
    step = 101 / pool.limit  # each CAL and the gap of 1 after it
    return [(round(seat * step, 2), round(step - 1, 2), seat < taken) for seat in range(pool.limit)]


def _breaks(name: str) -> Markup:
    """Allows a line break after each part of a long name."""
    return Markup("<wbr>").join(re.split(r"(?<=[/\\_.@-])", name))
