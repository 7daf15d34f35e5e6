"""An administrator's view of a license, and changes to it, apart from the command line."""

import contextlib
import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from calgate.plugin import BadRequest, Directory, Person, Refusal, Site, Store, parse_user
from calgate_cal import export_format, lua, people, replies, terms
from calgate_cal.audit import Record, decode, read, read_back
from calgate_cal.names import normalize, spellings
from calgate_cal.people import Found
from calgate_cal.register import LicenseRegister
from calgate_cal.replies import Holder, State, Waiting
from calgate_cal.settings import License

_LONGEST_RUN = 600_000  # milliseconds after which a run that died no longer keeps others out
_LONGEST_DOCUMENT = 512  # characters, host included
_MOST_LOOKED_UP = 500  # users of one list


class AdminError(Exception):
    """Nothing was changed; the message says why, and how to go on."""


class LicenseAdmin:
    """One license. Every method raises Unavailable; a change that is impossible raises AdminError."""

    def __init__(
        self,
        name: str,
        license: License,
        store: Store,
        directory: Directory | None,
        actor: str,
        site: Site | None = None,
        reason: str = "",
    ) -> None:
        """`actor` and `reason` are in the record of every change."""
        self.name = name
        self._license = license
        self._store = store
        self._directory = directory
        self._actor = actor
        self._reason = " ".join(reason.split())
        self._site = site
        self._keys = lua.keys(store.prefix, name)
        store.library(lua.VERSION, lua.source())

    @property
    def zone(self) -> tzinfo:
        """The zone in which this site's people read times; without settings, the machine's."""
        return self._site.zone if self._site else datetime.now(UTC).astimezone().tzinfo or UTC

    async def state(self) -> State:
        """Returns all four pools and what was changed at run time."""
        reply = await self._read("state")
        if reply[0] == b"unconfigured":
            await self._configure()
            reply = await self._read("state")
        return replies.state(reply)

    async def holders(self) -> AsyncIterator[Holder]:
        """Yields every lease, page by page, in no order; a lease that moves during the walk can come twice."""
        async for _, holder in self.holders_by_field():
            yield holder

    async def holders_by_field(self) -> AsyncIterator[tuple[str, Holder]]:
        """Yields every lease as `holders` does, each with its field in the store."""
        cursor = b"0"
        while True:
            cursor, *texts = await self._read("holders", cursor, 100)  # 2 ms of the store on a busy machine
            for text in texts:
                lease = json.loads(text)
                yield lease["field"], replies.holder(lease)
            if cursor == b"0":
                return

    async def holders_of(self, fields: Sequence[str]) -> Mapping[str, Holder]:
        """Returns the leases that these fields have now; skips fields without a lease."""
        found = {}
        for begin in range(0, len(fields), 250):
            for text in await self._read("held", *fields[begin : begin + 250]):
                lease = json.loads(text)
                found[lease["field"]] = replies.holder(lease)
        return found

    # ------------------------------------------------------------ names

    def document(self, name: str) -> str:
        """Returns a document's name as requests have it. Raises AdminError for a name that no request can have."""
        try:
            document = self._site.document(self.name, name) if self._site else name.replace("\\", "/").casefold()
        except BadRequest as refusal:
            raise AdminError(f"document {name[:80]!r}: {refusal.detail}") from refusal
        if len(document) > _LONGEST_DOCUMENT:
            raise AdminError(
                f"document: the name has {len(document)} characters; at most {_LONGEST_DOCUMENT} are possible"
            )
        return document

    async def person(self, user: str) -> Person:
        """Returns the directory's user of a name or SID. Raises AdminError if there is none."""
        if self._directory is None:
            raise AdminError("no directory is configured, so no user can be looked up; add [ldap] or [users]")
        person = await people.look_up(self._directory, user)
        if person is None:
            raise AdminError(f"the directory knows nobody called {user}")
        return person

    async def with_current_names(self, holders: Sequence[Holder]) -> list[Holder]:
        """Returns the holders under the names that the directory has for their SIDs; a renamed user keeps their CALs.

        Of very many users none is looked up: their leases have the name of their last use.
        """
        keys = {holder.user for holder in holders if parse_user(holder.user).form == "sid"}
        if self._directory is None or len(keys) > _MOST_LOOKED_UP:
            return list(holders)
        names = await people.current_names(self._directory, keys)
        return [people.renamed(holder, names.get(holder.user, holder.name)) for holder in holders]

    async def find(self, user: str) -> Sequence[Found]:
        """Returns every user whom the name can mean, also users whom the directory does not know any more.

        A name that neither the directory nor any lease has is looked for in the records, which know former names.
        """
        holders = [holder async for holder in self.holders()]
        found = await people.find(self._directory, user, holders)
        return found or people.with_keys(await self._recorded(user), holders)

    async def _recorded(self, user: str) -> Collection[str]:
        wanted = normalize(user)
        return {
            record["user"]
            async for record in self.records(0)
            if record["user"] and wanted in spellings(record["name"], record["user"])
        }

    async def owner(self, user: str) -> Found:
        """Returns the one user whom the name means. Raises AdminError if there is none, or several."""
        found = await self.find(user)
        if not found:
            raise AdminError(f"the directory knows nobody called {user}, and nobody of that name holds a CAL")
        if len(found) > 1:
            described = "; ".join(one.describe() for one in found)
            raise AdminError(f"{len(found)} users are called {user}: {described}. Say which by the key at the front")
        return found[0]

    async def keys_of(self, user: str) -> Collection[str]:
        """Returns the keys of every user whom the name can mean; ignores a directory that does not respond."""
        try:
            return {one.key for one in await self.find(user)}
        except Refusal:
            wanted = normalize(user)
            return {holder.user async for holder in self.holders() if people.matches(holder, wanted)}

    async def could_use(self, user: str) -> bool:
        """Returns whether some access rule lets this user have something; True if that is unknown."""
        return self._site is None or await self._site.could_admit(await self.person(user))

    # ------------------------------------------------------------ changes

    async def assign(self, user: str, document: str | None = None) -> str:
        """Gives a user a Named CAL, or a Document CAL for one document; returns the user's name."""
        person = await self.person(user)
        kind = "document" if document else "named"
        document = self.document(document) if document else None
        code, *numbers = await self._change("assign", kind, lua.part(person.key), person.name, document or "")
        match code:
            case "done":
                return person.name
            case "has-one":
                raise AdminError(f"{person.name} has a {_called(kind, document)} already")
            case "quarantined":
                raise AdminError(f"{person.name}'s {_called(kind, document)} is in quarantine; `undo` gives it back")
            case "not-allocated":
                raise AdminError(f"no Document CALs are allocated to {document}; `allocate` comes first")
        raise AdminError(f"no {_called(kind, document)} is free: all {numbers[0]} are out or promised")

    async def remove(self, user: str, document: str | None = None) -> tuple[str, float | None]:
        """Removes a CAL; returns the user's name and the end of the quarantine (None: the CAL is free now)."""
        document = self.document(document) if document else None
        owner = await self.owner(user)
        return owner.name, await self.remove_from(owner.key, owner.name, document)

    async def remove_from(self, key: str, name: str, document: str | None = None) -> float | None:
        """Removes the CAL of a user whose key is known, without looking for them; returns the quarantine's end."""
        kind = "document" if document else "named"
        code, *numbers = await self._change("remove", kind, key, document or "")
        if code == "has-none":
            raise AdminError(f"{name} has no {_called(kind, document)}")
        if code == "quarantined":
            raise AdminError(f"{name}'s {_called(kind, document)} was removed before and is in quarantine")
        return replies.seconds(numbers[0]) or None

    async def undo(self, user: str, document: str | None = None) -> str:
        """Takes a removal back while the quarantine lasts; returns the user's name."""
        document = self.document(document) if document else None
        owner = await self.owner(user)
        await self.undo_for(owner.key, owner.name, document)
        return owner.name

    async def undo_for(self, key: str, name: str, document: str | None = None) -> None:
        """Takes a removal back for a user whose key is known, without looking for them."""
        kind = "document" if document else "named"
        code, *_ = await self._change("undo", kind, key, document or "")
        if code == "has-none":
            raise AdminError(f"{name} has no {_called(kind, document)} in quarantine")
        if code == "not-removed":
            raise AdminError(f"{name}'s {_called(kind, document)} has not been removed")

    async def allocate(self, document: str, cals: int) -> str:
        """Sets how many Document CALs can be given out for a document; returns the document's name."""
        document = self.document(document)
        code, *numbers = await self._change("allocate", document, cals)
        if code == "too-many":
            total, limit = numbers
            raise AdminError(f"too many Document CALs allocated: it would be {total} in all, and the limit is {limit}")
        return document

    async def limit(self, kind: str, limit: int | None) -> None:
        """Sets how many CALs of a kind can be in use; None: the settings file's number."""
        code, *numbers = await self._change("limit", kind, "" if limit is None else limit)
        if code == "too-many":
            raise AdminError(f"{limit} is more than the {numbers[0]} {kind.capitalize()} CALs in license")

    async def dynamic(self, kind: str, on: bool | None, document: str | None = None) -> None:
        """Switches dynamic assignment of a kind, or for one document; None: the settings file's value."""
        document = self.document(document) if document else None
        await self._change("dynamic", kind, "" if on is None else int(on), document or "")

    async def end(self, user: str, client: str | None, *, force: bool) -> list[tuple[Holder, float | None]]:
        """Ends a user's Session CALs (on one client or all); returns each with when it comes back (None: now)."""
        where = f" on {client}" if client else ""
        found = [one for one in await self._holding(user) if any(_is_session_on(holder, client) for holder in one.held)]
        if not found:
            raise AdminError(f"{user} has no Session CAL{where}")
        if len(found) > 1:
            described = "; ".join(one.describe() for one in found)
            raise AdminError(f"{len(found)} users are called {user}: {described}. Say which by the key at the front")
        ended: list[tuple[Holder, float | None]] = []
        for holder in found[0].held:
            if not _is_session_on(holder, client):
                continue
            with contextlib.suppress(AdminError):  # it has come back by itself
                ended.append((holder, await self.end_one(holder.user, holder.client, force=force)))
        return ended

    async def end_one(self, key: str, client: str, *, force: bool) -> float | None:
        """Ends the Session CAL of a user whose key is known, on one client; returns when it comes back (None: now)."""
        code, *numbers = await self._change("end", key, client, int(force))
        if code != "done":
            raise AdminError(f"no Session CAL is in use on {client}")
        return replies.seconds(numbers[0]) or None

    async def dismiss(self, key: str, client: str) -> None:
        """Takes a waiter out of the queue. Raises AdminError for somebody who does not wait."""
        code, *_ = await self._change("dismiss", key, client)
        if code != "done":
            raise AdminError("they do not wait any more")

    async def _holding(self, user: str) -> Sequence[Found]:
        """Returns users with leases whom the name can mean; a directory that is away cannot prevent an end."""
        return people.with_keys(await self.keys_of(user), [holder async for holder in self.holders()])

    async def set_clock(self) -> tuple[int, int] | None:
        """Accepts the store's present clock as right; returns how many CALs were corrected and records moved.

        None: no record is ahead of the clock, so nothing was changed.
        """
        code, *numbers = await self._change("clock")
        return (numbers[0], numbers[1]) if code == "done" else None

    async def queue(self) -> list[Waiting]:
        """Returns the waiters in order."""
        return [replies.waiting(json.loads(text)) for text in await self._read("queue")]

    async def records(self, since: float, until: float | None = None) -> AsyncIterator[Record]:
        """Yields every decision and change of a time, oldest first (Unix times)."""
        key = self._keys[lua.KEY_NAMES.index("audit")]
        async for record in read(self._store, key, str(max(0, round(since * 1000))), "+"):
            if record.at >= since and (until is None or record.at <= until):
                yield record

    async def records_after(self, record_id: str) -> AsyncIterator[Record]:
        """Yields decisions and changes after a record's id, oldest first; "0" yields all."""
        key = self._keys[lua.KEY_NAMES.index("audit")]
        async for record in read(self._store, key, f"({record_id}", "+"):
            yield record

    async def newest_record(self) -> str:
        """Returns the id of the newest record, "" if there is none."""
        key = self._keys[lua.KEY_NAMES.index("audit")]
        found = await self._store.execute("XREVRANGE", key, "+", "-", "COUNT", 1)
        return found[0][0].decode() if found else ""

    async def records_of(self, ids: Sequence[str]) -> list[Record]:
        """Returns records by their ids; skips records that have been dropped since."""
        key = self._keys[lua.KEY_NAMES.index("audit")]
        found = []
        for record_id in ids:
            found += [decode(*one) for one in await self._store.execute("XRANGE", key, record_id, record_id)]
        return found

    async def latest_records(self, before: str = "+") -> AsyncIterator[Record]:
        """Yields decisions and changes, newest first; `before` is a record's id, to go on from there."""
        key = self._keys[lua.KEY_NAMES.index("audit")]
        async for record in read_back(self._store, key, before):
            yield record

    def is_about(self, record: Record, user: str, keys: Collection[str]) -> bool:
        """Returns whether a record is about the user of a written name, or of one of these keys."""
        return record["user"] in keys or normalize(user) in spellings(record["name"], record["user"])

    async def export(self) -> dict[str, object]:
        """Returns all permanent state, for `restore`: Named, Document and Usage CALs, and changes at run time."""
        reply = await self._read("export")
        return {
            "license": self.name,
            "version": lua.VERSION,
            "settings": {str(name): str(value) for name, value in json.loads(reply[0]).items()},
            "leases": [json.loads(text) for text in reply[1:]],
        }

    async def restore(self, saved: Mapping[str, object]) -> int:
        """Puts an export back into a license without permanent state; returns how many CALs."""
        try:
            settings, leases = export_format.read(saved)
        except ValueError as fault:
            raise AdminError(str(fault)) from fault
        code, *numbers = await self._change("restore", json.dumps(settings), json.dumps(leases))
        if code == "not-empty":
            raise AdminError(f"the license has {numbers[0]} permanent CALs already; an export is put into an empty one")
        return numbers[0]

    @property
    def license(self) -> License:
        """The license's settings."""
        return self._license

    @property
    def directory(self) -> Directory | None:
        """The directories of the settings file as one."""
        return self._directory

    @property
    def site(self) -> Site | None:
        """The rest of the settings file, for names and rules."""
        return self._site

    @contextlib.asynccontextmanager
    async def only_run(self, what: str, run: str) -> AsyncIterator[None]:
        """Lets one run at a time change this license. Raises AdminError while another one runs."""
        key = f"{self._store.prefix}:{{{self.name}}}:{what}"
        if not await self._store.execute("SET", key, run, "NX", "PX", _LONGEST_RUN):
            raise AdminError(f"{what}: another run is at work on this license; try again when it has ended")
        try:
            yield
        finally:
            if await self._store.execute("GET", key) == run.encode():
                await self._store.execute("DEL", key)

    def acting_for(self, run: str) -> "LicenseAdmin":
        """Returns the same license for a run of many changes, which is named in the record of each."""
        by = f"{self._actor} {run}"
        return LicenseAdmin(self.name, self._license, self._store, self._directory, by, self._site, self._reason)

    async def _configure(self) -> None:
        await self._change("configure", terms.encode(self._license, self._store))
        await LicenseRegister(self._store).add(self.name)

    async def _read(self, function: str, *args: str | int | bytes) -> Any:
        return await self._store.call(f"{lua.VERSION}_{function}", self._keys, args, read_only=True)

    async def _change(self, function: str, *args: str | int) -> tuple[str, *tuple[int, ...]]:
        """Returns the function's code and numbers; a code other than "done" changed nothing."""
        name = f"{lua.VERSION}_{function}"
        by = f"{self._actor}\n{self._reason}" if self._reason else self._actor
        reply = await self._store.call(name, self._keys, (by, *args), lasting=_is_done)
        if reply == [b"unconfigured"]:
            await self._configure()
            reply = await self._store.call(name, self._keys, (by, *args), lasting=_is_done)
        code, *numbers = reply
        return code.decode(), *(int(number) for number in numbers)


def _is_done(reply: Sequence[Any]) -> bool:
    return bool(reply[0] == b"done")


def _is_session_on(holder: Holder, client: str | None) -> bool:
    return holder.kind == "session" and client in (None, holder.client)


def _called(kind: str, document: str | None) -> str:
    return f"Document CAL for {document}" if document else f"{kind.capitalize()} CAL"
