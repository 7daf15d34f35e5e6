"""Headers of requests that were read before: the same bytes of the same client are not read again.

A browser repeats its headers byte for byte, in polls and for the pictures and scripts of a page; only the request line
differs. Only the parsed headers are remembered, never a decision: each request is judged again. aiohttp's parser has
read exactly these bytes as one whole head without a body, so this is no second parser.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass, field

from calgate.http.headers import Header, RequestHeaders

LONGEST = 4096  # bytes of one block of headers
MOST_BYTES = 1 << 20  # of all blocks; what is read from a block takes about four times as much
_MOST_READINGS = 32  # targets of one block
_LONGEST_TARGET = 256  # characters of each
_MOST_SEEN = 1024  # blocks of which it is known that they came once

# a request line in its plainest form; any other is left to the parser
_LINE = re.compile(rb"GET (/[A-Za-z0-9_.~!$&'()*+,=:@%/?-]*) HTTP/1\.1\r\n")

Key = tuple[bytes, str, bool]  # the block, and the peer's address and TLS: equal bytes may come from two clients


@dataclass(slots=True, eq=False)
class KnownHead:
    """The parsed form of a block of headers; the fields are those of a Request."""

    raw_headers: tuple[Header, ...]
    headers: RequestHeaders
    host: str
    scheme: str
    address: str
    behind_proxy: bool
    session: str  # the key of the session whose cookie is in the block
    readings: dict[str, object] = field(default_factory=dict)  # what the pipeline has read, by the request's target

    def remember_reading(self, target: str, reading: object) -> None:
        """Remembers what was read from a request with this target and these headers."""
        if len(target) <= _LONGEST_TARGET:
            if len(self.readings) >= _MOST_READINGS:
                self.readings.clear()
            self.readings[target] = reading


def split_line(data: bytes) -> tuple[str, bytes] | None:
    """Returns the target and the block of headers of a whole plain GET, None for anything else."""
    line = _LINE.match(data)
    if line is None or not data.endswith(b"\r\n\r\n") or len(data) - line.end() > LONGEST:
        return None
    return line[1].decode("ascii"), data[line.end() :]


class KnownHeads:
    """The blocks of one process, bounded in bytes: the one that was not used for longest is forgotten first."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._heads: OrderedDict[Key, KnownHead] = OrderedDict()
        self._bytes = 0
        self._of_session: dict[str, set[Key]] = {}
        self._seen: set[int] = set()  # hashes: a block that comes only once must not displace others

    def find(self, key: Key) -> KnownHead | None:
        """Returns the parsed block, or None if it is not known."""
        head = self._heads.get(key)
        if head is not None:
            self._heads.move_to_end(key)
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
        self._bytes += len(key[0])
        self._of_session.setdefault(head.session, set()).add(key)
        while self._bytes > self._most_bytes:
            self._forget(next(iter(self._heads)))

    def forget_session(self, session: str) -> None:
        """Forgets the blocks with the cookie of a session that has ended: the cookie is in them."""
        for key in list(self._of_session.get(session, ())):
            self._forget(key)

    def _forget(self, key: Key) -> None:
        head = self._heads.pop(key)
        self._bytes -= len(key[0])
        keys = self._of_session[head.session]
        keys.discard(key)
        if not keys:
            del self._of_session[head.session]

    def __len__(self) -> int:
        return len(self._heads)
