"""Screens and outcomes as JSON: the same data that the pages show."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass

from calgate.plugin.screens import Form, Link, Moment, Outcome, Screen, Search, Table, View


def view_as_json(screen: Screen, view: View, token: str) -> dict[str, object]:
    """Returns a screen's data, without what only a page needs; `token` is what a change in this session must carry."""
    parts = [_part(part) for part in view.parts if not isinstance(part, Search | Form)]
    return {"screen": screen.path, "title": screen.title, "parts": parts, "token": token}


def outcomes_as_json(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Returns what became of each part of an action."""
    return {"outcomes": [{"text": one.text, "done": one.is_done} for one in outcomes]}


def cell(value: object) -> object:
    """Returns a cell as a plain value: a Unix time of a Moment, the text of a Link."""
    if isinstance(value, Moment):
        return value.at
    return value.text if isinstance(value, Link) else value


def _part(part: object) -> dict[str, object]:
    made: dict[str, object] = {"kind": type(part).__name__.lower()}
    if isinstance(part, Table):
        rows = [{key: cell(value) for key, value in row.items()} for row in part.rows]
        return made | {"title": part.title, "rows": rows, "earlier": part.earlier, "later": part.later}
    assert is_dataclass(part)
    return made | {field.name: _plain(getattr(part, field.name)) for field in fields(part)}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, Moment | Link | type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return cell(value)
