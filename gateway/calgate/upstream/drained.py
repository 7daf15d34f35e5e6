"""Document servers that an administrator has taken out: kept in the store, so that every worker knows."""

from calgate.plugin.services import Event, Store


class DrainedServers:
    """The set of drained servers, by name as the settings file writes them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = f"{store.prefix}:drained"

    async def read(self) -> frozenset[str]:
        """Raises Unavailable."""
        return frozenset(name.decode() for name in await self._store.ask("SMEMBERS", self._key))

    async def change(self, name: str, *, drained: bool) -> None:
        """Takes a server out, or back in, on every gateway at once. Raises Unavailable."""
        await self._store.ask("SADD" if drained else "SREM", self._key, name)
        await self._store.publish(Event("upstreams-drained", name))
