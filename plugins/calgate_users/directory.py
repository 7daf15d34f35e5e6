"""The directory and NTLM verifier over a users file, which is re-read when it changes."""

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from calgate.plugin import (
    AccountRefused,
    AuthenticationFailed,
    Identity,
    Match,
    Matches,
    NtlmAttempt,
    NtlmProof,
    Person,
)
from calgate_users import ntlmv2, users_file
from calgate_users.users_file import User, UsersFile

logger = logging.getLogger(__name__)
_Version = tuple[int, int, int, int] | None


class UsersDirectory:
    """Fills the roles `Directory` and `NtlmVerifier`."""

    def __init__(self, file: Path) -> None:
        """Raises ValueError with a line for each fault of the file."""
        self._file = file
        self._version = _version(file)
        try:
            self._content = users_file.read(file)
        except OSError as error:
            raise ValueError(
                f"users.file: {file} cannot be read: {error.strerror}; {users_file.remedy(error)}"
            ) from error
        self._unused_hash = secrets.token_bytes(16)

    @property
    def domain(self) -> str:
        return self._content.domains[0]

    async def look_up(self, identity: Identity) -> Person | None:
        user = (await self._current()).find(identity.domain, identity.account)
        if user is None:
            return None
        _refuse_disabled(user)
        return Person(user.key, user.domain, user.name, user.display_name, user.groups)

    async def resolve(self, groups: Sequence[str]) -> Mapping[str, str | None]:
        """Groups are found by name, with or without the domain; there are no SIDs and DNs."""
        current = await self._current()
        known = {name: users_file.group_key(name, current.domains[0]) for name in groups}
        return {name: key if key in current.groups else None for name, key in known.items()}

    async def members_of(self, group: str) -> Sequence[str] | None:
        """Fills `GroupMembers`; there are no nested groups, and disabled users are members too."""
        current = await self._current()
        key = users_file.group_key(group, current.domains[0])
        if key not in current.groups:
            return None
        return [user.key for user in current.users.values() if key in user.groups]

    async def find_people(self, text: str, most: int) -> Matches:
        """Fills `PeopleSearch`; the file has no mail addresses."""
        found = [_match(user) for user in (await self._current()).users.values() if _is_called(user, text.casefold())]
        found.sort(key=lambda one: one.display_name.casefold())
        return Matches(found[:most], len(found) > most)

    async def verify(self, attempt: NtlmAttempt) -> NtlmProof:
        """An unknown user takes as long as a known one: a proof is computed with a hash that belongs to no user."""
        user = (await self._current()).find(attempt.domain, attempt.account)
        key = ntlmv2.session_key(attempt, user.nt_hash if user is not None else self._unused_hash)
        if key is None or user is None:
            raise AuthenticationFailed(f"NTLM: wrong password, or no such user: {attempt.domain}\\{attempt.account}")
        _refuse_disabled(user)
        return NtlmProof(Identity(user.domain, user.name, "ntlm"), key)

    async def _current(self) -> UsersFile:
        await asyncio.to_thread(self._read_again_if_changed)
        return self._content

    def _read_again_if_changed(self) -> None:
        version = _version(self._file)
        if version == self._version:
            return
        self._version = (
            version  # first: a broken file is logged once, and one that changes during the reading is read again
        )
        try:
            self._content = users_file.read(self._file)
        except (OSError, users_file.UsersFileError) as error:
            logger.error("users.file: cannot load the new version, keeping the old one: %s", error)
        else:
            logger.info("users.file: reloaded, %d users", len(self._content.users))


def _version(file: Path) -> _Version:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode


def _is_called(user: User, folded: str) -> bool:
    display_name = user.display_name.casefold()
    names = (user.key, user.name.casefold(), f"{user.name}@{user.domain}".casefold(), display_name)
    return any(name.startswith(folded) for name in (*names, *display_name.split()))


def _match(user: User) -> Match:
    refusal = "account-disabled" if user.disabled else ""
    return Match(user.key, f"{user.domain}\\{user.name}", user.display_name, refusal=refusal)


def _refuse_disabled(user: User) -> None:
    if user.disabled:
        raise AccountRefused(f"{user.domain}\\{user.name} is disabled in the users file", code="account-disabled")
