"""Draws screens as HTML pages, in the look of the gateway's other pages."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from secrets import token_urlsafe

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from calgate.console.chart import draw, spark
from calgate.console.figures import plot, table
from calgate.console.static_files import STATIC
from calgate.endpoints import ADMIN
from calgate.plugin.screens import Link, Moment, Outcome, Screen, View, Visitor

_GROUPS = {"licenses": "Licenses", "people": "People", "site": "Site"}


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page needs to know of its visitor."""

    visitor: Visitor
    token: str
    host: str
    here: str  # path and query of the page
    can_prove: bool = False  # whether people must prove who they are before they take something away


@dataclass(frozen=True, slots=True)
class Question:
    """Whether to carry out a change that waited until its visitor had proved who they are."""

    screen: str  # its title
    action: str  # "holders/remove"
    values: Mapping[str, str]
    selected: Sequence[str]
    back: str
    ways: Sequence[tuple[str, str]]  # label and path of each way to prove it, while that is still to be done


class Pages:
    """Draws the pages of the console."""

    def __init__(self, screens: Sequence[Screen], static: Iterable[str], zone: tzinfo, zone_name: str) -> None:
        self._screens = screens
        self._static = list(static)  # names of the files that each page loads
        self._zone = zone
        self._zone_name = zone_name
        self._actions = {
            f"{screen.path}/{name}": action for screen in screens for name, action in screen.actions.items()
        }
        self._templates = Environment(
            loader=ChoiceLoader([PackageLoader("calgate.console"), PackageLoader("calgate.pages")]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            cell=self._cell,
            moment=lambda at: self._cell(Moment(at)),
            svg=lambda chart: draw(chart, zone),
            plot=lambda chart: plot(chart, zone_name),
            figures=lambda chart: table(chart, zone),
            spark=lambda bar: spark(bar.today, bar.limit),
        )
        self._templates.tests["a_part"] = lambda part, name: type(part).__name__ == name

    def draw(
        self,
        frame: Frame,
        screen: Screen | None,
        view: View,
        outcomes: Sequence[Outcome],
        question: Question | None = None,
    ) -> tuple[bytes, str]:
        """Returns the page, and its Content-Security-Policy."""
        nonce = token_urlsafe(12)
        text = self._templates.get_template("console.html").render(
            frame=frame,
            admin=ADMIN,
            screen=screen,
            view=view,
            outcomes=outcomes,
            menu=self._menu(frame.visitor),
            question=question,
            may=lambda action: action in self._actions and frame.visitor.may(self._actions[action].role),
            takes_away=lambda action: self._actions[action].takes_away,
            zone=self._zone_name,
            nonce=nonce,
            static=[f"{ADMIN}{STATIC}/{name}" for name in self._static],
        )
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src data:; "
            "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        return text.encode(), policy

    def _menu(self, visitor: Visitor) -> Mapping[str, Sequence[Screen]]:
        return {
            title: [one for one in self._screens if one.group == group and visitor.may(one.role)]
            for group, title in _GROUPS.items()
        }

    def _cell(self, value: object) -> object:
        if value is None:
            return ""
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, Link):
            return Markup('<a href="{}{}">{}</a>').format(ADMIN, value.to, value.text)
        if isinstance(value, Moment):
            at = datetime.fromtimestamp(value.at, UTC)
            local = at.astimezone(self._zone)
            return Markup('<time datetime="{}">{}</time>').format(
                at.isoformat(timespec="seconds"), local.strftime("%Y-%m-%d %H:%M")
            )
        return value
