"""The languages of the pages: which one a reader gets, its texts, and how it writes times and numbers.

Texts in the code and the templates are English, and the keys of the catalogues in `translations/`. An administrator's
folder of such files adds languages, and replaces single texts.
"""

import gettext
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_time, get_datetime_format, get_timezone_gmt, get_timezone_name
from babel.messages.catalog import Catalog, TranslationError
from babel.messages.checkers import python_format
from babel.messages.mofile import write_mo
from babel.messages.pofile import PoFileError, read_po
from babel.numbers import format_decimal

OURS = Path(__file__).parent / "translations"
_FORMATS = {"en": "en-GB", "en-us": "en-US", "pt": "pt-PT"}  # whose times and numbers; elsewhere those of the language
_MOST_RANGES = 20  # of one Accept-Language header; browsers send five or so
_LONGEST_HEADER = 1000
_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")  # RFC 9110, 12.4.2: no nan, which would upset the order


def mark_plural(one: str, many: str) -> tuple[str, str]:
    """Marks a text that depends on a number."""
    return one, many


@dataclass(frozen=True, slots=True)
class Language:
    """One language: its texts, times and numbers."""

    tag: str  # BCP 47, as in the attribute `lang`
    locale: Locale
    catalogue: gettext.NullTranslations

    def text(self, text: str, **values: object) -> str:
        """Returns the translation, with its values; English if there is none."""
        found = self.catalogue.gettext(text) if text else ""  # a catalogue's translation of "" is its header
        return found % values if values else found

    def plural(self, one: str, many: str, number: int, **values: object) -> str:
        """Returns the translation for a number, which is its value `num`."""
        return self.catalogue.ngettext(one, many, number) % {"num": self.number(number), **values}

    def number(self, number: int) -> str:
        return format_decimal(number, locale=self.locale)

    def time(self, moment: float, now: float, zone: ZoneInfo) -> str:
        """Formats a time, rounded up to the second, with the name of the zone, and the day if that is not today."""
        local = datetime.fromtimestamp(math.ceil(moment), zone)
        words = format_time(local, "short", tzinfo=zone, locale=self.locale)
        if local.date() != datetime.fromtimestamp(now, zone).date():
            joined = str(get_datetime_format("medium", locale=self.locale)).replace("'", "")
            words = joined.replace("{0}", words).replace("{1}", format_date(local, "full", locale=self.locale))
        name = get_timezone_name(local, "short", locale=self.locale)
        if not name.isalpha():  # "+0100" is hard to tell from a part of the time
            name = get_timezone_gmt(local, "long", locale=self.locale)
        return f"{words} {name}"

    @property
    def direction(self) -> str:
        return "rtl" if self.locale.character_order == "right-to-left" else "ltr"


ENGLISH = Language("en", Locale.parse("en_GB"), gettext.NullTranslations())


class Languages:
    """The languages of a site; each catalogue is read when the first reader needs it (about 20 ms), and kept."""

    def __init__(self, default: str = "en", folder: Path | None = None) -> None:
        """Raises ValueError if the folder cannot be read, or has no file for the default."""
        self._files = _files(folder)
        self._tags = {"en": "en", "en-us": "en-US", **{tag.lower(): tag for tag in self._files}}
        self._languages: dict[str, Language] = {} if "en" in self._files else {"en": ENGLISH}
        self._default = default.replace("_", "-").lower()
        if self._default not in self._tags:
            raise ValueError(
                f'language: there are no texts in "{default}"; there are {", ".join(sorted(self._tags.values()))}, '
                "and a file in the folder `languages` adds one"
            )

    def choose(self, accept_language: str) -> Language:
        """Returns the reader's language by Accept-Language (RFC 9110, 12.5.4; lookup of RFC 4647, 3.4)."""
        ranges, refused = _ranges(accept_language)
        for wanted in ranges:
            if wanted == "*":
                break
            while wanted:
                if wanted in self._tags and wanted not in refused:
                    return self._language(wanted)
                wanted = wanted.rpartition("-")[0]
        return self._language("en" if self._default in refused and "en" not in refused else self._default)

    def every(self) -> Iterator[Language]:
        """Yields each language. Raises ValueError with the file of one that cannot be used."""
        for tag in sorted(self._tags):
            yield self._language(tag)

    def _language(self, tag: str) -> Language:
        language = self._languages.get(tag)
        if language is None:
            language = self._languages[tag] = self._read(self._tags[tag])
        return language

    def _read(self, tag: str) -> Language:
        catalogue = gettext.NullTranslations()
        for name in dict.fromkeys((tag.partition("-")[0], tag)):
            for file in self._files.get(name, ()):
                newer = _read(file)
                newer.add_fallback(catalogue)
                catalogue = newer
        try:
            locale = Locale.parse(_FORMATS.get(tag.lower(), tag), sep="-")
        except (UnknownLocaleError, ValueError) as error:
            raise ValueError(
                f'{self._files[tag][-1]}: "{tag}" is no language; name the file like "fi.po" or "pt-BR.po"'
            ) from error
        return Language(tag, locale, catalogue)


def _files(folder: Path | None) -> Mapping[str, list[Path]]:
    """Returns the files of each language: ours, and the administrator's, whose texts go before ours."""
    files = {file.stem: [file] for file in sorted(OURS.glob("*.po"))}
    if folder is not None:
        if not folder.is_dir():
            raise ValueError(f"languages: {folder} is not a folder")
        for file in sorted(folder.glob("*.po")):
            files.setdefault(file.stem.replace("_", "-"), []).append(file)
    return files


def read_catalogue(file: Path) -> Catalog:
    """Reads a .po file. Raises ValueError with its place where a text cannot be used."""
    try:
        with file.open("rb") as stream:
            catalogue = read_po(stream, abort_invalid=True)
    except (OSError, PoFileError, ValueError) as error:
        raise ValueError(f"{file}: cannot be read: {error}") from error
    for message in catalogue:
        if message.id and message.python_format:
            try:
                python_format(catalogue, message)
            except TranslationError as error:
                raise ValueError(f"{file}, line {message.lineno}: {error}") from error
    return catalogue


def _read(file: Path) -> gettext.NullTranslations:
    compiled = BytesIO()
    write_mo(compiled, read_catalogue(file))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def _ranges(header: str) -> tuple[list[str], frozenset[str]]:
    """Returns the language ranges of an Accept-Language header, the reader's favorite first, and those with q=0."""
    weighted = []
    for part in header[:_LONGEST_HEADER].lower().split(",")[:_MOST_RANGES]:
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weight = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
        if _WEIGHT.fullmatch(weight):
            weighted.append((float(weight), name))
    ranges = [name for weight, name in sorted(weighted, key=lambda one: -one[0]) if weight > 0]
    return ranges, frozenset(name for weight, name in weighted if weight == 0)
