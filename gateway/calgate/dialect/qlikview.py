"""QlikView's web server (QVWS, or its pages in IIS), as the AccessPoint and the AJAX client speak to it.

What they send, from QlikView's own client script (Qva.js) and from recorded traffic of versions 9 to 12:

* `GET /QvAJAXZfc/opendoc.htm?document=Sales%5CQ1.qvw&host=QVS%40server` is the document's page, `singleobject.htm` one
  object of it; `AccessPoint.aspx?open=&id=QVS%40server%7CSales%2FQ1.qvw&client=Ajax` sends the browser there.
* `POST /QvAJAXZfc/QvsViewClient.aspx?mark=…&host=…&view=Sales%5CQ1.qvw&platform=…` with `<update mark="" …
  view="Sales\\Q1.qvw">` opens the document, and with the mark of the first answer uses or polls it (see `command.py`).
  Older clients call it `.asp`, or send the command in a parameter `cmd`. The body's name is the one in plain UTF-8; the
  query's is written by JavaScript's escape(), in older clients, or as UTF-8.
* `GET …/QvsViewClient.aspx?datamode=binary&name=…&view=…` is a chart's picture; `?public=only&name=Extensions/…` is a
  file of an extension and no document's.
* The client shows `<result><message text="…"/></result>` to its user, whatever the status.

Never through the gateway, in any spelling: `GetWebTicket.aspx`, where a trusted address (ours!) may become anybody;
`Authenticate.aspx` with such a ticket or a password; `QVSTunnel.dll`, whose contents cannot be read; a `.qvw` itself.
"""

import re
import zlib
from collections.abc import Sequence
from contextlib import suppress
from xml.sax.saxutils import quoteattr

from calgate.dialect.document_names import canonical_windows, refuse_windows_aliases
from calgate.dialect.protocol import DialectResponse, Use
from calgate.dialect.qlikview_command import read_command
from calgate.http.target import Parameters, Target, decode_escaped, decode_value, read_target
from calgate.paths import fold
from calgate.plugin.errors import BadRequest, Forbidden

_BODY = 262_144  # a command with pasted selections; larger ones have not been seen
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
_LONGEST_MESSAGE = 16_384  # bytes of an answer that are looked at, once they are unpacked


class QlikView:
    """The dialect `qlikview`."""

    peek_bytes = 4096

    def needs_body(self, method: str, target: str) -> int:
        return _BODY if _segments(read_target(target))[-1] in _CALLS else 0

    def classify(self, method: str, target: str, body: bytes = b"", content_type: str = "") -> Use:
        read = read_target(target)
        refuse_windows_aliases(read.path)
        segments = _segments(read)
        name = segments[-1]
        _refuse_by_name(segments)
        parameters = Parameters(read.query)
        if name in _CALLS:
            _refuse_charset(content_type)
            return _call(method, name, parameters, body)
        if name == "authenticate.aspx":
            if method not in {"GET", "HEAD"} or "webticket" in parameters:
                raise Forbidden("Authenticate.aspx would sign somebody in past the gateway")
            return Use("other")
        document = parameters.one("document")
        return Use("open", canonical_windows(document)) if document is not None else Use("other")

    def write_refusal(self, method: str, target: str, words: str) -> DialectResponse | None:
        if not _is_call(target) or (method != "POST" and "cmd=" not in target):
            return None
        answer = f'<?xml version="1.0" encoding="utf-8"?><result><message text={quoteattr(words)}/></result>'
        return DialectResponse("text/xml; charset=utf-8", answer.encode())

    def document_opened(self, target: str, status: int, answer: bytes) -> bool | None:
        """The page opendoc.htm is the same for every name, and the AccessPoint's link too: the first call tells.

        The server answers it with a mark for the document's session, or else, under status 200 as well, with a message.
        Later calls bring that mark along, so they tell even where nothing of the answer is here yet.
        """
        if status >= 400:
            return False
        if _program(target) not in _VIEWERS:
            return None
        if not answer:
            return True if _MARKED.search(target) else None
        text = _unpacked(answer)
        return b"<message" not in text or _MARK.search(text) is not None

    def reports_missing_cal(self, target: str, answer: bytes) -> bool:
        """QlikView Server's words: "Access denied! The server (…) has no USER CAL for your account." """
        return _is_call(target) and _NO_CAL in _unpacked(answer).lower()


def _is_call(target: str) -> bool:
    """Whether the client's program made this request, by the target alone and without a judgement."""
    return _program(target) in _CALLS


def _program(target: str) -> str:
    return target.partition("?")[0].rpartition("/")[2].lower()


def _unpacked(answer: bytes) -> bytes:
    if not answer.startswith(_GZIP):
        return answer
    with suppress(zlib.error):
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(answer, _LONGEST_MESSAGE)
    return b""


def _segments(read: Target) -> Sequence[str]:
    return [fold(segment) for segment in read.segments]


def _refuse_by_name(segments: Sequence[str]) -> None:
    """By any segment: IIS finds a program in the middle of a path as well, and takes the rest for its argument."""
    if _NEVER & set(segments):
        raise Forbidden("this part of QlikView is not for clients: GetWebTicket.aspx and QVSTunnel.dll")
    if _PROGRAMS & set(segments[:-1]):
        raise BadRequest("the path goes on behind a program's name")
    name = segments[-1]
    if name.endswith(".qvw"):
        raise Forbidden("a document is opened, not fetched")
    if "qvajaxzfc" in segments[:-1] and name not in _PROGRAMS and name and not _FILES.fullmatch(name):
        raise Forbidden("QlikView's client has no use for this path")


def _refuse_charset(content_type: str) -> None:
    """.NET would read the body in the encoding that the header names; UTF-7 makes other names of the same bytes."""
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]*)", content_type, re.IGNORECASE)
    if charset and charset[1].lower() not in {"utf-8", "us-ascii"}:
        raise BadRequest("the command is not in UTF-8")


def _call(method: str, name: str, parameters: Parameters, body: bytes) -> Use:
    """A request to one of the programs that take commands.

    One that should have a body and shows none is refused: a proxy that asks for a verdict alone keeps it back, and
    the name that counts is in it.
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
        return Use("poll", canonical_windows(view))  # a picture: what the user did to get it was a command
    if name == "accesspoint.aspx" or parameters.one("public") == "only":
        return Use("other")
    raise BadRequest("the request names no document")


def _open_by_id(parameters: Parameters, text: bytes) -> Use:
    server, bar, document = (parameters.one("id") or "").partition("|")
    if text or not (server and bar and document):
        raise BadRequest("AccessPoint.aspx opens a document by id=server|document, and takes no command with it")
    return Use("open", canonical_windows(document))


def _command(name: str, parameters: Parameters, text: bytes) -> Use:
    command = read_command(text)
    raw = parameters.raw("view")
    if command.view is None:
        if name != "accesspoint.aspx" or raw is not None:
            raise BadRequest("the command names no document")
        return Use("other")
    document = canonical_windows(command.view)
    if raw is not None and document not in _readings(raw):
        raise BadRequest("the query and the command name different documents")
    return Use(command.kind, document)


def _readings(raw: str) -> Sequence[str]:
    """What the query's name may mean: nobody but the command, which names it plainly, can say."""
    readings = [decode_escaped(raw)]
    with suppress(BadRequest):  # escape() writes é as %E9, which is no UTF-8
        readings.append(decode_value(raw.replace("+", "%20")))
    return [fold(reading) for reading in readings]
