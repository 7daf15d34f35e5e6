"""Document servers that an administrator has drained: kept in the store, where every worker reads them."""

import asyncio

from calgate.plugin.services import Event, Store
from calgate.plugin.values import as_text


class DrainedServers:
    """The set of drained servers, by name as the settings file writes them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = f"{store.prefix}:drained"
        self._has_changed = asyncio.Event()
        store.listen(self._on_event)

    def _on_event(self, event: Event) -> None:
        if event.topic in ("upstreams-drained", "store-back"):
            self._has_changed.set()

    async def read(self) -> frozenset[str]:
        """Raises Unavailable."""
        return frozenset(as_text(name) for name in await self._store.execute("SMEMBERS", self._key))

    async def change(self, name: str, *, drained: bool) -> None:
        """Drains a server, or restores it, on every gateway at once. Raises Unavailable."""
        await self._store.execute("SADD" if drained else "SREM", self._key, name)
        await self._store.publish(Event("upstreams-drained", name))

    async def wait_for_change(self) -> None:
        """Returns when the set may have changed since it was last waited for."""
        await self._has_changed.wait()
        self._has_changed.clear()
