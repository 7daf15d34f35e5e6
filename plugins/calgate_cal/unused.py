"""Named and Document CALs that nobody uses: their owners are gone or disabled, or do not use them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from calgate.plugin import AccountRefused, Directory, Person, Site, Unavailable
from calgate_cal import people
from calgate_cal.replies import Holder
from calgate_cal.settings import License

Why = Literal["gone", "disabled", "unused", "never used", "both kinds", "no rule", "unknown"]

ORDER: Sequence[Why] = ("gone", "disabled", "unused", "never used", "both kinds", "no rule", "unknown")
REMOVED: frozenset[Why] = frozenset({"gone", "disabled", "unused", "never used"})
_DISABLED = ("account-disabled", "account-expired")


@dataclass(frozen=True, slots=True)
class Finding:
    """A CAL, and why it is listed."""

    why: Why
    holder: Holder
    back_at: float | None  # when a removal gives the CAL back; None: at once

    @property
    def is_removed(self) -> bool:
        """Whether `--remove` takes the CAL away, or only lists it."""
        return self.why in REMOVED


async def find(
    holders: Iterable[Holder],
    directory: Directory | None,
    site: Site | None,
    license: License,
    *,
    days: float,
    now: float,
) -> list[Finding]:
    """Returns the CALs to look at, worst first. A directory that does not respond makes owners unknown, never gone."""
    held = [it for it in holders if it.kind in ("named", "document") and it.state not in ("quarantined", "spent")]
    kinds: dict[str, set[str]] = defaultdict(set)
    for holder in held:
        kinds[holder.user].add(holder.kind)
    findings = []
    for holder in held:
        why = await _account(holder, directory, site)
        if why not in ("gone", "disabled"):
            why = _use(holder, days * 86400, now) or ("both kinds" if len(kinds[holder.user]) > 1 else why)
        if why is not None:
            findings.append(Finding(why, holder, _back_at(holder, license, now)))
    return sorted(findings, key=lambda it: (ORDER.index(it.why), it.holder.name.casefold(), it.holder.document))


async def _account(holder: Holder, directory: Directory | None, site: Site | None) -> Why | None:
    """The state of an owner's account, and whether any access rule lets them in."""
    if directory is None:
        return "unknown"
    try:
        person = await people.look_up(directory, holder.user if _is_sid(holder.user) else holder.name)
        if person is None:
            return "gone"
        return None if await _may_come(person, site) else "no rule"
    except AccountRefused as refusal:
        return "disabled" if refusal.code in _DISABLED else None  # an account that is locked comes back by itself
    except Unavailable:
        return "unknown"


async def _may_come(person: Person, site: Site | None) -> bool:
    return site is None or await site.could_admit(person)


def _use(holder: Holder, most: float, now: float) -> Why | None:
    if holder.last_used is None:
        return "never used" if now - holder.since >= most else None
    return "unused" if now - holder.last_used >= most else None


def _back_at(holder: Holder, license: License, now: float) -> float | None:
    quarantine = license.named.quarantine if holder.kind == "named" else license.document.quarantine
    until = None if holder.last_used is None else holder.last_used + quarantine
    return until if until is not None and until > now else None


def _is_sid(key: str) -> bool:
    return key.upper().startswith("S-1-")
