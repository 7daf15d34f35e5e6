"""Reads what a visitor sent: the query of a screen, and the fields of a page's form or of a program's JSON."""

import json
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, parse_qsl

from aiohttp import web

_LARGEST = 2 << 20  # bytes of a body
MOST_IN_QUERY, _MOST_IN_FORM = 100, 10_000  # fields


def read_query(request: web.BaseRequest) -> dict[str, str]:
    """Returns the query's values. Raises ValueError.

    aiohttp's own `query_string` is decoded already: decoded again, the user `100%41` would be the user `100A`.
    """
    return dict(parse_qsl(request.rel_url.raw_query_string, max_num_fields=MOST_IN_QUERY))


async def read_form(request: web.BaseRequest) -> tuple[Mapping[str, str], Sequence[str]]:
    """Returns the fields, and the selected rows. Raises ValueError."""
    body = await request.content.read(_LARGEST + 1)
    while len(body) <= _LARGEST and (more := await request.content.read(_LARGEST)):
        body += more
    if len(body) > _LARGEST:
        raise ValueError(f"it has more than {_LARGEST} bytes")
    if request.content_type == "application/json":
        return _read_json(body)
    fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MOST_IN_FORM)
    return {name: values[-1] for name, values in fields.items()}, fields.get("row", [])


def _read_json(body: bytes) -> tuple[Mapping[str, str], Sequence[str]]:
    try:
        found = json.loads(body or b"{}")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("an object is expected")
    rows = found.pop("row", None)
    listed = rows if isinstance(rows, list) else [] if rows is None else [rows]
    fields = {_text("a name", name): _text(name, value) for name, value in found.items() if value is not None}
    return fields, [_text("row", row) for row in listed]


def _text(name: str, value: object) -> str:
    """Returns a value as a form of a page would send it; null is dropped before, like an empty field."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{name[:80]!r} is neither text nor a number")
    text = str(value)
    text.encode()  # half a surrogate pair is no text: nothing could store it
    return text
