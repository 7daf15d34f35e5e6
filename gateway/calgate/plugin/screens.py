"""Screens of the administrators' console, as data.

The core draws them as pages and returns the same data as JSON to programs, so a plugin writes no HTML.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from calgate.plugin.services import Services

ConsoleRole = Literal["reader", "helpdesk", "admin"]
"""Each role may do all that the roles before it may."""

ROLES: Sequence[ConsoleRole] = ("reader", "helpdesk", "admin")


@dataclass(frozen=True, slots=True)
class Moment:
    """A Unix time; pages show it in the site's time zone."""

    at: float


@dataclass(frozen=True, slots=True)
class Link:
    """A text that leads to another screen; `to` is path and query below the console's own path."""

    text: str | int
    to: str


Cell = str | int | float | bool | Moment | Link | None
"""The value of a table's cell or of a fact."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; rows have its cell under `key`."""

    key: str
    title: str
    is_number: bool = False
    is_short: bool = False  # a code that is never broken into two lines


@dataclass(frozen=True, slots=True)
class Field:
    """An input of a form. One with `choices` is a list to choose from: (value, text)."""

    name: str
    label: str
    value: str = ""
    choices: Sequence[tuple[str, str]] = ()
    hint: str = ""
    is_hidden: bool = False


@dataclass(frozen=True, slots=True)
class Button:
    """Sends the selected rows of a table to an action ("holders/remove"); shown to those who may carry it out."""

    action: str
    label: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table. With `buttons`, rows can be selected by their cell "id"."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Cell]]
    buttons: Sequence[Button] = ()
    empty: str = "Nothing to show."
    earlier: str = ""  # path and query of the page before, "" for none
    later: str = ""  # of the page after
    csv: str = ""  # of the whole table as CSV
    fields: Sequence[Field] = ()  # sent together with the selected rows


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values."""

    title: str
    values: Mapping[str, Cell]


@dataclass(frozen=True, slots=True)
class Bar:
    """How much of something is in use."""

    label: str
    used: int
    limit: int
    note: str = ""
    next_at: float | None = None  # when the next one can come free
    today: Sequence[int] = ()  # the most in use in each hour since midnight, drawn as a small line


@dataclass(frozen=True, slots=True)
class Bars:
    """A card of bars."""

    title: str
    bars: Sequence[Bar]
    facts: Mapping[str, Cell] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """A limit, and since when it was in force (Unix time)."""

    at: float
    limit: int


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart: a value an hour."""

    label: str
    values: Sequence[int]
    limit: int | None = None  # in force now
    limit_steps: Sequence[Step] = ()  # each change of the limit; the first is in force where the chart begins


@dataclass(frozen=True, slots=True)
class Chart:
    """Values over time, one an hour from `begin` (Unix time)."""

    title: str
    begin: float
    series: Sequence[Series]
    marks: Series | None = None  # drawn as points where it is not 0, on a scale of its own


@dataclass(frozen=True, slots=True)
class Curve:
    """How one number depends on another, such as denials on the number of CALs."""

    title: str
    across: str  # what is chosen
    up: str  # what follows from it
    points: Sequence[tuple[int, int]]  # in ascending order of what is chosen
    now: int | None = None  # what is chosen at present


@dataclass(frozen=True, slots=True)
class Search:
    """A form that shows the same screen for other values."""

    fields: Sequence[Field]
    label: str = "Show"


@dataclass(frozen=True, slots=True)
class Form:
    """A form that carries out an action ("holders/assign"); shown to those who may."""

    title: str
    action: str
    label: str
    fields: Sequence[Field]
    asks_reason: bool = True


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence about the state of something."""

    text: str
    level: Literal["ok", "note", "warn", "fail"] = "note"


Part = Table | Facts | Bars | Chart | Curve | Search | Form | Notice
"""One of the parts that a screen consists of, from top to bottom."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The user whom a screen is about: the directory's, or, where it knows nobody, the name as it was written."""

    name: str  # CORP\\alice
    key: str  # `Person.key`, which a new name does not change

    def has(self, *names: str) -> bool:
        """Returns whether one of these is the user's name or key, in any case."""
        own = self.folded
        return any(name.casefold() in own for name in names)

    @property
    def folded(self) -> frozenset[str]:
        """Name and key as `has` compares them, for those who look through many."""
        return frozenset((self.name.casefold(), self.key.casefold()))


