"""The people of a users file, as the file is now: a directory and a prover in one."""

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from calgate.plugin import AccountRefused, AuthenticationFailed, Identity, NtlmAttempt, NtlmProof, Person
from calgate_users import ntlmv2, users_file
from calgate_users.users_file import User, UsersFile

_log = logging.getLogger(__name__)
_Version = tuple[int, int, int, int] | None


class UsersDirectory:
    """Fills the roles `Directory` and `NtlmVerifier`; reads the file again when it has changed."""

    def __init__(self, file: Path) -> None:
        """Raises ValueError with a line for each fault of the file."""
        self._file = file
        self._version = _version(file)
        try:
            self._book = users_file.read(file)
        except OSError as error:
            raise ValueError(
                f"users.file {file} cannot be read: {error.strerror}; `calgate users add` makes one"
            ) from error
        self._nobodys_hash = secrets.token_bytes(16)

    @property
    def domain(self) -> str:
        return self._book.domains[0]

    async def look_up(self, identity: Identity) -> Person | None:
        user = (await self._now()).find(identity.domain, identity.account)
        if user is None:
            return None
        _refuse_disabled(user)
        return Person(user.key, user.domain, user.name, user.display_name, user.groups)

    async def resolve(self, groups: Sequence[str]) -> Mapping[str, str | None]:
        """By name, with or without the domain; SIDs and DNs there are none."""
        now = await self._now()
        known = {name: users_file.group_key(name, now.domains[0]) for name in groups}
        return {name: key if key in now.groups else None for name, key in known.items()}

    async def verify(self, attempt: NtlmAttempt) -> NtlmProof:
        """An unknown user costs what a known one does: his proof is computed too, with a hash that nobody has."""
        user = (await self._now()).find(attempt.domain, attempt.account)
        key = ntlmv2.session_key(attempt, user.nt_hash if user is not None else self._nobodys_hash)
        if key is None or user is None:
            raise AuthenticationFailed(f"NTLM: wrong password, or no such user: {attempt.domain}\\{attempt.account}")
        _refuse_disabled(user)
        return NtlmProof(Identity(user.domain, user.name, "ntlm"), key)

    async def _now(self) -> UsersFile:
        await asyncio.to_thread(self._read_again_if_changed)
        return self._book

    def _read_again_if_changed(self) -> None:
        version = _version(self._file)
        if version == self._version:
            return
        self._version = (
            version  # before it is read: a broken one is complained of once, one changed meanwhile read again
        )
        try:
            self._book = users_file.read(self._file)
        except (OSError, users_file.UsersFileError) as error:
            _log.error("users.file: the new version is not taken, the old one stays: %s", error)
        else:
            _log.info("users.file: read again, %d users", len(self._book.users))


def _version(file: Path) -> _Version:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode


def _refuse_disabled(user: User) -> None:
    if user.disabled:
        raise AccountRefused(f"{user.domain}\\{user.name} is disabled in the users file", code="account-disabled")
