"""The log: one structured line for each decision, as JSON or for a console. A reference number finds it.

A request on a cached decision makes no line. Tokens, cookies, passwords and header bytes are never fields.
"""

import json
import logging
import re
import secrets
import sys
import time
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Literal

_LONGEST = 2_000  # characters of a field or message: strangers choose some of them
_HIDDEN = re.compile(
    # C0 and C1 controls, marks and overrides of direction, separators of lines, surrogates: what a terminal or a viewer
    # would act on instead of showing it
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb\\ud800-\\udfff\\U000e0000-\\U000e007f]"
)
_encode_json = json.JSONEncoder(ensure_ascii=False, default=str).encode
_DECISIONS = logging.getLogger("calgate.decision")
_ACCESS = "calgate.access"  # the logger in its lines
_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"  # no characters that are confused over a telephone


def reference() -> str:
    """Returns a number such as "7K3F-9Q2M", which a user reads to an administrator who finds the decision by it."""
    number = secrets.randbits(64)
    letters = ""
    for _ in range(8):
        number, index = divmod(number, len(_ALPHABET))
        letters += _ALPHABET[index]
    return f"{letters[:4]}-{letters[4:]}"


def shown(text: str) -> str:
    """Escapes the characters that a terminal or a viewer would act on, and cuts a text that is too long for a line."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}… ({len(text)} characters)"
    return _HIDDEN.sub(_escape, text) if not text.isprintable() else text


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _encode(line: Mapping[str, object]) -> str:
    """One line of JSON; JSON itself only escapes C0 controls, and so leaves others to the viewer."""
    text = _encode_json(line)
    if len(text) > _LONGEST:  # so may be one of its fields
        text = _encode_json({name: _cut(value) for name, value in line.items()})
    return text if text.isprintable() else _HIDDEN.sub(_escape_json, text)


def _escape_json(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]


def _cut(value: object) -> object:
    if isinstance(value, str) and len(value) > _LONGEST:
        return f"{value[:_LONGEST]}… ({len(value)} characters)"
    return value


def decision(event: str, **fields: object) -> None:
    """Writes a decision, without the fields that are None or empty."""
    kept = {name: value for name, value in fields.items() if value is not None and value != ""}
    _DECISIONS.info(event, extra={"fields": kept})


def logs_access() -> bool:
    """Whether each request is logged."""
    return _access is not None


def access(**fields: object) -> None:
    """Writes one request, not through `logging`: its search for the caller costs as much as a request."""
    if _access is not None:
        sys.stderr.write(_access(time.time(), fields) + "\n")


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
        text = _encode(line)
        if entry.exc_info:  # a traceback is as long as it is
            error = _HIDDEN.sub(_escape_json, _encode_json(self.formatException(entry.exc_info)))
            text = f'{text[:-1]}, "error": {error}}}'
        return text


class _Console(logging.Formatter):
    def format(self, entry: logging.LogRecord) -> str:
        fields = _words(getattr(entry, "fields", {}))
        message = shown(entry.getMessage())
        text = f"{_stamp(entry.created)} {entry.levelname.lower():7} {message}{' ' if fields else ''}{fields}"
        if entry.exc_info:
            text = "\n".join([text, *map(shown, self.formatException(entry.exc_info).splitlines())])
        return text


def _words(fields: Mapping[str, object]) -> str:
    return " ".join(f"{name}={_word(value)}" for name, value in fields.items())


def _word(value: object) -> str:
    text = str(value)
    if text.isprintable() and len(text) <= _LONGEST and not any(c in text for c in ' "='):
        return text
    return json.dumps(shown(text), ensure_ascii=False).replace("\\\\u", "\\u").replace("\\\\U", "\\U")


def _stamp(seconds: float) -> str:
    return f"{_stamp_of_second(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"


@lru_cache(2)
def _stamp_of_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _access_as_json(now: float, fields: Mapping[str, object]) -> str:
    return _encode({"time": _stamp(now), "level": "info", "event": "request", "logger": _ACCESS, **fields})


def _access_for_console(now: float, fields: Mapping[str, object]) -> str:
    return f"{_stamp(now)} info    request {_words(fields)}"


_access: Callable[[float, Mapping[str, object]], str] | None = None  # formats a request; None: requests are not logged


def start(
    form: Literal["json", "console"],
    level: Literal["debug", "info", "warning"],
    packages: Collection[str] = (),
    *,
    access: bool = False,
) -> None:
    """Sends the log to standard error. `packages`: those of the plugins in use; the core and they log from `level` on.

    Libraries log from "warning" on, whatever the level: debug lines of some of them hold tokens.
    """
    global _access
    _access = (_access_as_json if form == "json" else _access_for_console) if access else None
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Console())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("calgate", *packages):
        logging.getLogger(name).setLevel(level.upper())
    for name in ("aiohttp", "spnego", "ldap3", "redis", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
