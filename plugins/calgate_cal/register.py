"""Which licenses a store has seen: CALs that seem gone are found under another license, or in another store."""

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from calgate.plugin import Store, as_text
from calgate_cal import lua, replies
from calgate_cal.replies import KINDS

_PERMANENT = ("named", "document", "usage")


class LicenseRegister:
    """The names of all licenses that were ever configured in a store, by any settings file."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = f"{store.prefix}:licenses"

    async def add(self, license: str) -> None:
        """Adds a license. Raises Unavailable."""
        await self._store.execute("SADD", self._key, license)

    async def names(self) -> Collection[str]:
        """Returns the names. Raises Unavailable."""
        return {as_text(name) for name in await self._store.execute("SMEMBERS", self._key)}

    async def cals(self, license: str) -> int:
        """Returns how many CALs are in use; 0 for a license that the store does not have. Raises Unavailable."""
        return sum((await self._occupied(license)).values())

    async def permanent_cals(self, license: str) -> int:
        """Returns how many Named, Document and Usage CALs are in use. Raises Unavailable."""
        occupied = await self._occupied(license)
        return sum(occupied.get(kind, 0) for kind in _PERMANENT)

    async def _occupied(self, license: str) -> Mapping[str, int]:
        self._store.library(lua.VERSION, lua.source())
        keys = lua.keys(self._store.prefix, license)
        reply = await self._store.call(f"{lua.VERSION}_state", keys, read_only=True)
        if reply[0] == b"unconfigured":
            return {}
        pools = replies.state(reply).pools
        return {kind: sum(pool.occupied for pool in pools if pool.kind == kind) for kind in KINDS}


class LastSeen:
    """How many permanent CALs this machine last saw of each license, in a file of the state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.file = state_dir / "licenses.json"

    def read(self) -> Mapping[str, int]:
        """Returns the numbers; none if the file is missing or unreadable."""
        try:
            saved: Any = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(saved, dict):
            return {}
        return {str(name): cals for name, cals in saved.items() if isinstance(cals, int)}

    def write(self, license: str, cals: int) -> None:
        """Notes a number; a state directory that cannot be written costs the warning only."""
        saved = {**self.read(), license: cals}
        new = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        try:
            new.write_text(json.dumps(saved) + "\n", encoding="utf-8")
            new.replace(self.file)
        except OSError:
            new.unlink(missing_ok=True)


async def missing_cals(
    register: LicenseRegister, seen: Mapping[str, int], licenses: Collection[str]
) -> Mapping[str, str]:
    """Returns, for each license whose CALs seem gone, a sentence about where they may be. Raises Unavailable."""
    others = sorted(set(await register.names()) - set(licenses))
    renamed = [f"{name} ({cals} CALs)" for name in others if (cals := await register.cals(name))]
    sentences = {}
    for license in licenses:
        if await register.cals(license):
            continue
        if seen.get(license):
            sentences[license] = (
                f"this machine last saw permanent CALs in use ({seen[license]}), and the store has none:"
                " [store] may name another store than before"
            )
        elif renamed:
            sentences[license] = (
                f"no CAL is in use, but the store has {', '.join(renamed)}, which the file does not name"
            )
    return sentences
