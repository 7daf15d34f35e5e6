"""Reads the fields of a form in a request's body, like servers that merge query and form for a program. Pure."""

import re
from collections.abc import Sequence
from urllib.parse import quote_from_bytes

from calgate.dialect.content_type import charset_of
from calgate.plugin.errors import BadRequest

_URLENCODED = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
_BOUNDARY = re.compile(r'[^;]*;\s*boundary=(?:"([^"\\]{1,70})"|([^\s;",]{1,70}))\s*', re.IGNORECASE)
_DISPOSITION = re.compile(rb"^content-disposition:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_NAME = re.compile(rb';[ \t]*name=(?:"([^"\\\r\n]*)"|([^\s;",]+))', re.IGNORECASE)


def is_form(content_type: str) -> bool:
    """Returns whether a server might read the body as a form: some look only at the beginning of the header."""
    return _URLENCODED in content_type.lower() or _MULTIPART in content_type.lower()


def form_as_query(body: bytes, content_type: str) -> str:
    """Returns the fields of a form, written as a query. Raises BadRequest for a form that can be read in two ways."""
    if charset_of(content_type) not in ("", "utf-8", "us-ascii"):
        raise BadRequest("the form is not in UTF-8")
    media_type = content_type.partition(";")[0].strip(" \t").lower()
    if media_type == _MULTIPART:
        return "&".join(_multipart_pairs(body, content_type))
    text = body.decode("latin-1").rstrip("\r\n")
    if media_type != _URLENCODED or not text.isascii() or any(character < "!" for character in text):
        raise BadRequest("a urlencoded form has characters that must be escaped, or a malformed Content-Type")
    return text


def _multipart_pairs(body: bytes, content_type: str) -> Sequence[str]:
    """Returns the fields without those that are files (RFC 7578). Servers read malformed forms in different ways."""
    match = _BOUNDARY.fullmatch(content_type)
    if match is None:
        raise BadRequest("a multipart form without one boundary")
    delimiter = b"\r\n--" + (match[1] or match[2]).encode("latin-1")
    before, *parts = (b"\r\n" + body).split(delimiter)
    if before or not parts or parts[-1].rstrip(b"\r\n") != b"--":
        raise BadRequest("a malformed multipart form")
    pairs = [_pair_of(part) for part in parts[:-1]]
    return [pair for pair in pairs if pair]


def _pair_of(part: bytes) -> str:
    head, blank, content = part.partition(b"\r\n\r\n")
    dispositions = _DISPOSITION.findall(head)
    names = _NAME.findall(dispositions[0]) if len(dispositions) == 1 else []
    if not head.startswith(b"\r\n") or not blank or len(names) != 1:
        raise BadRequest("a multipart form has a part without one name")
    if b"filename" in dispositions[0].lower():
        return ""
    return f"{quote_from_bytes(names[0][0] or names[0][1])}={quote_from_bytes(content)}"