@dataclass(frozen=True, slots=True)
class View:
    """The present content of a screen."""

    parts: Sequence[Part]
    is_live: bool = False  # the page refreshes itself; so does a user's own screen with a part that is live
    is_partial: bool = False  # something is still being read: the page says so, and programs get 503
    about: Subject | None = None  # the parts of other screens about this user follow below it


@dataclass(frozen=True, slots=True)
class Visitor:
    """An administrator, as the gateway has signed them in for this request."""

    name: str  # CORP\\adm.smith
    key: str
    role: ConsoleRole
    address: str
    reason: str = ""  # why they make this change, in their words; optional

    def may(self, role: ConsoleRole) -> bool:
        """Returns whether their role is this one, or a higher one."""
        return ROLES.index(self.role) >= ROLES.index(role)

    @property
    def actor(self) -> str:
        """Who did it, for records: CORP\\adm.smith (console, 10.1.2.3)."""
        return f"{self.name} (console, {self.address})"


@dataclass(frozen=True, slots=True)
class Inputs:
    """The values that the visitor sent: the query of a page, or the fields of a form."""

    values: Mapping[str, str]
    selected: Sequence[str] = ()  # the ids of the selected rows

    def get(self, name: str) -> str:
        """Returns a value without blanks around it; "" for none."""
        return self.values.get(name, "").strip()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one part of an action."""

    text: str
    is_done: bool = True


@dataclass(frozen=True, slots=True)
class Action:
    """A change that a role may make. It returns an outcome for each thing changed, and raises Refusal."""

    role: ConsoleRole
    run: Callable[[Visitor, Inputs], Awaitable[Sequence[Outcome]]]
    takes_away: bool = True
    """Whether it takes something away from somebody; an action that does not say counts as one that does.

    The page then asks once more, people prove again who they are where the site can ask for that, and API tokens need
    --may-remove.
    """


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session, for a column that a plugin adds to the screen of the sessions."""

    key: str  # `Person.key`
    name: str  # CORP\\alice
    clients: Mapping[str, str]  # "address", "browser", "user" -> `Claimant.client` by a license that counts clients so


@dataclass(frozen=True, slots=True)
class SessionColumn:
    """A column that a plugin adds to the screen of the sessions."""

    column: Column
    show: Callable[[Visitor, Sequence[SignedIn]], Awaitable[Sequence[Cell] | None]]
    """Returns a cell for each session, in order; None while something is still being read. Raises Refusal."""


@dataclass(frozen=True, slots=True)
class Screen:
    """A screen, at `path` below the console's own path."""

    path: str
    title: str
    show: Callable[[Visitor, Inputs], Awaitable[View]]
    actions: Mapping[str, Action] = field(default_factory=dict)
    role: ConsoleRole = "reader"
    group: Literal["licenses", "people", "site"] = "licenses"
    order: int = 50  # lower comes first in its group; the first screen of all is the overview
    about_user: Callable[[Visitor, Subject], Awaitable[View]] | None = None  # its share of a user's own screen
    on_overview: Callable[[Visitor], Awaitable[Sequence[Part]]] | None = None  # faults to show on the first screen
    summary: Callable[[Visitor], Awaitable[Mapping[str, Cell]]] | None = None  # names and values for the first screen
    on_sessions: SessionColumn | None = None  # for those who may look at this screen


@dataclass(frozen=True, slots=True)
class ConsoleContext:
    """The context of a plugin's screens."""

    section: Any  # the plugin's section of the settings file
    services: Services
