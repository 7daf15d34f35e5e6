"""The common parts of all screens: the licenses, links, and pages of a table."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from urllib.parse import quote, urlencode

from calgate.plugin import ConsoleContext, Directory, Field, Inputs, Link, Services, Visitor
from calgate_cal.admin import AdminError, LicenseAdmin
from calgate_cal.screens.holder_index import HolderIndex
from calgate_cal.screens.peaks import Peaks
from calgate_cal.screens.record_book import RecordBook
from calgate_cal.settings import Config, License

ROWS = 50  # of a page


class Licenses:
    """The licenses of the settings file, each as an administrator or a looking visitor needs it."""

    def __init__(self, context: ConsoleContext) -> None:
        assert isinstance(context.section, Config)
        self._licenses: Mapping[str, License] = context.section.licenses
        self._services: Services = context.services
        self._indexes: dict[str, HolderIndex] = {}
        self._books: dict[str, RecordBook] = {}
        self._peaks: dict[str, Peaks] = {}

    @property
    def names(self) -> Sequence[str]:
        return sorted(self._licenses)

    @property
    def directory(self) -> Directory | None:
        return self._services.directory

    def client_of(self, name: str) -> str:
        """Returns what distinguishes two clients of one user, as the license's `client` says."""
        return self._licenses[name].client

    def chosen(self, inputs: Inputs) -> str:
        """Returns the license that the page is about: the one named, else the first."""
        name = inputs.get("license")
        return name if name in self._licenses else self.names[0]

    def admin(self, name: str, visitor: Visitor) -> LicenseAdmin:
        """Returns the license, with the visitor as the one who changes it. Raises AdminError for an unknown name."""
        if name not in self._licenses:
            raise AdminError(f"there is no license {name[:80]}")
        services = self._services
        return LicenseAdmin(
            *(name, self._licenses[name], services.store, services.directory, visitor.actor, services.site),
            reason=visitor.reason,
        )

    def field(self, inputs: Inputs) -> Sequence[Field]:
        """Returns the choice of a license, where there are several."""
        if len(self.names) == 1:
            return [Field("license", "", self.names[0], is_hidden=True)]
        return [Field("license", "License", self.chosen(inputs), [(name, name) for name in self.names])]

    def index(self, name: str) -> HolderIndex:
        """Returns the holders of a license, as this process keeps them."""
        if name not in self._indexes:
            self._indexes[name] = HolderIndex(self._reader(name))
        return self._indexes[name]

    def book(self, name: str) -> RecordBook:
        """Returns the records of a license, as this process keeps them."""
        if name not in self._books:
            self._books[name] = RecordBook(self._reader(name))
        return self._books[name]

    def peaks(self, name: str) -> Peaks:
        """Returns how many CALs of a license were in use in each hour, as this process keeps it."""
        return self._peaks.setdefault(name, Peaks())

    def _reader(self, name: str) -> LicenseAdmin:
        services = self._services
        return LicenseAdmin(*(name, self._licenses[name], services.store, services.directory, "console", services.site))


def midnight(zone: tzinfo) -> float:
    """Returns the Unix time at which today began."""
    return datetime.now(zone).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


def number(text: str) -> int:
    """Returns a number of a query, 0 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


def is_record_id(text: str) -> bool:
    """Returns whether a text of a query can be a record's id: two numbers of 64 bits."""
    return bool(re.fullmatch(r"\d{1,19}-\d{1,19}", text, re.ASCII))


def person(name: str, key: str = "") -> Link:
    """Leads to a user's own screen."""
    return Link(name or key, f"person?user={quote(name or key, safe='')}")


def page(screen: str, **values: str | int) -> str:
    """Returns path and query of a screen, without empty values."""
    return f"{screen}?{urlencode({name: value for name, value in values.items() if value not in ('', 0)})}"


def row_id(*parts: str) -> str:
    """Returns an id of a row from which `parts_of` reads the parts again."""
    return json.dumps(parts, ensure_ascii=False)


def parts_of(row: str, count: int) -> Sequence[str]:
    """Reads the id of a selected row. Raises AdminError for one that no page has."""
    try:
        parts = json.loads(row)
    except ValueError:
        parts = None
    if not isinstance(parts, list) or len(parts) != count or not all(isinstance(part, str) for part in parts):
        raise AdminError(f"no row has the id {row[:80]}")
    return parts
