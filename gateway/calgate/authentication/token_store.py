"""API tokens in the store, under their digests: made, listed and revoked by administrators, read by gateways."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from calgate.authentication.passed_authorization import TOKEN_PREFIX
from calgate.authentication.token import Token, digest_of, from_fields, to_fields
from calgate.plugin.services import Event, Store
from calgate.plugin.values import as_text, milliseconds

LIBRARY = Path(__file__).with_name("token.lua")
_KEPT_AFTER = 30 * 86_400.0  # seconds for which an expired token is still listed, and distinguished from a guess


class TokenStore:
    """The records of all tokens."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._index = f"{store.prefix}:tokens"  # by id: the digest
        store.library("calgate_token_v1", LIBRARY.read_text(encoding="utf-8"))

    def _record(self, key: str) -> str:
        return f"{self._store.prefix}:token:{key}"

    async def new(self, description: Token) -> tuple[Token, str]:
        """Stores a token, with a new id and key in place of the description's. Returns it with the secret itself."""
        secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
        token = replace(description, key=digest_of(secret), id=secrets.token_hex(4))
        # the index first: a token that is not listed could not be revoked
        await self._store.execute("HSET", self._index, token.id, token.key)
        fields = [word for pair in to_fields(token).items() for word in pair]
        gone_at = milliseconds(token.until + _KEPT_AFTER)
        await self._store.call("calgate_token_v1_new", [self._record(token.key)], [gone_at, *fields])
        return token, secret

    async def use(self, key: str, address: str) -> Token | None:
        """Returns the token of this digest, and notes that it is used from an address; None: there is none."""
        reply = [
            as_text(word) for word in await self._store.call("calgate_token_v1_use", [self._record(key)], [address])
        ]
        return from_fields(key, dict(zip(reply[::2], reply[1::2], strict=True))) if reply else None

    async def every(self) -> Sequence[Token]:
        """Returns all tokens, those that expired up to 30 days ago included, the oldest first."""
        index = await self._store.execute("HGETALL", self._index)
        found = []
        for id_, key in ((as_text(name), as_text(value)) for name, value in index.items()):
            record = await self._store.execute("HGETALL", self._record(key))
            if record:
                found.append(from_fields(key, {as_text(name): as_text(value) for name, value in record.items()}))
            else:
                await self._store.execute("HDEL", self._index, id_)
        return sorted(found, key=lambda token: (token.created, token.id))

    async def revoke(self, token: Token) -> bool:
        """Revokes a token on every gateway at once; returns False if it was revoked before."""
        is_first = await self._store.call("calgate_token_v1_revoke", [self._record(token.key)], [])
        await self._store.publish(Event("session-ended", token.key, "the API token is revoked"))
        return bool(is_first)
