"""How a site's pages look: the company's name, logo and color; and the link by which readers ask for access."""

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from calgate.pages.colors import variables
from calgate.pages.languages import Language
from calgate.pages.settings import ASK_FIELDS, PagesSection
from calgate.plugin.errors import Forbidden, Refusal
from calgate.plugin.licensing import NoCal
from calgate.plugin.texts import mark as _

_TYPES = {".png": "image/png", ".svg": "image/svg+xml", ".webp": "image/webp"}
_BEGINS = {
    ".png": rb"\x89PNG\r\n\x1a\n",
    ".svg": rb"(?s)(\xef\xbb\xbf)?\s*<(.*<)?(\w+:)?svg[\s/>]",
    ".webp": rb"(?s)RIFF....WEBP",
}
_LARGEST_LOGO = 64 * 1024  # it is sent with every page
_LONGEST = 500  # characters of a value in a link; mail programs take 2000 in all


@dataclass(frozen=True, slots=True)
class Look:
    """What every page shows of the site."""

    company: str
    logo: str  # a data: URL; "": none
    light: str  # variables of the style sheet
    dark: str
    help_link: str

    @classmethod
    def read(cls, settings: PagesSection) -> "Look":
        """Raises ValueError naming the setting that cannot be used."""
        try:
            light, dark = variables(settings.color) if settings.color else ("", "")
        except ValueError as error:
            raise ValueError(f"color: {error}") from error
        logo = _read_logo(settings.logo) if settings.logo is not None else ""
        return cls(settings.company, logo, light, dark, settings.help_link)


def ask_link(template: str, contact: str, refusal: object, values: Mapping[str, str], language: Language) -> str:
    """Returns the link by which the reader asks for what was refused; "" if there is none, or nobody to ask."""
    if not isinstance(refusal, Refusal) or not (
        isinstance(refusal, Forbidden) or (isinstance(refusal, NoCal) and refusal.code == "no-cal")
    ):
        return ""
    if template:
        quoted = {name: quote(values[name][:_LONGEST], safe="") for name in ASK_FIELDS}
        return re.sub(r"\{(\w+)\}", lambda field: quoted[field[1]], template)
    if not re.fullmatch(r"[^\s@?&/:]+@[^\s@?&/:]+", contact):
        return ""
    for_license = isinstance(refusal, NoCal)
    subject = _("License for %(address)s") if for_license else _("Access to %(address)s")
    need = _("I need a license for %(address)s.") if for_license else _("I need access to %(address)s.")
    address = values["address"][:_LONGEST]
    body = "\r\n".join(
        (
            language.text(need, address=address),
            "",
            f"{language.text(_('User'))}: {values['user']}",
            f"{language.text(_('Reference'))}: {values['reference']}",
        )
    )
    return f"mailto:{contact}?subject={quote(language.text(subject, address=address))}&body={quote(body)}"


def _read_logo(file: Path) -> str:
    kind = _TYPES.get(file.suffix.lower())
    if kind is None:
        raise ValueError(f"logo: {file} is no PNG, SVG or WebP file; its name must end in one of {', '.join(_TYPES)}")
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST_LOGO + 1)
    except OSError as error:
        raise ValueError(f"logo: {file} cannot be read: {error.strerror}") from error
    if len(content) > _LARGEST_LOGO:
        raise ValueError(f"logo: {file} is larger than 64 KB, and it is sent with every page; make it smaller")
    if not re.match(_BEGINS[file.suffix.lower()], content):
        raise ValueError(f"logo: {file} is no {file.suffix[1:].upper()} picture, whatever its name; convert the file")
    return f"data:{kind};base64,{b64encode(content).decode()}"
