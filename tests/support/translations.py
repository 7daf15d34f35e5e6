"""Finds the texts of pages, and brings the catalogues up to date with them: `make messages`."""

import sys
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import write_po

from calgate.pages.languages import OURS, read_catalogue

_ROOT = Path(__file__).parents[2]
_SOURCES = ("gateway/calgate", "plugins")
_METHODS = [("**.py", "python"), ("**/templates/**.html", "jinja2")]
_KEYWORDS = {"_": None, "mark_plural": (1, 2), "ngettext": (1, 2)}
_OPTIONS = {"**/templates/**.html": {"trimmed": "true"}}


def extract() -> Catalog:
    """Returns every text that is marked in the code and in the templates."""
    catalogue = Catalog(project="calgate")
    for source in _SOURCES:
        found = extract_from_dir(_ROOT / source, _METHODS, _OPTIONS, keywords=_KEYWORDS)
        for file, _line, message, _comments, context in sorted(found, key=lambda one: (one[0], one[1])):
            catalogue.add(message, locations=[(f"{source}/{file}", 1)], context=context)
    return catalogue


def update(file: Path) -> int:
    """Adds the texts that are new to a catalogue, and drops those that are gone; returns how many are missing."""
    template = extract()
    catalogue = read_catalogue(file)
    template.creation_date = catalogue.creation_date  # else every run would change the file
    catalogue.update(template, no_fuzzy_matching=True)
    catalogue.obsolete.clear()
    with file.open("wb") as stream:
        write_po(stream, catalogue, width=100, sort_by_file=True, include_lineno=False)
    return len(missing(catalogue))


def missing(catalogue: Catalog) -> list[str]:
    """Returns the texts that have no translation, or not one for each plural form."""
    return [str(message.id) for message in catalogue if message.id and not all(_strings(message))]


def _strings(message: Message) -> tuple[str, ...]:
    return (message.string,) if isinstance(message.string, str) else tuple(message.string or ("",))


if __name__ == "__main__":
    counts = {file.name: update(file) for file in sorted(OURS.glob("*.po"))}
    for name, count in counts.items():
        if count:
            print(f"{name}: {count} texts have no translation")
    sys.exit(any(counts.values()))
