"""Checks the store: whether it responds, has functions, and persists what it is given."""

from collections.abc import AsyncIterator, Mapping

from redis.exceptions import ResponseError

from calgate.plugin.checks import Finding
from calgate.plugin.errors import Unavailable
from calgate.plugin.values import as_text
from calgate.store import RedisStore

OLDEST_STORE = 7


async def check(store: RedisStore, *, is_private: bool) -> AsyncIterator[Finding]:
    """Yields what is wrong with the store, or that it responds; `is_private`: the gateway itself runs it."""
    try:
        await store.ping()
        info = _info(await store.execute("INFO", "server"))
    except Unavailable as refusal:
        is_refused = any(word in refusal.detail for word in ("password", "NOAUTH", "WRONGPASS", "NOPERM", "auth"))
        remedy = "correct user and password in [store]" if is_refused else "start it, or correct [store]"
        yield Finding("fail", "store", refusal.detail, remedy)
        return
    version = str(info.get("valkey_version") or info.get("redis_version", "?"))
    name = "Valkey" if "valkey_version" in info else "Redis"
    if int(version.partition(".")[0] or 0) < OLDEST_STORE:
        yield Finding(
            "fail", "store", f"{name} {version} has no functions", f"{name} {OLDEST_STORE} or later is needed"
        )
        return
    try:
        await store.execute("FUNCTION", "LIST")
    except (ResponseError, Unavailable) as error:
        remedy = "allow the user of store.url the commands of @scripting: ACL SETUSER NAME +@scripting"
        yield Finding("fail", "store", f"{name} {version} forbids functions ({_why(error)})", remedy)
        return
    yield Finding("ok", "store", f"{name} {version} responds{', a private one' if is_private else ''}")
    if not is_private:
        async for finding in _keeping(store):
            yield finding


async def _keeping(store: RedisStore) -> AsyncIterator[Finding]:
    """Checks whether the store persists what it is given: an assignment that is lost was paid for."""
    try:
        options = {name: await _setting(store, name) for name in ("appendonly", "maxmemory-policy")}
    except (ResponseError, Unavailable) as error:  # hosted stores forbid CONFIG
        yield Finding(
            "note",
            "store",
            f"forbids CONFIG, so its settings are unknown ({_why(error)})",
            "check persistence and eviction there",
        )
        return
    if options["appendonly"] != "yes":
        yield Finding("warn", "store", "no append-only file: a crash loses assignments", "appendonly yes")
    if options["maxmemory-policy"] not in ("", "noeviction"):
        policy = options["maxmemory-policy"]
        yield Finding("warn", "store", f"can evict leases ({policy})", "maxmemory-policy noeviction")


def _why(error: ResponseError | Unavailable) -> str:
    return error.detail if isinstance(error, Unavailable) else str(error)


def _info(said: object) -> Mapping[str, str]:
    """Returns the fields of INFO, which the client library may have parsed already."""
    if isinstance(said, Mapping):
        return {as_text(name): as_text(value) for name, value in said.items()}
    return dict(line.split(":", 1) for line in as_text(said).splitlines() if ":" in line)


async def _setting(store: RedisStore, name: str) -> str:
    said = await store.execute("CONFIG", "GET", name)
    pairs = list(said.items()) if isinstance(said, Mapping) else list(zip(said[::2], said[1::2], strict=True))
    return as_text(pairs[0][1]) if pairs else ""
