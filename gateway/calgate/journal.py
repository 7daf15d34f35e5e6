"""The log: one structured line a decision, as JSON or for a console. A reference number finds it.

A warm hit is no decision. Tokens, cookies, passwords and header bytes are never fields.
"""

import json
import logging
import secrets
import sys
import time
from typing import Literal

_DECISIONS = logging.getLogger("calgate.decision")
_ACCESS = logging.getLogger("calgate.access")
_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"  # nothing that is read wrongly over a telephone


def reference() -> str:
    """A number that a user can read to an administrator, who finds the decision by it: "7K3F-9Q2M"."""
    number = secrets.randbits(64)
    letters = ""
    for _ in range(8):
        number, place = divmod(number, len(_ALPHABET))
        letters += _ALPHABET[place]
    return f"{letters[:4]}-{letters[4:]}"


def record(event: str, **fields: object) -> None:
    """Writes a decision; fields that are None or empty are left out."""
    kept = {name: value for name, value in fields.items() if value is not None and value != ""}
    _DECISIONS.info(event, extra={"fields": kept})


def logs_access() -> bool:
    """Whether each request is written."""
    return _ACCESS.isEnabledFor(logging.INFO)


def record_access(**fields: object) -> None:
    """Writes one request."""
    _ACCESS.info("request", extra={"fields": fields})


class _Json(logging.Formatter):
    def format(self, entry: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _stamp(entry.created),
            "level": entry.levelname.lower(),
            "event": entry.getMessage(),
        }
        if entry.name != _DECISIONS.name:
            line["logger"] = entry.name
        line |= getattr(entry, "fields", {})
        if entry.exc_info:
            line["error"] = self.formatException(entry.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _Console(logging.Formatter):
    def format(self, entry: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={_word(value)}" for name, value in getattr(entry, "fields", {}).items())
        text = (
            f"{_stamp(entry.created)} {entry.levelname.lower():7} {entry.getMessage()}{' ' if fields else ''}{fields}"
        )
        return f"{text}\n{self.formatException(entry.exc_info)}" if entry.exc_info else text


def _word(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(c in text for c in ' "=') or not text.isprintable() else text


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"


def start(
    form: Literal["json", "console"], level: Literal["debug", "info", "warning"], *, access: bool = False
) -> None:
    """Sends everything to standard error. The libraries' own debug lines stay off: some of them hold tokens."""
    _ACCESS.setLevel(logging.INFO if access else logging.WARNING)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Console())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("calgate", "calgate_negotiate", "calgate_ldap", "calgate_users", "calgate_cal", "calgate_headers"):
        logging.getLogger(name).setLevel(level.upper())
    for name in ("aiohttp", "spnego", "ldap3", "redis", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
