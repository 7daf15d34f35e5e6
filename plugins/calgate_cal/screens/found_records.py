"""A record as the screen of denials finds it: the user, the document and the reason, and no more."""

import sys
from dataclasses import dataclass

from calgate.plugin import DENIAL_REASONS
from calgate_cal.audit import DENIALS, Record
from calgate_cal.names import fold_reference
from calgate_cal.reasons import WHY


@dataclass(frozen=True, slots=True)
class Entry:
    """A denial, or a record of the queue."""

    id: str
    at: float
    is_denial: bool
    user: str
    name: str
    reference: str  # folded
    document: str
    why: str

    def is_about(self, wanted: str) -> bool:
        """Returns whether a part of the user's name or key is this, which is folded."""
        return wanted in f"{self.name} {self.user}".casefold()

    def is_of(self, folded: frozenset[str]) -> bool:
        """Returns whether the user's name or key is one of these."""
        return self.name.casefold() in folded or self.user.casefold() in folded


def entry_of(record: Record) -> Entry:
    """Returns what is kept of a record."""
    return Entry(
        *(record.id, record.at, record.what in DENIALS, sys.intern(record["user"]), sys.intern(record["name"])),
        *(fold_reference(record["reference"]), sys.intern(record["document"]), sys.intern(why(record))),
    )


def why(record: Record) -> str:
    """Returns why a claim was denied, in words: the note of the pool that came nearest to giving a CAL."""
    code = record["code"]
    if code not in DENIAL_REASONS:
        notes = {str(pool["note"]) for pool in record.pools}
        code = next((reason for reason in DENIAL_REASONS if reason in notes), code or record.what)
    return WHY.get(code, code)
