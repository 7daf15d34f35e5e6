"""`[pages]`: templates, languages, how the pages look, and whom readers can ask."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from calgate.plugin.settings import Section

ASK_FIELDS = ("address", "document", "user", "reference")


def _link(value: str) -> str:
    if value and not re.match(r"(https?://[^/\s]|mailto:\S+@)", value):
        raise ValueError(f'a link begins with "https://", "http://" or "mailto:", not {value!r}')
    return value


def _ask_link(value: str) -> str:
    for name in re.findall(r"\{([^{}]*)\}", _link(value)):
        if name not in ASK_FIELDS:
            raise ValueError(f'there is no field "{name}"; there are {", ".join(ASK_FIELDS)}')
    return value


class PagesSection(Section):
    """`[pages]`: how the gateway's own pages look."""

    templates: Path | None = None
    """A folder with templates of your own; calgate's are used for the pages that have none there."""
    contact: str = ""
    """The contact shown where a license names none: an address or a sentence."""
    language: str = "en"
    """The language of readers whose browser asks for none that the pages have, such as "de"."""
    languages: Path | None = None
    """A folder with texts of your own, one file for each language, such as "fi.po": they add a language, or replace
    single texts."""
    company: str = ""
    """The name at the top of every page; without it, the host that the browser asked for."""
    logo: Path | None = None
    """A picture before the name: a PNG, SVG or WebP file of at most 64 KB. It becomes a part of each page."""
    color: str = ""
    """The color of links and buttons, such as "#0f6b5c"; it must be dark enough for text on white."""
    help_link: Annotated[str, AfterValidator(_link)] = ""
    """A page with help, linked from every page."""
    ask_link: Annotated[str, AfterValidator(_ask_link)] = ""
    """Where people ask for access or a license, with {address}, {document}, {user} and {reference} filled in, such as
    "https://tickets.corp.example/new?text={address}+{user}+{reference}". Without it, and with a mail address as the
    contact, the link begins a mail."""
