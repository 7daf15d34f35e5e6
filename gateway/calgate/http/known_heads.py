"""Headers of requests that were read before: the same bytes of the same client are not read again.

A browser repeats its headers byte for byte, in polls and for the pictures and scripts of a page; only the request line
differs, and the values of a few headers that change with the page or the file. Only the parsed headers are remembered,
never a decision: each request is judged again.

This is no second parser. aiohttp's parser has read exactly these bytes as one whole head, with nothing after it but the
body. Values that may change are no exception: it found each of them as the whole value of a header that occurs once. A
parser reads from left to right, so with another value of visible characters it finds the same headers before it and
after it. Content-Length is one of them: it must be the number of bytes that follow, written as servers write it.
"""

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress

from calgate.http.headers import Header, RequestHeaders

LONGEST = 4096  # bytes of one block of headers
LONGEST_BODY = 65_536  # bytes of a body that is taken with its head
MOST_BYTES = 1 << 20  # of all blocks; what is read from a block takes about four times as much
_MOST_READINGS = 32  # targets of one block
_LONGEST_TARGET = 256  # characters of each
_MOST_SEEN = 1024  # blocks of which it is known that they came once
_LONGEST_VALUE = 256  # bytes of a value that may change; a longer one is part of the block

# a request line in its plainest form; any other is left to the parser
_LINE = re.compile(rb"(GET|POST) (/[A-Za-z0-9_.~!$&'()*+,=:@%/?-]*) HTTP/1\.1\r\n")

# Headers whose values change from page to page or from file to file, as browsers write them, with values that every
# parser reads alike. Nothing else that is read from the headers may depend on one of them: not who the client is, not
# how the message is framed, and not which document it is about.
_CHANGING = re.compile(
    rb"\n(Referer|Content-Length|If-None-Match|If-Modified-Since): "
    rb"([\x21-\x7e](?:[\x20-\x7e]{0,%d}[\x21-\x7e])?)(?=\r\n[^ \t])" % (_LONGEST_VALUE - 2)
)

# a block of headers without the values that may change: text, name, text, name, …, text
Block = tuple[bytes, ...]
# the method, the block, and the peer's address and TLS: equal bytes may come from two clients
Key = tuple[str, Block, str, bool]


@dataclass(frozen=True, slots=True)
class Changing:
    """The headers whose values may change."""

    places: Sequence[int]  # in the parsed headers
    names: Sequence[bytes]  # lower-case
    is_forwarded: Sequence[bool]  # not the Content-Length: the gateway sets its own
    lines: bytes  # the forwarded ones, with a place for each value


NOTHING_CHANGES = Changing((), (), (), b"")


@dataclass(slots=True, eq=False)
class KnownHead:
    """The parsed form of a block of headers, with the values that came last; the fields are those of a Request."""

    raw_headers: tuple[Header, ...]
    headers: RequestHeaders
    host: str
    scheme: str
    address: str
    behind_proxy: bool
    session: str  # the key of the session whose cookie is in the block
    values: Sequence[bytes] = ()  # those that may change
    changing: Changing = NOTHING_CHANGES
    # what the pipeline has read of requests without a body, by their target
    readings: dict[str, object] = field(default_factory=dict)

    def remember_reading(self, target: str, reading: object) -> None:
        """Remembers what was read from a request with this target and these headers."""
        if len(target) <= _LONGEST_TARGET:
            if len(self.readings) >= _MOST_READINGS:
                self.readings.clear()
            self.readings[target] = reading

    def with_values(self, values: Sequence[bytes]) -> "KnownHead":
        """Returns the head with other values in the same headers."""
        headers, changing = self.headers, self.changing
        raw_headers, by_name = [*self.raw_headers], headers.by_name.copy()
        size = headers.size
        for place, name, value in zip(changing.places, changing.names, values, strict=True):
            spelled, previous = raw_headers[place]
            raw_headers[place] = (spelled, value)
            size += len(value) - len(previous)
            if name in by_name:
                by_name[name] = value
        forwarded = changing.lines % tuple(compress(values, changing.is_forwarded))
        return KnownHead(
            tuple(raw_headers),
            RequestHeaders(forwarded, headers.cookies, by_name, size, headers.sent),
            self.host,
            self.scheme,
            self.address,
            self.behind_proxy,
            self.session,
            values,
            changing,
            self.readings,
        )


