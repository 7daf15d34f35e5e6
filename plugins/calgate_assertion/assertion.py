"""The `SignOn` role: a token for each user, signed again before it is half as old as it may become."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from calgate.plugin import Directory, Grant, Lease, NamedGroups, Person
from calgate_assertion import claims
from calgate_assertion.keys import KeyRing
from calgate_assertion.settings import Config

_LARGEST = 10_000  # tokens that are kept

_Statement = tuple[str, str, str, str, tuple[str, ...], tuple[str, str] | None]


class Assertion:
    """Signs statements of who the user is, and publishes the keys to verify them with."""

    per_person = False  # a token ends, and names the CAL

    def __init__(
        self, config: Config, keys: KeyRing, directory: Directory | None, now: Callable[[], float] = time.time
    ) -> None:
        """`now`: Unix time."""
        self._config = config
        self._keys = keys
        self._groups = NamedGroups(config.groups, directory)
        self._now = now
        self._kept: OrderedDict[_Statement, tuple[float, str]] = OrderedDict()  # until when, and the token
        self.owned = frozenset({config.header.lower()})

    def public_keys(self) -> Sequence[Mapping[str, str]]:
        return self._keys.public()

    async def headers(self, person: Person, grant: Grant, lease: Lease | None) -> Mapping[str, str]:
        """Raises Unavailable if a group that the token should name cannot be looked up."""
        groups = tuple(await self._groups.of(person))
        token = self._token(person, groups, lease)
        return {self._config.header: f"{self._config.scheme} {token}" if self._config.scheme else token}

    def _token(self, person: Person, groups: tuple[str, ...], lease: Lease | None) -> str:
        """Returns a token that was made for the same statement, or a new one."""
        held = (lease.license, lease.kind) if lease is not None else None
        statement = (person.key, person.domain, person.account, person.display_name, groups, held)
        now = self._now()
        kept = self._kept.get(statement)
        if kept is not None and now < kept[0] <= now + self._config.lifetime:  # a clock that was set back ends it
            return kept[1]
        token = self._sign(person, groups, lease, int(now))
        self._kept[statement] = (now + self._config.lifetime / 2, token)
        self._kept.move_to_end(statement)
        if len(self._kept) > _LARGEST:
            self._kept.popitem(last=False)
        return token

    def _sign(self, person: Person, groups: Sequence[str], lease: Lease | None, now: int) -> str:
        config = self._config
        said = claims.about(person, groups, lease, config.claims)
        return self._keys.signing.sign(
            said | {"iss": config.issuer, "aud": config.audience} | claims.validity(now, config.lifetime)
        )
