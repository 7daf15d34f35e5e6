"""One attempt with a name and a password: read, limited by the guard, verified, and slow if it fails."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from calgate.plugin import AuthenticationFailed, Refusal
from calgate_negotiate.guard import Guard
from calgate_negotiate.password_names import PasswordName
from calgate_negotiate.password_verifiers import Attempt, PasswordVerifier

LONGEST_PASSWORD = 256
"""Characters: Windows allows 127 in its own dialogs, and 256 in the directory."""
_SLOWEST = 1.0  # seconds that a failure takes at least: unknown and known names differ by 15 to 90 ms otherwise

Sleep = Callable[[float], Awaitable[None]]


class PasswordAttempts:
    """Makes attempts, for the form, for Basic and for the change of a password alike."""

    def __init__(self, verifiers: Sequence[PasswordVerifier], guard: Guard, sleep: Sleep = asyncio.sleep) -> None:
        """`verifiers`: the first that knows the domain of a name decides, and the first of all without a domain."""
        self._verifiers = tuple(verifiers)
        self._guard = guard
        self._sleep = sleep

    async def verify(self, user: str, password: str, address: str) -> Attempt:
        """Verifies what a user entered. Raises AuthenticationFailed, AccountRefused, TooManySignIns or Unavailable."""
        async with self._slow_to_fail():
            name = PasswordName.read(user)
            demand_possible(password)
            verifier = self.verifier_of(name)
            account = verifier.canonical(name)
            return await self._guard.verify(account, address, lambda: verifier.verify(name, password))

    async def carry_out(self, name: PasswordName, address: str, work: Callable[[], Awaitable[Attempt]]) -> Attempt:
        """Carries out other work that proves a password, under the same limits."""
        async with self._slow_to_fail():
            account = self.verifier_of(name).canonical(name)
            return await self._guard.verify(account, address, work)

    def verifier_of(self, name: PasswordName) -> PasswordVerifier:
        """Returns the verifier of a name's domain. Raises AuthenticationFailed for an unknown domain."""
        if not name.domain:
            return self._verifiers[0]
        for verifier in self._verifiers:
            if verifier.knows(name):
                return verifier
        raise AuthenticationFailed(f"there is no domain {name.domain} here; name it in password.realms")

    @asynccontextmanager
    async def _slow_to_fail(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        earliest = loop.time() + _SLOWEST
        try:
            yield
        except Refusal:
            await self._sleep(max(0.0, earliest - loop.time()))
            raise


def demand_possible(password: str) -> None:
    """Raises AuthenticationFailed for a password that no account can have: a server is not asked about it."""
    if not password or len(password) > LONGEST_PASSWORD or "\0" in password:
        raise AuthenticationFailed(f"a password of {len(password)} characters is not passed on")