class RequestSplitter:
    """Splits the requests of one connection; a block that comes again, with a body as long, is not split again."""

    __slots__ = ("_block", "_length", "_text", "_values")

    def __init__(self) -> None:
        self._text: bytes | None = None  # of the last block
        self._length = 0  # of the body that followed it
        self._block: Block = ()
        self._values: tuple[bytes, ...] = ()

    def split(self, data: bytes) -> tuple[str, str, Block, tuple[bytes, ...], bytes] | None:
        """Splits a plain GET or POST that has arrived whole; returns None for anything else.

        Returns its method, its target, its block of headers, the values in that which may change, and its body.
        """
        line = _LINE.match(data)
        if line is None:
            return None
        method, target = line[1].decode("ascii"), line[2].decode("ascii")
        text = data[line.end() :]
        if text == self._text and not self._length:
            return method, target, self._block, self._values, b""
        end = data.find(b"\r\n\r\n", line.end() - 2) + 4
        text, body = data[line.end() : end], data[end:]
        if text == self._text and len(body) == self._length:
            return method, target, self._block, self._values, body
        if end < line.end() or len(text) > LONGEST or len(body) > LONGEST_BODY:
            return None
        parts = _CHANGING.split(data[line.end() - 1 : end])  # text, name, value, text, …
        values = tuple(parts[2::3])
        del parts[2::3]
        block = tuple(parts)
        if (body or b"Content-Length" in parts) and not _is_length(body, block, values):
            return None
        self._text, self._length, self._block, self._values = text, len(body), block, values
        return method, target, block, values, body


def _is_length(body: bytes, block: Block, values: Sequence[bytes]) -> bool:
    """Whether the one Content-Length is that of the body."""
    lengths = [value for name, value in zip(block[1::2], values, strict=True) if name == b"Content-Length"]
    return lengths == [b"%d" % len(body)]


def find_changing(
    block: Block, values: Sequence[bytes], raw_headers: Sequence[Header], headers: RequestHeaders
) -> Changing | None:
    """Returns the positions of these values in the parsed headers of the block.

    None where the parser did not find each of them as the whole value of a header that occurs once, or where one is not
    forwarded as it came: then the block cannot be remembered.
    """
    if not values:
        return NOTHING_CHANGES
    cut = [*zip(block[1::2], values, strict=True)]
    places = [place for place, header in enumerate(raw_headers) if header in cut]
    all_names = [name.lower() for name, _ in raw_headers]
    names = [name.lower() for name, _ in cut]
    if [raw_headers[place] for place in places] != cut or any(all_names.count(name) > 1 for name in names):
        return None
    is_forwarded = [name != b"Content-Length" for name, _ in cut]
    parts = _CHANGING.split(b"\n" + headers.forwarded + b"\r\n")  # as in the block, where an empty line follows
    if [*zip(parts[1::3], parts[2::3], strict=True)] != [*compress(cut, is_forwarded)]:
        return None
    lines = parts[0].replace(b"%", b"%%")
    for name, between in zip(parts[1::3], parts[3::3], strict=True):
        lines += b"\n%b: %%b" % name + between.replace(b"%", b"%%")
    return Changing(places, names, is_forwarded, lines[1:-2])


class KnownHeads:
    """The blocks of one process, bounded in bytes: the one that was not used for longest is forgotten first."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._heads: OrderedDict[Key, KnownHead] = OrderedDict()
        self._bytes = 0
        self._of_session: dict[str, set[Key]] = {}
        self._seen: set[int] = set()  # hashes: a block that comes only once must not displace others

    def find(self, key: Key, values: Sequence[bytes] = ()) -> KnownHead | None:
        """Returns the parsed block with these values in it, or None if it is not known."""
        head = self._heads.get(key)
        if head is not None:
            self._heads.move_to_end(key)
            if head.values != values:
                self._heads[key] = head = head.with_values(values)
        return head

    def is_seen_again(self, key: Key) -> bool:
        """Notes that a block came; returns whether it came before."""
        digest = hash(key)
        if digest in self._seen:
            self._seen.remove(digest)
            return True
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()  # in their order would cost each request a search
        self._seen.add(digest)
        return False

    def add(self, key: Key, head: KnownHead) -> None:
        """Remembers a block."""
        if key in self._heads:
            return
        self._heads[key] = head
        self._bytes += _bytes_of(key)
        self._of_session.setdefault(head.session, set()).add(key)
        while self._bytes > self._most_bytes:
            self._forget(next(iter(self._heads)))

    def forget_session(self, session: str) -> None:
        """Forgets the blocks with the cookie of a session that has ended: the cookie is in them."""
        for key in list(self._of_session.get(session, ())):
            self._forget(key)

    def _forget(self, key: Key) -> None:
        head = self._heads.pop(key)
        self._bytes -= _bytes_of(key)
        keys = self._of_session[head.session]
        keys.discard(key)
        if not keys:
            del self._of_session[head.session]

    def __len__(self) -> int:
        return len(self._heads)


def _bytes_of(key: Key) -> int:
    """Returns how many bytes a block has at most, with its longest values."""
    block = key[1]
    return sum(map(len, block)) + len(block) // 2 * _LONGEST_VALUE
