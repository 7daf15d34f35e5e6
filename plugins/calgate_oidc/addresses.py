"""Which URLs of a provider are used at all. Pure."""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit


def is_safe_url(url: str, issuer: str) -> bool:
    """Whether a URL is https without user, fragment or odd characters; http only if it and the issuer are this host."""
    if not re.fullmatch(r"[\x21-\x7e]{1,2000}", url) or re.search(r"[\\\"<>^`{|}#]", url):
        return False
    try:
        parts = urlsplit(url)
        if not parts.hostname or parts.username is not None or parts.password is not None or parts.port == 0:
            return False
        return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(url) and _is_loopback(issuer))
    except ValueError:
        return False


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
