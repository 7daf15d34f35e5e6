"""What an administrator asks and changes, without the command line around it."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from calgate.plugin import Directory, Identity, Person, Store
from calgate_cal import export_format, lua, replies, terms
from calgate_cal.audit import Record, read
from calgate_cal.replies import Holder, State, Waiting
from calgate_cal.settings import License


class AdminError(Exception):
    """Nothing was changed; the message says why and what helps."""


class LicenseAdmin:
    """One license. Every method raises Unavailable; those that change something raise Declined where they do not."""

    def __init__(self, name: str, license: License, store: Store, directory: Directory | None, actor: str) -> None:
        self.name = name
        self._license = license
        self._store = store
        self._directory = directory
        self._actor = actor
        self._keys = lua.keys(store.prefix, name)
        store.library(lua.VERSION, lua.source())

    async def state(self) -> State:
        """All four pools and what was changed while running."""
        reply = await self._read("state")
        if reply[0] == b"unconfigured":
            await self._configure()
            reply = await self._read("state")
        return replies.state(reply)

    async def holders(self) -> AsyncIterator[Holder]:
        """Everything that is out, page by page, in no order; one that moves meanwhile may come twice."""
        cursor = b"0"
        while True:
            cursor, *texts = await self._read("holders", cursor, 500)
            for text in texts:
                yield replies.holder(json.loads(text))
            if cursor == b"0":
                return

    async def person(self, user: str) -> Person:
        """The directory's person for CORP\\alice, alice@corp or alice. Raises Declined if there is none."""
        if self._directory is None:
            raise AdminError("no directory is configured, so no user can be looked up")
        domain, account = _split(user)
        person = await self._directory.look_up(Identity(domain, account, mechanism=""))
        if person is None:
            raise AdminError(f"the directory knows nobody called {user}")
        return person

    async def owner(self, user: str) -> tuple[str, str]:
        """Key and name of a user who may have left the directory: among those who hold something, else looked up."""
        wanted = user.casefold()
        async for holder in self.holders():
            if wanted in (holder.name.casefold(), holder.user.casefold()):
                return holder.user, holder.name
        person = await self.person(user)
        return person.key, person.name

    async def assign(self, user: str, document: str | None = None) -> str:
        """Gives a user a Named CAL, or a Document CAL for one document; answers his name."""
        person = await self.person(user)
        kind = "document" if document else "named"
        word, *figures = await self._change("assign", kind, lua.part(person.key), person.name, document or "")
        match word:
            case "done":
                return person.name
            case "has-one":
                raise AdminError(f"{person.name} has a {_called(kind, document)} already")
            case "quarantined":
                raise AdminError(f"{person.name}'s {_called(kind, document)} is in quarantine; `undo` gives it back")
            case "not-allocated":
                raise AdminError(f"no Document CALs are allocated to {document}; `allocate` comes first")
        raise AdminError(f"no {_called(kind, document)} is free: all {figures[0]} are out or promised")

    async def remove(self, user: str, document: str | None = None) -> tuple[str, float | None]:
        """Takes it back; answers the user's name and until when it is in quarantine (None: it is free now)."""
        kind = "document" if document else "named"
        key, name = await self.owner(user)
        word, *figures = await self._change("remove", kind, key, document or "")
        if word == "has-none":
            raise AdminError(f"{name} has no {_called(kind, document)}")
        if word == "quarantined":
            raise AdminError(f"{name}'s {_called(kind, document)} was removed before and is in quarantine")
        return name, replies.seconds(figures[0]) or None

    async def undo(self, user: str, document: str | None = None) -> str:
        """Takes a removal back while the quarantine lasts; answers the user's name."""
        kind = "document" if document else "named"
        key, name = await self.owner(user)
        word, *_ = await self._change("undo", kind, key, document or "")
        if word == "has-none":
            raise AdminError(f"{name} has no {_called(kind, document)} in quarantine")
        if word == "not-removed":
            raise AdminError(f"{name}'s {_called(kind, document)} has not been removed")
        return name

    async def allocate(self, document: str, cals: int) -> None:
        """So many of the Document CALs may be given out for a document."""
        word, *figures = await self._change("allocate", document, cals)
        if word == "too-many":
            total, limit = figures
            raise AdminError(f"too many Document CALs allocated: it would be {total} in all, and the limit is {limit}")

    async def limit(self, kind: str, limit: int | None) -> None:
        """How many of a kind may be out; None: what the settings file says."""
        word, *figures = await self._change("limit", kind, "" if limit is None else limit)
        if word == "too-many":
            raise AdminError(f"{limit} is more than the {figures[0]} {kind.capitalize()} CALs in license")

    async def dynamic(self, kind: str, on: bool | None, document: str | None = None) -> None:
        """Whether CALs of a kind (or for one document) are assigned by themselves; None: the settings file's word."""
        await self._change("dynamic", kind, "" if on is None else int(on), document or "")

    async def end(self, user: str, client: str | None, *, force: bool) -> list[tuple[Holder, float | None]]:
        """Ends a user's Session CALs (on one client or all); answers each with when it comes back (None: now)."""
        wanted = user.casefold()
        sessions = [
            holder
            async for holder in self.holders()
            if holder.kind == "session"
            and wanted in (holder.name.casefold(), holder.user.casefold(), holder.name.partition("\\")[2].casefold())
            and client in (None, holder.client)
        ]
        ended: list[tuple[Holder, float | None]] = []
        for holder in sessions:
            word, *figures = await self._change("end", holder.user, holder.client, int(force))
            if word == "done":
                ended.append((holder, replies.seconds(figures[0]) or None))
        if not ended:
            where = f" on {client}" if client else ""
            raise AdminError(f"{user} has no Session CAL{where}")
        return ended

    async def set_clock(self) -> tuple[int, int] | None:
        """Takes the store's present clock for right; returns how many CALs were corrected and records moved.

        None: no record is ahead of the clock, so nothing was changed.
        """
        code, *numbers = await self._change("clock")
        return (numbers[0], numbers[1]) if code == "done" else None

    async def queue(self) -> list[Waiting]:
        """Who waits, in order."""
        return [replies.waiting(json.loads(text)) for text in await self._read("queue")]

    async def records(self, since: float, until: float | None = None) -> AsyncIterator[Record]:
        """Every decision and change of a time, oldest first (Unix times)."""
        key = self._keys[lua.KEY_NAMES.index("audit")]
        first, last = str(round(since * 1000)), "+" if until is None else str(round(until * 1000))
        async for record in read(self._store, key, first, last):
            yield record

    async def export(self) -> dict[str, object]:
        """All permanent state, for `restore`: Named, Document and Usage CALs and what was changed while running."""
        reply = await self._read("export")
        return {
            "license": self.name,
            "version": lua.VERSION,
            "settings": {str(name): str(value) for name, value in json.loads(reply[0]).items()},
            "leases": [json.loads(text) for text in reply[1:]],
        }

    async def restore(self, saved: Mapping[str, object]) -> int:
        """Puts an export back into a license that has no permanent state; answers how many CALs."""
        try:
            settings, leases = export_format.read(saved)
        except ValueError as fault:
            raise AdminError(str(fault)) from fault
        word, *figures = await self._change("restore", json.dumps(settings), json.dumps(leases))
        if word == "not-empty":
            raise AdminError(f"the license has {figures[0]} permanent CALs already; an export is put into an empty one")
        return figures[0]

    @property
    def license(self) -> License:
        """The license's settings."""
        return self._license

    async def _configure(self) -> None:
        await self._change("configure", terms.encode(self._license, self._store))

    async def _read(self, function: str, *args: str | int | bytes) -> Any:
        return await self._store.call(f"{lua.VERSION}_{function}", self._keys, args, read_only=True)

    async def _change(self, function: str, *args: str | int) -> tuple[str, *tuple[int, ...]]:
        """The function's word and figures; what is not "done" changed nothing."""
        name = f"{lua.VERSION}_{function}"
        reply = await self._store.call(name, self._keys, (self._actor, *args), lasting=_is_done)
        if reply == [b"unconfigured"]:
            await self._configure()
            reply = await self._store.call(name, self._keys, (self._actor, *args), lasting=_is_done)
        word, *figures = reply
        return word.decode(), *(int(figure) for figure in figures)


def _is_done(reply: Sequence[Any]) -> bool:
    return bool(reply[0] == b"done")


def _split(user: str) -> tuple[str, str]:
    """Domain and account; the domain is empty where none is given, and the directory takes its own."""
    if "\\" in user:
        domain, _, account = user.partition("\\")
        return domain, account
    account, _, domain = user.partition("@")
    return domain, account


def _called(kind: str, document: str | None) -> str:
    return f"Document CAL for {document}" if document else f"{kind.capitalize()} CAL"
