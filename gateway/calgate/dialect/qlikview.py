"""QlikView's web server (QVWS, or its pages in IIS), as the AccessPoint and the AJAX client use it.

The requests, from QlikView's own client script (Qva.js) and from recorded traffic of versions 9 to 12:

* `GET /QvAJAXZfc/opendoc.htm?document=Sales%5CQ1.qvw&host=QVS%40server` is the document's page, `singleobject.htm` one
  object of it; `AccessPoint.aspx?open=&id=QVS%40server%7CSales%2FQ1.qvw&client=Ajax` sends the browser there.
* `POST /QvAJAXZfc/QvsViewClient.aspx?mark=…&host=…&view=Sales%5CQ1.qvw&platform=…` with `<update mark="" …
  view="Sales\\Q1.qvw">` opens the document, and with the mark of the first response uses or polls it (see
  `qlikview_command.py`). Older clients call it `.asp`, or send the command in a parameter `cmd`. The body's name is in
  plain UTF-8; the query's is written by JavaScript's escape(), in older clients, or as UTF-8.
* `GET …/QvsViewClient.aspx?datamode=binary&name=…&view=…` is a chart's picture; `?public=only&name=Extensions/…` is a
  file of an extension and belongs to no document.
* The client shows `<result><message text="…"/></result>` to its user, whatever the status.
* `host` names the QlikView Server that holds the document, as the web server's settings call it.

Never forwarded, in any spelling: `GetWebTicket.aspx`, where a trusted address (the gateway's!) may become any user;
`Authenticate.aspx` with such a ticket or a password; `QVSTunnel.dll`, whose contents cannot be read; a `.qvw` itself.
"""

import re
import zlib
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import unquote
from xml.sax.saxutils import quoteattr

from calgate.dialect.content_type import charset_of
from calgate.dialect.document_names import canonical_host, canonical_name
from calgate.dialect.protocol import DialectResponse, Use
from calgate.dialect.qlikview_command import read_command
from calgate.http.target import (
    Parameters,
    Target,
    decode_escaped,
    decode_value,
    read_target,
    refuse_windows_alias,
)
from calgate.paths import fold
from calgate.plugin.errors import BadRequest, Forbidden

_LARGEST_COMMAND = 262_144  # bytes: a command with pasted selections; larger ones have not been seen
_VIEWERS = frozenset({"qvsviewclient.aspx", "qvsviewclient.asp"})
_CALLS = _VIEWERS | {"accesspoint.aspx"}
_PROGRAMS = _CALLS | {"authenticate.aspx", "accesspointsettings.aspx"}
_NEVER = frozenset({"getwebticket.aspx", "qvstunnel.dll"})
_FILES = re.compile(
    r".*\.(?:html?|js|css|map|png|gif|jpe?g|svg|ico|cur|htc|xml|json|txt|woff2?|ttf|eot|xlsx?|csv|pdf|swf|xap)"
)
_NO_CAL = b"has no user cal for your account"
_MARK = re.compile(rb"<result\b[^>]*\smark=[\"'][^\"']")
_MARKED = re.compile(r"[?&]mark=[0-9a-f]", re.IGNORECASE)
_GZIP = b"\x1f\x8b"
_PEEKED_TEXT = 16_384  # bytes of a response that are looked at, once they are unpacked


class QlikView:
    """The dialect `qlikview`."""

    peek_bytes = 4096

    def needs_body(self, method: str, target: str, content_type: str = "") -> int:
        return _LARGEST_COMMAND if _segments(read_target(target))[-1] in _CALLS else 0

    def classify(self, method: str, target: str, body: bytes = b"", content_type: str = "") -> Use:
        read = read_target(target)
        refuse_windows_alias(read)
        segments = _segments(read)
        name = segments[-1]
        _refuse_by_name(segments)
        parameters = Parameters(read.query)
        if name in _CALLS:
            _refuse_charset(content_type, body)
            return _call(method, name, parameters, body)
        if name == "authenticate.aspx":
            if method not in {"GET", "HEAD"} or "webticket" in parameters:
                raise Forbidden("Authenticate.aspx would sign a user in without the gateway")
            return Use("other")
        document = parameters.one("document")
        return Use("other") if document is None else Use("open", canonical_name(document), _host(parameters))

    def write_refusal(self, method: str, target: str, message: str) -> DialectResponse | None:
        if not _is_call(target) or (method != "POST" and "cmd=" not in target.lower()):
            return None
        xml = f'<?xml version="1.0" encoding="utf-8"?><result><message text={quoteattr(message)}/></result>'
        return DialectResponse("text/xml; charset=utf-8", xml.encode())

    def document_opened(self, target: str, status: int, body: bytes) -> bool | None:
        """Returns None for the pages: opendoc.htm and the AccessPoint's link are the same for every document name.

        The response to the first call has a mark for the document's session, or else a message, under status 200 as
        well. Later calls send that mark, so they show that the document is open even before the response has a body.
        """
        if status >= 400:
            return False
        if _program(target) not in _VIEWERS:
            return None
        if not body:
            return True if _MARKED.search(target) else None
        text = _unpacked(body)
        return b"<message" not in text or _MARK.search(text) is not None

    def reports_missing_cal(self, target: str, body: bytes) -> bool:
        """Looks for QlikView Server's text "Access denied! The server (…) has no USER CAL for your account."."""
        return _is_call(target) and _NO_CAL in _unpacked(body).lower()


