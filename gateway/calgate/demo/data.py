"""The numbers in the demonstration's documents, and a user's selections in one of them."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from secrets import token_hex

_SESSIONS_KEPT = 500


@dataclass(frozen=True, slots=True)
class Document:
    """A document: a title, what its numbers are, and two fields to select by."""

    name: str
    title: str
    blurb: str
    unit: str
    fields: Mapping[str, Sequence[str]]  # the chart shows the first; the others only filter

    def figures(self, selected: Mapping[str, str]) -> Sequence[tuple[str, int]]:
        """Returns the bars: a number for each value of the first field, filtered by the selections in the others."""
        first, *others = self.fields
        combinations: list[tuple[str, ...]] = [()]
        for name in others:
            values = [selected[name]] if name in selected else self.fields[name]
            combinations = [(*before, value) for before in combinations for value in values]
        return [(value, sum(_figure(self.name, value, *rest) for rest in combinations)) for value in self.fields[first]]


_QUARTERS = ("Q1", "Q2", "Q3", "Q4")
DOCUMENTS = {
    document.name.casefold(): document
    for document in (
        Document(
            "Sales.qvw",
            "Sales",
            "Revenue by region and quarter",
            "k€",
            {"Region": ("Americas", "Asia", "Europe", "Nordics", "Oceania"), "Quarter": _QUARTERS},
        ),
        Document(
            "Finance.qvw",
            "Finance",
            "Cost by department and quarter",
            "k€",
            {"Department": ("IT", "Logistics", "Marketing", "Research"), "Quarter": _QUARTERS},
        ),
        Document(
            "Production.qvw",
            "Production",
            "Units by plant and line",
            "units",
            {"Plant": ("Brno", "Gothenburg", "Lyon", "Porto", "Turin"), "Line": ("A", "B", "C")},
        ),
        Document(
            "HR/Headcount.qvw",
            "Headcount",
            "People by site and contract",
            "people",
            {"Site": ("Berlin", "Lisbon", "Lund", "Vienna"), "Contract": ("Permanent", "Fixed term", "Trainee")},
        ),
    )
}


def _figure(*key: str) -> int:
    """Returns a number between 20 and 119, always the same for the same key."""
    total = 0
    for character in "|".join(key):
        total = (total * 31 + ord(character)) % 1_000_003
    return 20 + total % 100


@dataclass(slots=True)
class Sitting:
    """One user's visit to one document, identified by its mark."""

    document: Document
    mark: str = field(default_factory=lambda: token_hex(8))
    selected: dict[str, str] = field(default_factory=dict)

    def select(self, name: str, value: str) -> None:
        """Selects a value, or clears the selection if it is selected already."""
        if value in self.document.fields.get(name, ()):
            if self.selected.get(name) == value:
                del self.selected[name]
            else:
                self.selected[name] = value


class Sittings:
    """The latest sittings; the page of a forgotten sitting must open the document again."""

    def __init__(self) -> None:
        self._by_mark: OrderedDict[str, Sitting] = OrderedDict()

    def open(self, document: Document) -> Sitting:
        sitting = Sitting(document)
        self._by_mark[sitting.mark] = sitting
        while len(self._by_mark) > _SESSIONS_KEPT:
            self._by_mark.popitem(last=False)
        return sitting

    def find(self, mark: str) -> Sitting | None:
        return self._by_mark.get(mark)
