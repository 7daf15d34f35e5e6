"""The document server's cookies of one session: which it set, which a request may forward, which must be deleted.

On a shared computer the browser may still hold cookies that the document server set for the user before. They are
deleted at sign-out and as somebody else signs in. A cookie that another user's session was given is not forwarded
either, so that a deletion the browser has missed does no harm.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from calgate.http.cookies import SetCookie, UpstreamCookie, digest_of, expire_cookies
from calgate.http.headers import Cookies, Header

MOST = 180  # cookies remembered for one session; browsers keep no more for one site
_FIELD = "c:"  # how the field of a cookie begins in the session's record
_MOST_JUDGED = 512  # pairs whose owner is remembered
_MOST_LINES = 16
_LONGEST_LINE = 8192


class DocumentCookies:
    """Owns what one process knows of a session's cookies."""

    __slots__ = ("_digests", "_judged", "_lines", "_old", "_set", "_stale", "_unsaved")

    def __init__(self, cookies: Mapping[UpstreamCookie, str] | None = None) -> None:
        self._set: dict[UpstreamCookie, str] = dict(cookies or {})  # the digest of the last pair
        self._digests: set[str] = set(self._set.values())
        self._old: set[str] = set()  # digests of pairs that were replaced
        self._unsaved: dict[str, str] = {}  # field of the record -> digest, "" for a cookie that was deleted
        self._judged: dict[str, bool] = {}  # digest of a pair -> whether it may be forwarded
        self._lines: dict[bytes, bytes] = {}  # Cookie header as received -> as forwarded
        self._stale: Sequence[UpstreamCookie] = ()  # another user's, still to be deleted in the browser

    @property
    def known(self) -> Mapping[UpstreamCookie, str]:
        """The cookies with the digests of what the document server set last."""
        return self._set

    # ------------------------------------------------------------ what the document server sets

    def note(self, headers: Iterable[SetCookie]) -> bool:
        """Notes the Set-Cookie headers of a response; returns whether one names a cookie that was not known."""
        is_new = False
        self._lines.clear()
        for header in headers:
            if header.is_ignored and header.cookie in self._set:
                continue
            if header.is_deletion:
                self._forget(header.cookie)
                continue
            before = self._set.pop(header.cookie, None)  # a pair that is set again becomes the newest
            is_new = is_new or before is None
            if before != header.digest:
                self._unsaved[_FIELD + header.cookie.to_text()] = header.digest
                self._digests.add(header.digest)
                if before is not None:
                    self._old.add(before)
            self._set[header.cookie] = header.digest
            if len(self._set) > MOST:
                self._forget(next(iter(self._set)))
        return is_new

    def _forget(self, cookie: UpstreamCookie) -> None:
        digest = self._set.pop(cookie, None)
        if digest is not None:
            self._old.add(digest)
            self._unsaved[_FIELD + cookie.to_text()] = ""

    def merge(self, record: Mapping[str, str]) -> None:
        """Adds what other gateways have saved in the session's record."""
        for cookie, digest in cookies_of(record).items():
            if cookie not in self._set and _FIELD + cookie.to_text() not in self._unsaved:
                self._set[cookie] = digest
                self._digests.add(digest)
                self._lines.clear()

    # ------------------------------------------------------------ what the store must be told

    @property
    def has_unsaved(self) -> bool:
        return bool(self._unsaved)

    def take_unsaved(self) -> tuple[dict[str, str], list[str], list[str]]:
        """Returns the record's fields to change, the digests to claim for the user, and those to give up."""
        fields, self._unsaved = self._unsaved, {}
        old, self._old = self._old - set(self._set.values()), set()
        self._digests -= old
        return fields, [digest for digest in fields.values() if digest], sorted(old)

    def put_back(self, fields: Mapping[str, str]) -> None:
        """Takes fields back that could not be saved."""
        self._unsaved = {**fields, **self._unsaved}

    # ------------------------------------------------------------ what a request may forward

    def forwarded(self, cookies: Cookies) -> bytes | None:
        """Returns the Cookie header to forward; None if the store must be asked first."""
        line = self._lines.get(cookies.line)
        if line is not None:
            return line
        kept = []
        for pair in cookies.line.split(b"; "):
            digest = digest_of(pair)
            may_pass = digest in self._digests or self._judged.get(digest)
            if may_pass is None:
                return None
            if may_pass:
                kept.append(pair)
        line = b"; ".join(kept)
        if len(cookies.line) <= _LONGEST_LINE:
            if len(self._lines) >= _MOST_LINES:
                self._lines.clear()
            self._lines[cookies.line] = line
        return line

    def unjudged(self, cookies: Cookies) -> list[str]:
        """Returns the digests of all pairs that this session was not given."""
        return sorted({digest_of(pair) for pair in cookies.line.split(b"; ")} - self._digests)

    def judge(self, digests: Sequence[str], foreign: Collection[str]) -> None:
        """Remembers which pairs may be forwarded: all but those that were set for another user."""
        if len(self._judged) + len(digests) > _MOST_JUDGED:
            self._judged.clear()
        self._judged.update({digest: digest not in foreign for digest in digests})

    # ------------------------------------------------------------ what the browser must delete

    @property
    def has_stale(self) -> bool:
        return bool(self._stale)

    def set_stale(self, cookies: Sequence[UpstreamCookie]) -> None:
        """Keeps another user's cookies for deletion: one response has room for a few only."""
        self._stale = cookies

    def take_expiries(self) -> list[Header]:
        """Returns the headers that delete the next of them."""
        headers, self._stale = expire_cookies(self._stale)
        return headers


def cookie_fields(cookies: Mapping[UpstreamCookie, str]) -> dict[str, str]:
    """Returns the fields of a session's record for these cookies."""
    return {_FIELD + cookie.to_text(): digest for cookie, digest in cookies.items()}


def cookies_of(record: Mapping[str, str]) -> dict[UpstreamCookie, str]:
    """Returns the cookies that a session's record holds, with their digests."""
    fields = ((name, digest) for name, digest in record.items() if name.startswith(_FIELD))
    return {UpstreamCookie.from_text(name.removeprefix(_FIELD)): digest for name, digest in fields}
