"""A session as the store keeps it: one hash of text fields. Pure."""

import json
from collections.abc import Iterable, Mapping

from calgate.authentication.document_cookies import cookie_fields
from calgate.authentication.session import Session
from calgate.plugin.identity import Identity

_encode_json = json.JSONEncoder(separators=(",", ":")).encode  # `json.dumps` would make an encoder for each call


def to_record(session: Session) -> Mapping[str, str]:
    """Returns the fields that a session is stored as, apart from its times."""
    identity = session.identity
    return {
        "domain": identity.domain,
        "account": identity.account,
        "mechanism": identity.mechanism,
        "sid": identity.sid or "",
        "groups": _pack(identity.groups),
        "person": session.person_key,
        "name": session.name,
        "address": session.address,
        "browser": "1" if session.is_browser else "",
        "client": session.browser,
        "proved": str(session.proved_at),
    } | cookie_fields(session.cookies.known)


def from_record(key: str, found: Mapping[str, str]) -> Session:
    """Reads a stored session. Its cookies are read with `DocumentCookies.merge`."""
    groups = _unpack(found.get("groups", ""))
    identity = Identity(found["domain"], found["account"], found["mechanism"], found["sid"] or None, groups)
    return Session(
        key,
        identity,
        found["person"],
        found["name"],
        found["address"],
        bool(found["browser"]),
        float(found["created"]) / 1000,
        browser=found.get("client", ""),
        proved_at=float(found.get("proved", 0)),
    )


def _pack(groups: Iterable[str]) -> str:
    """Packs SIDs by their domain, which is written once: a thousand take 8 KB instead of 46."""
    by_domain: dict[str, list[str]] = {}
    for group in sorted(groups):
        domain, dash, relative = group.rpartition("-")
        by_domain.setdefault(domain + dash, []).append(relative)
    return _encode_json(by_domain) if by_domain else ""


def _unpack(packed: str) -> frozenset[str]:
    by_domain: dict[str, list[str]] = json.loads(packed) if packed else {}
    return frozenset(domain + relative for domain, relatives in by_domain.items() for relative in relatives)
