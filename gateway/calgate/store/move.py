"""Copies everything of a site from one store to another, and compares both sides afterwards.

By value and not by DUMP and RESTORE: Valkey's dumps cannot be read by Redis, nor newer ones by an older server. The
library of functions is not copied, because each gateway loads its own.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeVar

from calgate.store.client import Client

_AT_ONCE = 500  # members of a key in one command
_CLOCKS_DIFFER = 60_000  # milliseconds; a key expires by the clock of its own server

T = TypeVar("T")


class MoveError(Exception):
    """The data cannot be moved; the message says why, and what to do."""


@dataclass(slots=True)
class Content:
    """The content of a key: how many members, a sum over them in any order, and when it expires."""

    type: str
    expires: int = -1  # Unix time in milliseconds; -1: never
    members: int = 0
    digest: int = 0
    last_id: bytes = b""  # of a stream

    def add(self, parts: Iterable[bytes]) -> None:
        self.members += 1
        text = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        self.digest = (self.digest + int.from_bytes(blake2b(text, digest_size=16).digest(), "big")) % (1 << 128)


@dataclass(slots=True)
class Inventory:
    """The data of a site in one store: the content of every key."""

    keys: dict[bytes, Content] = field(default_factory=dict)

    def by_family(self, prefix: str) -> Mapping[str, tuple[int, int]]:
        """Returns the number of keys and of members of each family, such as "session" or "{qlikview}:leases"."""
        counts: dict[str, tuple[int, int]] = {}
        for key, content in self.keys.items():
            name = key.decode(errors="replace").removeprefix(f"{prefix}:")
            family = name if name.startswith("{") else name.partition(":")[0]
            keys, members = counts.get(family, (0, 0))
            counts[family] = keys + 1, members + content.members
        return dict(sorted(counts.items()))


def marker_of(prefix: str) -> str:
    """Returns the key that a store has while a site is copied into it, and for as long as a move was interrupted."""
    return f"{prefix}:moving"


async def take_inventory(client: Client, prefix: str) -> Inventory:
    """Reads every key of a site."""
    return await _read_all(client, prefix, _nothing)


async def copy(source: Client, target: Client, prefix: str, *, restart: bool = False) -> Inventory:
    """Copies every key into a target that has none, and compares. Raises MoveError, and then leaves the target empty.

    No gateway may run on either store at the same time, and none uses a target that a move was killed on: with
    `restart` what that move left is deleted first.
    """
    for client, name in ((source, "this store"), (target, "the target")):
        if await _listeners(client, prefix):
            raise MoveError(
                f"a gateway is running on {name}, and would change it during the copy; stop all gateways first"
            )
    marker = marker_of(prefix)
    await _check_empty(target, prefix, restart=restart)
    await target.execute_command("SET", marker, "1")
    try:
        found = await _read_all(source, prefix, lambda key, words: _write(target, key, words))
        for key, content in found.keys.items():
            await _finish(target, key, content)
        copied = await take_inventory(target, prefix)
        del copied.keys[marker.encode()]
        _compare(found, copied)
        _compare(found, await take_inventory(source, prefix))
    except BaseException:
        await _clear(target, prefix)
        raise
    await target.execute_command("DEL", marker)
    return found


async def _check_empty(target: Client, prefix: str, *, restart: bool) -> None:
    if not await _keys(target, prefix):
        return
    if not await target.execute_command("EXISTS", marker_of(prefix)):
        raise MoveError(
            f"the target has keys that begin with {prefix}: already, and is not overwritten; use an empty store, or"
            " another prefix for the site that is there"
        )
    if not restart:
        raise MoveError(
            "the target has what an interrupted move left, or another move is running; if none is, add --restart to"
            " delete that and begin again"
        )
    await _clear(target, prefix)


async def _clear(target: Client, prefix: str) -> None:
    """Deletes every key of a site, the marker last: the remains of an interrupted deletion must not be used."""
    marker = marker_of(prefix).encode()
    for key in sorted(await _keys(target, prefix), key=lambda key: key == marker):
        await target.execute_command("DEL", key)


def _compare(source: Inventory, other: Inventory) -> None:
    """Keys that have expired may be missing; nothing else may differ. Raises MoveError."""
    expired_by = time.time() * 1000 + _CLOCKS_DIFFER
    for key in source.keys.keys() | other.keys.keys():
        here, there = source.keys.get(key), other.keys.get(key)
        is_expired = here is not None and there is None and 0 <= here.expires < expired_by
        if here != there and not is_expired:
            raise MoveError(
                f"{key.decode(errors='replace')} differs after the copy, so nothing was moved: stop everything that"
                " changes the stores, compare the clocks of their machines, and try again"
            )


async def _listeners(client: Client, prefix: str) -> int:
    """Returns how many gateways and commands listen for events of this site."""
    counts = await client.pubsub_numsub(f"{prefix}:news")
    return sum(int(count) for _, count in counts)


async def _keys(client: Client, prefix: str) -> Sequence[bytes]:
    escaped = "".join(f"[{letter}]" if letter in "*?[]" else letter for letter in prefix)
    return sorted({key async for key in client.scan_iter(match=f"{escaped}:*", count=1000)})


Write = Callable[[bytes, Sequence[Any]], Awaitable[object]]


async def _read_all(client: Client, prefix: str, write: Write) -> Inventory:
    """Reads every key; `write` gets each of its parts as the words of the command that adds it to a key."""
    inventory = Inventory()
    for key in await _keys(client, prefix):
        kind = (await client.execute_command("TYPE", key)).decode()
        if kind == "none":
            continue  # it has expired since
        content = Content(kind, int(await client.execute_command("PEXPIRETIME", key)))
        if kind == "stream":
            content.last_id = (await client.xinfo_stream(key))["last-generated-id"]
        async for words in _parts(client, key, content):
            await write(key, words)
        if content.expires != -2:
            inventory.keys[key] = content
    return inventory


async def _nothing(key: bytes, words: Sequence[Any]) -> None:
    return None


async def _parts(client: Client, key: bytes, content: Content) -> AsyncIterator[Sequence[Any]]:
    """Yields the command of each part, without the key: (command, word, …)."""
    read = {"string": _string, "hash": _hash, "set": _set, "zset": _sorted_set, "stream": _stream}.get(content.type)
    if read is None:
        raise MoveError(f"{key.decode(errors='replace')}: a {content.type} is nothing that a gateway writes")
    async for words in read(client, key, content):
        yield words


async def _string(client: Client, key: bytes, content: Content) -> AsyncIterator[Sequence[Any]]:
    value = await client.execute_command("GET", key)
    if value is not None:
        content.add([value])
        yield "SET", value


async def _hash(client: Client, key: bytes, content: Content) -> AsyncIterator[Sequence[Any]]:
    fields = await client.execute_command("HGETALL", key)
    for some in _chunks(list(fields.items())):
        for pair in some:
            content.add(pair)
        yield "HSET", *(word for pair in some for word in pair)


async def _set(client: Client, key: bytes, content: Content) -> AsyncIterator[Sequence[Any]]:
    for some in _chunks(list(await client.execute_command("SMEMBERS", key))):
        for member in some:
            content.add([member])
        yield "SADD", *some


async def _sorted_set(client: Any, key: bytes, content: Content) -> AsyncIterator[Sequence[Any]]:
    first = 0
    while some := await client.zrange(key, first, first + _AT_ONCE - 1, withscores=True):
        first += len(some)
        for member, score in some:
            content.add([member, repr(float(score)).encode()])
        yield "ZADD", *(word for member, score in some for word in (repr(float(score)), member))


async def _stream(client: Any, key: bytes, content: Content) -> AsyncIterator[Sequence[Any]]:
    start = "-"
    while some := await client.xrange(key, start, "+", count=_AT_ONCE):
        for entry, fields in some:
            words = [word for pair in fields.items() for word in pair]
            content.add([entry, *words])
            yield "XADD", entry, *words
        start = f"({some[-1][0].decode()}"


def _chunks(members: Sequence[T]) -> Iterator[Sequence[T]]:
    return (members[start : start + _AT_ONCE] for start in range(0, len(members), _AT_ONCE))


async def _write(target: Client, key: bytes, words: Sequence[Any]) -> None:
    await target.execute_command(words[0], key, *words[1:])


async def _finish(target: Client, key: bytes, content: Content) -> None:
    """Sets what is not a member: a stream's last id, and the time of expiry."""
    if content.type == "stream":
        if not content.members:  # all records are older than audit_keep
            await target.execute_command("XADD", key, content.last_id, "moved", "1")
            await target.execute_command("XDEL", key, content.last_id)
        await target.execute_command("XSETID", key, content.last_id)
    if content.expires >= 0:
        await target.execute_command("PEXPIREAT", key, content.expires)
