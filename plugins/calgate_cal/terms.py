"""A license's terms as the functions in the store read them."""

import json

from calgate.plugin import Store, milliseconds
from calgate_cal.names import normalize
from calgate_cal.settings import Document, License, Named, Pool, Session

PROVISIONAL = 600.0
"""Seconds until a grant that was never settled (its gateway was killed) is taken back as unused."""


def encode(license: License, store: Store) -> str:
    """Encodes a license as JSON: times in milliseconds, without options that are off, equal for equal licenses."""
    terms = {
        "channel": f"{store.prefix}:news",
        "audit_keep": milliseconds(store.audit_keep),
        "provisional": milliseconds(PROVISIONAL),
        "enforce": license.enforce,
        "queue": license.queue and license.enforce,  # in observe mode no user is denied, so none waits
        "named": _pool(license.named) | _assignable(license.named) | _named(license.named),
        "document": _pool(license.document) | _assignable(license.document),
        "session": _pool(license.session) | _session(license.session),
        "usage": _pool(license.usage) | {"overdraft": license.usage.overdraft},
    }
    if license.anonymous is not None:
        terms["anonymous"] = license.anonymous.model_dump()
    return json.dumps(terms, sort_keys=True)


def group_of_one(name: str) -> str:
    """Returns the group that a capped user is in as far as the store knows; no real group's name begins like this."""
    return f"={normalize(name)}"


def _pool(pool: Pool) -> dict[str, object]:
    return {"in_license": pool.in_license, "limit": pool.in_license if pool.limit is None else pool.limit}


def _assignable(pool: Named | Document) -> dict[str, object]:
    terms: dict[str, object] = {"dynamic": pool.dynamic, "quarantine": milliseconds(pool.quarantine)}
    return terms if pool.dynamic_for is None else terms | {"dynamic_for": pool.dynamic_for}


def _named(named: Named) -> dict[str, object]:
    return {"other_client": named.other_client, "overdraft": named.overdraft} | _unless_off(
        return_after=named.return_after
    )


def _session(session: Session) -> dict[str, object]:
    return {
        "minimum": milliseconds(session.minimum),
        "idle_timeout": milliseconds(session.idle_timeout),
        "overdraft": session.overdraft,
        "reserve": [reserve.model_dump() for reserve in session.reserve],
        "max": [{"group": cap.group or group_of_one(str(cap.user)), "cals": cap.cals} for cap in session.max],
        "shared": bool(session.reserve or session.max),
    } | _unless_off(reclaimable_after=session.reclaimable_after, maximum=session.maximum)


def _unless_off(**durations: float | None) -> dict[str, object]:
    return {name: milliseconds(value) for name, value in durations.items() if value is not None}
