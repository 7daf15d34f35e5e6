"""A refusal as data: its headers, and `application/problem+json` (RFC 9457)."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from calgate.pages.message import Message
from calgate.plugin.errors import BadGateway, Refusal, TooManySignIns, Unavailable
from calgate.plugin.licensing import NoCal, Pool

ASK_AGAIN = 10  # seconds between the requests of a waiting client; a place in the queue is kept for 30


def headers(refusal: Refusal, now: float) -> Sequence[tuple[str, str]]:
    """Returns the headers of a refusal in addition to those of every page, without challenges and Allow."""
    wait = retry_after(refusal, now)
    return () if wait is None else (("Retry-After", str(wait)),)


def retry_after(refusal: Refusal, now: float) -> int | None:
    """Returns the whole seconds after which another attempt makes sense; None if that is not known."""
    match refusal:
        case TooManySignIns(retry_after=seconds) | Unavailable(retry_after=seconds):
            return max(1, math.ceil(seconds))
        case NoCal(place=place) if place is not None:
            return ASK_AGAIN
        case NoCal(code="no-cal", free_at=moment) if moment is not None:
            return max(1, math.ceil(moment - now))
        case BadGateway():
            return ASK_AGAIN
    return None


def problem(refusal: Refusal, words: Message, reference: str, now: float) -> bytes:
    """Returns the body of `application/problem+json`; `code` is stable, `reference` leads to the line in the log."""
    members: dict[str, object] = {
        "type": f"urn:calgate:problem:{refusal.code}",
        "title": words.title,
        "status": refusal.status,
        "detail": words.without_page or words.text,
        "code": refusal.code,
        "reference": reference,
    }
    rule = getattr(refusal, "rule", None)
    if rule is not None:
        members["rule"] = rule
    if isinstance(refusal, NoCal):
        members |= _denied(refusal)
    wait = retry_after(refusal, now)
    if wait is not None:
        members["retry_after"] = wait
    return json.dumps(members, ensure_ascii=False, indent=2).encode() + b"\n"


def _denied(refusal: NoCal) -> Mapping[str, object]:
    members: dict[str, object] = {
        "license": refusal.license,
        "document": refusal.document,
        "pools": [_pool(pool) for pool in refusal.pools],
        "free_at": iso(refusal.free_at),
    }
    if refusal.contact:
        members["contact"] = refusal.contact
    if refusal.place is not None:
        members |= {"place": refusal.place, "estimate": iso(refusal.estimate)}
    return members


def _pool(pool: Pool) -> Mapping[str, object]:
    return {
        "kind": pool.kind,
        "limit": pool.limit,
        "occupied": pool.occupied,
        "free_at": iso(pool.free_at),
        "note": pool.note,
    }


def iso(moment: float | None) -> str | None:
    """Formats a time as RFC 3339 in UTC, rounded up to the second."""
    return None if moment is None else datetime.fromtimestamp(math.ceil(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
