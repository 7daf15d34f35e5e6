"""Which requests open a document, use one, or only poll; and which document, in one spelling.

A dialect decides on exactly the bytes that will be forwarded. Where a request could be read in two ways, or names its
document unreadably, it is refused: a name that the gateway and the document server read differently is a way past the
access rules.
"""

from collections.abc import Mapping

from calgate.dialect.cached import CachedDialect
from calgate.dialect.protocol import Dialect, DialectResponse, Kind, Use
from calgate.dialect.qlikview import QlikView
from calgate.dialect.regex import Patterns

__all__ = ["Dialect", "DialectResponse", "Kind", "Use", "choose", "never_claims"]


def choose(
    name: str | None, *, opens: str | None = None, uses: str | None = None, polls: str | None = None
) -> Dialect | None:
    """The dialect of a route's settings, None where it has none.

    Raises ValueError with a sentence for the administrator.
    """
    if name is None:
        return CachedDialect(Patterns(opens=opens, uses=uses, polls=polls)) if opens or uses or polls else None
    if opens or uses or polls:
        raise ValueError("a route has either a dialect, or opens, uses and polls patterns, not both")
    if name != "qlikview":
        raise ValueError(f'there is no dialect {name!r}; there is "qlikview", or opens, uses and polls patterns')
    return CachedDialect(QlikView())


def is_prefetch_or_embed(method: str, headers: Mapping[str, str]) -> bool:
    """Whether this request must not take a CAL even if it opens a document, as nobody has asked to see it.

    HEAD and OPTIONS; what a browser fetches ahead (Sec-Purpose, and its forerunners Purpose and X-Moz); and what a page
    of another origin embeds, say as an `<img>` (Fetch Metadata: a request from elsewhere that is no navigation).
    "same-site" is elsewhere too: all hosts of an intranet are one site. `headers` must find names in any case.
    """
    if method in {"HEAD", "OPTIONS"}:
        return True
    if any("prefetch" in headers.get(name, "").lower() for name in ("Sec-Purpose", "Purpose", "X-Moz")):
        return True
    elsewhere = headers.get("Sec-Fetch-Site", "") in {"cross-site", "same-site"}
    return elsewhere and headers.get("Sec-Fetch-Mode") != "navigate"
