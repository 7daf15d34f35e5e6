"""An export of a license's permanent state, validated before any of it is put back."""

import re
from collections.abc import Mapping, Sequence

from calgate_cal import lua

VERSIONS = ("calgate_cal_v1", "calgate_cal_v2", lua.VERSION)
"""Versions of the functions whose exports can be read."""

Leases = Sequence[Mapping[str, object]]

_SETTINGS = (
    (re.compile(r"limit:(named|document|session|usage)"), re.compile(r"[0-9]{1,7}")),
    (re.compile(r"allocated:.+", re.DOTALL), re.compile(r"[0-9]{1,7}")),
    (re.compile(r"dynamic:(named|document)"), re.compile(r"[01]")),
    (re.compile(r"dynamic:document:.+", re.DOTALL), re.compile(r"[01]")),
)
_TEXTS = ("id", "field", "kind", "user", "name", "client", "document", "by", "visiting")
_TIMES = ("granted", "removed", "left", "last_used")
_LISTS = ("pending", "told", "groups", "names")
_FLAGS = ("refused",)
_NEEDED = ("id", "field", "kind", "user", "name", "granted")


def read(saved: Mapping[str, object]) -> tuple[Mapping[str, str], Leases]:
    """Returns settings and leases of an export. Raises ValueError with what cannot be read."""
    if saved.get("version") not in VERSIONS:
        raise ValueError(f"this is not an export of {lua.VERSION}")
    settings, leases = saved.get("settings"), saved.get("leases")
    if not isinstance(settings, dict) or not isinstance(leases, list):
        raise ValueError(f"this is not an export of {lua.VERSION}")
    for name, value in settings.items():
        if not _is_setting(name, value):
            raise ValueError(f"a setting of the export cannot be read: {name} = {value}")
    for number, lease in enumerate(leases, 1):
        if not isinstance(lease, dict) or not _is_lease(lease):
            raise ValueError(f"a CAL of the export cannot be read, number {number}")
    fields = [lease["field"] for lease in leases]
    if len(set(fields)) < len(fields):
        raise ValueError("the export has a CAL twice")
    return settings, leases


def _is_setting(name: object, value: object) -> bool:
    if not isinstance(name, str) or not isinstance(value, str):
        return False
    return any(names.fullmatch(name) and values.fullmatch(value) for names, values in _SETTINGS)


def _is_lease(lease: Mapping[str, object]) -> bool:
    return (
        set(_NEEDED) <= set(lease) <= {*_TEXTS, *_TIMES, *_LISTS, *_FLAGS, "visits"}
        and all(isinstance(lease[name], str) for name in _TEXTS if name in lease)
        and all(_is_time(lease[name]) for name in _TIMES if name in lease)
        and all(_are_texts(lease[name]) for name in _LISTS if name in lease)
        and all(lease[name] is True for name in _FLAGS if name in lease)
        and _are_visits(lease.get("visits", []), lease.get("visiting"))
        and re.fullmatch(r"[0-9]{1,15}-[0-9]{1,15}", str(lease["id"])) is not None
        and lease["field"] in _fields(lease)
    )


def _fields(lease: Mapping[str, object]) -> Sequence[str]:
    """Returns the fields that a lease of its kind can have (lua/leases.lua)."""
    user, document = lease["user"], lease.get("document")
    match lease["kind"]:
        case "named":
            return (f"named|{user}",)
        case "document" if document:
            return (f"document|{user}|{document}",)
        case "usage" if document:
            return (f"usage|{user}|{document}", f"spent|{lease['id']}")
    return ()


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < lua.FOREVER


def _are_texts(value: object) -> bool:
    """Returns whether this is a list of texts; Lua writes an empty list as an empty object."""
    return value == {} or (isinstance(value, list) and all(isinstance(text, str) for text in value))


def _are_visits(value: object, visiting: object) -> bool:
    if not isinstance(value, list) or not all(_is_visit(visit) for visit in value):
        return False
    return visiting is None or (bool(value) and value[0]["client"] == visiting)


def _is_visit(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"client", "since", "used"}
        and isinstance(value["client"], str)
        and _is_time(value["since"])
        and _is_time(value["used"])
    )
