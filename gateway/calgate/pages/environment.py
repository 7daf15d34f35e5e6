"""The environment of templates: their folders, the filters, and the texts of a language."""

import re
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup, escape

from calgate import plugin as r
from calgate.pages.languages import Language
from calgate.pages.problem_json import iso

OURS = PackageLoader("calgate.pages")
_SEATS_DRAWN = 24  # a pool with more CALs than this is drawn as one bar


def environment(folder: Path | None) -> Environment:
    """Returns an environment in which the administrator's templates come before ours."""
    own = [FileSystemLoader(folder)] if folder else []
    made = Environment(
        loader=ChoiceLoader([*own, OURS]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    made.filters.update(moment=_moment, seats=_seats, breaks=_breaks, urlname=_url_name, script=_script)
    return made


def translation(language: Language) -> Mapping[str, object]:
    """Returns the functions with which templates write a language. Translations and values are text, never markup."""

    def text(text: str, /, **values: object) -> Markup:
        return escape(language.text(text)) % values

    def plural(one: str, many: str, num: int, /, **values: object) -> Markup:
        shown = {"num": language.number(num), **values}
        return escape(language.catalogue.ngettext(one, many, num)) % shown

    return {"language": language, "gettext": text, "ngettext": plural}


def located(error: Exception, folder: Path, page: str) -> str:
    """Adds the template's file and line: of the syntax error, else of the innermost template in the traceback."""
    file, line = getattr(error, "filename", None), getattr(error, "lineno", None)
    if line is None:
        places = [
            (f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith(".html")
        ]
        file, line = places[-1] if places else (None, None)
    return f"{file or folder / page}, line {line or 1}: {error}"


# ---------------------------------------------------------------- filters


@pass_context
def _moment(context: Context, moment: float) -> Markup:
    """Formats a time in the site's zone; the page's script converts it to the reader's."""
    words = context["language"].time(moment, context["viewer"].now, context["zone"])
    return Markup('<time datetime="{}">{}</time>').format(iso(moment), words)


def _seats(pool: r.Pool) -> Sequence[tuple[float, float, bool]]:
    """Draws a pool 100 units wide: (left, width, is taken) for each CAL, or for two bars where there are many CALs."""
    taken = min(pool.occupied, pool.limit)
    if pool.limit > _SEATS_DRAWN:
        share = 100 * taken / pool.limit
        return [(0.0, share, True), (share, 100 - share, False)]
    step = 101 / pool.limit  # each CAL and the gap of 1 after it
    return [(round(seat * step, 2), round(step - 1, 2), seat < taken) for seat in range(pool.limit)]


def _url_name(link: str) -> Markup:
    """Writes a link as people read it: without its scheme, query and last slash."""
    return _breaks(re.sub(r"^(https?://|mailto:)|[?#].*$", "", link).rstrip("/"))


def _breaks(name: str) -> Markup:
    """Allows a line break after each part of a long name."""
    return Markup("<wbr>").join(re.split(r"(?<=[/\\_.@-])", name))


def _script(text: Markup) -> Markup:
    """Writes a translation as a string of JavaScript."""
    return htmlsafe_json_dumps(text.unescape())
