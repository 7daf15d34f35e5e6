"""Which document a request is about: whether it opens, uses or polls one, and its name in one spelling.

A dialect decides on exactly the bytes that will be forwarded. A request that could be read in two ways is refused, and
so is a document name that cannot be read: a name that the gateway and the document server read differently would get
past the access rules.
"""

from collections.abc import Mapping

from calgate.dialect.cached import CachedDialect
from calgate.dialect.protocol import Dialect, DialectResponse, Kind, Use
from calgate.dialect.qlikview import QlikView
from calgate.dialect.regex import Patterns

__all__ = ["Dialect", "DialectResponse", "Kind", "Use", "choose", "is_prefetch_or_embed"]


def choose(
    name: str | None,
    *,
    opens: str | None = None,
    uses: str | None = None,
    polls: str | None = None,
    windows: bool = True,
) -> Dialect | None:
    """Returns the dialect that a route's settings describe, or None for a route without one.

    Raises ValueError with a sentence for the administrator.
    """
    if name is None:
        has_patterns = opens or uses or polls
        return CachedDialect(Patterns(opens=opens, uses=uses, polls=polls, windows=windows)) if has_patterns else None
    if opens or uses or polls:
        raise ValueError("a route has either a dialect, or opens, uses and polls patterns, not both")
    if name != "qlikview":
        raise ValueError(f'there is no dialect {name!r}; there is "qlikview", or opens, uses and polls patterns')
    if not windows:
        raise ValueError('QlikView runs on Windows: remove windows = false, or the dialect "qlikview"')
    return CachedDialect(QlikView())


def is_prefetch_or_embed(method: str, headers: Mapping[str, str]) -> bool:
    """Returns whether a request must not claim a CAL even if it opens a document, because no user wants to see it.

    That is so for HEAD and OPTIONS; for what a browser fetches ahead (Sec-Purpose, and its forerunners Purpose and
    X-Moz); and for what a page of another origin embeds, as an `<img>` for instance (Fetch Metadata: a request from
    elsewhere that is no navigation). "same-site" counts as elsewhere: all hosts of an intranet are one site. `headers`
    must find names in any case.
    """
    if method in {"HEAD", "OPTIONS"}:
        return True
    if any("prefetch" in headers.get(name, "").lower() for name in ("Sec-Purpose", "Purpose", "X-Moz")):
        return True
    elsewhere = headers.get("Sec-Fetch-Site", "") in {"cross-site", "same-site"}
    return elsewhere and headers.get("Sec-Fetch-Mode") != "navigate"