def _is_call(target: str) -> bool:
    """Returns whether QlikView's client made this request. Reads the target only, and refuses nothing."""
    return _program(target) in _CALLS


def _program(target: str) -> str:
    return unquote(target.partition("?")[0]).rpartition("/")[2].lower()


def _unpacked(body: bytes) -> bytes:
    if not body.startswith(_GZIP):
        return body
    with suppress(zlib.error):
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, _PEEKED_TEXT)
    return b""


def _segments(read: Target) -> Sequence[str]:
    return [fold(segment) for segment in read.segments]


def _refuse_by_name(segments: Sequence[str]) -> None:
    """Looks at every segment: IIS finds a program in the middle of a path, too, and takes the rest as its argument."""
    if _NEVER & set(segments):
        raise Forbidden("clients have no access to this part of QlikView (GetWebTicket.aspx, QVSTunnel.dll)")
    if _PROGRAMS & set(segments[:-1]):
        raise BadRequest("the path continues after the name of a program")
    if any(segment.endswith(".qvw") for segment in segments):
        raise Forbidden("a document is opened, not downloaded")
    name = next(filter(None, reversed(segments)), "")  # some servers ignore a slash behind the name of a file
    is_folder = not segments[-1] and "." not in name
    if "qvajaxzfc" in segments[:-1] and not is_folder and name not in _PROGRAMS and not _FILES.fullmatch(name):
        raise Forbidden("QlikView's client does not use this path")


def _refuse_charset(content_type: str, body: bytes) -> None:
    """.NET reads the body in the encoding that the header names; in UTF-7 the same bytes are other names."""
    charset = charset_of(content_type)
    if charset not in {"", "utf-8", "us-ascii"} or (charset == "us-ascii" and not body.isascii()):
        raise BadRequest("the command is not in UTF-8")


def _call(method: str, name: str, parameters: Parameters, body: bytes) -> Use:
    """Classifies a request to one of the programs that take commands.

    A request that should have a body and has none is refused: a proxy that only requests a verdict keeps the body back,
    and the document name that counts is in the body.
    """
    in_query = parameters.one("cmd")
    if in_query is not None and body:
        raise BadRequest("the request has two commands")
    text = body if in_query is None else in_query.encode()
    if name == "accesspoint.aspx" and ("open" in parameters or "id" in parameters):
        return _open_by_id(parameters, text)
    if text:
        return _command(name, parameters, text)
    if method not in {"GET", "HEAD", "OPTIONS"}:
        raise BadRequest("the call has no command")
    view = parameters.one("view")
    if view is not None:
        return Use("poll", canonical_name(view), _host(parameters))  # a picture: a command of the user came before it
    if name == "accesspoint.aspx" or parameters.one("public") == "only":
        return Use("other")
    raise BadRequest("the request names no document")


def _open_by_id(parameters: Parameters, text: bytes) -> Use:
    server, bar, document = (parameters.one("id") or "").partition("|")
    if text or not (server and bar and document):
        raise BadRequest("AccessPoint.aspx opens a document by id=server|document, and takes no command with it")
    return Use("open", canonical_name(document), _one_host(canonical_host(server), _host(parameters)))


def _command(name: str, parameters: Parameters, text: bytes) -> Use:
    command = read_command(text)
    raw = parameters.raw("view")
    if command.view is None:
        if name != "accesspoint.aspx" or raw is not None:
            raise BadRequest("the command names no document")
        return Use("other")
    document = canonical_name(command.view)
    if raw is not None and document not in _readings(raw):
        raise BadRequest("the query and the command name different documents")
    return Use(command.kind, document, _one_host(canonical_host(command.host), _host(parameters)))


def _host(parameters: Parameters) -> str:
    return canonical_host(parameters.one("host") or "")


def _one_host(first: str, second: str) -> str:
    if first and second and first != second:
        raise BadRequest("the request names two servers for one document")
    return first or second


def _readings(raw: str) -> Sequence[str]:
    """Returns what the query's name may mean. Only the command, which has the name in plain text, shows which it is."""
    readings = []
    for decode in (decode_escaped, decode_value):
        with suppress(BadRequest):  # escape() writes é as %E9, which is not UTF-8
            readings.append(fold(decode(raw.replace("+", "%20") if decode is decode_value else raw)))
    return readings
