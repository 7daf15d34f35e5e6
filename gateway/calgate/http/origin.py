"""Origins (RFC 6454): scheme, host and port, compared as such and not as text. Pure."""

import re
from collections.abc import Sequence
from functools import lru_cache

_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[^\s/?#@\\:\[\]]+)(?::([0-9]{0,5}))?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST = 300  # characters of an origin: a host name has at most 253


@lru_cache(1024)
def _normalize(text: str) -> str:
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return ""
    scheme, host = match[1].lower(), match[2].lower()
    port = int(match[3] or _DEFAULT_PORTS[scheme])
    return f"{scheme}://{host}" if port == _DEFAULT_PORTS[scheme] else f"{scheme}://{host}:{port}"


def normalize_origin(text: str) -> str:
    """Returns an origin in its one spelling: lower case, without the default port. Returns "" for anything else."""
    return _normalize(text) if len(text) <= _LONGEST else ""


def host_name(host: str) -> str:
    """Returns the name in a Host header: without the port, and without the dot at the end of an absolute name."""
    name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return name.removesuffix(".")


def own_origins(scheme: str, host: str, public: Sequence[str]) -> Sequence[str]:
    """Returns the origins that pages of this site can have, the one to redirect to first.

    That is the origin that the request was sent to, unless the settings name the public ones: a proxy that changes Host
    hides it.
    """
    own = normalize_origin(f"{scheme}://{host}")
    if not public:
        return (own,)
    return public if own not in public else (own, *public)
