"""The `[licenses.NAME]` sections of the settings file."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from calgate.plugin import Duration, LicenseInfo, Section

MINUTE, DAY = 60.0, 86400.0

_Off = BeforeValidator(lambda value: None if value == "off" else value)
OptionalDuration = Annotated[Duration | None, _Off]
"""Seconds, or None for "off"."""

Count = Annotated[int, Field(ge=0, le=1_000_000)]


class Pool(Section):
    """One of the four kinds: what was bought, and how much of it may be given out."""

    in_license: Count = 0  # what was bought
    limit: Count | None = None  # None: all of it

    @model_validator(mode="after")
    def _limit_is_bought(self) -> Self:
        if self.limit is not None and self.limit > self.in_license:
            raise ValueError(f"limit: {self.limit} is more than in_license, {self.in_license}")
        return self


class Named(Pool):
    """CALs that belong to users."""

    dynamic: bool = False  # whoever comes and has none gets one, for good
    dynamic_for: tuple[str, ...] | None = None  # None: everybody; else members of these groups
    quarantine: Duration = 7 * DAY
    other_client: Literal["allow", "take-over", "refuse"] = "allow"
    return_after: OptionalDuration = None
    overdraft: Count = 0


class Document(Pool):
    """CALs for one user on one document. Administrators allocate them to documents while the gateway runs."""

    dynamic: bool = False
    dynamic_for: tuple[str, ...] | None = None
    quarantine: Duration = 7 * DAY


class Reserve(Section):
    """Session CALs that only a group gets."""

    group: str
    cals: Count


class Cap(Section):
    """At most so many Session CALs out to a group, or to a user, at once."""

    group: str | None = None
    user: str | None = None
    cals: Count

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.group is None) == (self.user is None):
            raise ValueError("a `max` entry names a group or a user, one of them")
        return self


class Session(Pool):
    """CALs for the time of a visit."""

    minimum: Duration = 15 * MINUTE
    idle_timeout: Duration = 30 * MINUTE
    reclaimable_after: OptionalDuration = 30 * MINUTE
    maximum: OptionalDuration = None
    reserve: tuple[Reserve, ...] = ()
    max: tuple[Cap, ...] = ()
    overdraft: Count = 0

    @model_validator(mode="after")
    def _clocks_agree(self) -> Self:
        if self.maximum is not None and self.maximum < self.minimum:
            raise ValueError("maximum is shorter than minimum")
        kept = sum(reserve.cals for reserve in self.reserve)
        if kept > self.in_license:
            raise ValueError(f"reserve: {kept} CALs are kept for groups, but in_license is {self.in_license}")
        return self


class Usage(Pool):
    """CALs for one hour of one document."""

    overdraft: Count = 0


class Exempt(Section):
    """Who and what takes no CAL: monitoring."""

    users: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


class License(Section):
    """A purchased licence with its four pools."""

    client: Literal["address", "browser", "user"] = "address"
    named: Named = Named()
    document: Document = Document()
    session: Session = Session()
    usage: Usage = Usage()
    queue: bool = False
    enforce: bool = True
    exempt: Exempt = Exempt()
    contact: str = ""

    @property
    def groups(self) -> frozenset[str]:
        """Every group that a decision may ask for."""
        return frozenset(
            [
                *(self.named.dynamic_for or ()),
                *(self.document.dynamic_for or ()),
                *(reserve.group for reserve in self.session.reserve),
                *(cap.group for cap in self.session.max if cap.group is not None),
            ]
        )

    @property
    def capped_users(self) -> frozenset[str]:
        """Users that a `max` entry names, in lower case."""
        return frozenset(cap.user.casefold() for cap in self.session.max if cap.user is not None)

    @property
    def terms(self) -> LicenseInfo:
        """What the gateway itself must know."""
        users = frozenset(name.casefold() for name in self.exempt.users)
        return LicenseInfo(self.client, self.contact, exempt_users=users, exempt_paths=self.exempt.paths)


class Config(Section):
    """All licenses, by name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, License] = Field(init=False)

    @model_validator(mode="after")
    def _names_serve_as_keys(self) -> Self:
        for name in self.licenses:
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
                raise ValueError(f"a license's name is made of letters, digits, - and _, not {name!r}")
        return self

    @property
    def licenses(self) -> Mapping[str, License]:
        return self.__pydantic_extra__


def warnings(config: Config) -> Sequence[str]:
    """A sentence for each."""
    return [f"licenses.{name}.{sentence}" for name, license in config.licenses.items() for sentence in _of(license)]


def _of(license: License) -> Sequence[str]:
    session, sentences = license.session, list[str]()
    if license.named.dynamic and license.named.dynamic_for is None:
        sentences.append("named: dynamic without dynamic_for: whoever comes first takes a Named CAL for good")
    if session.reclaimable_after is not None and session.reclaimable_after > session.idle_timeout:
        sentences.append("session: reclaimable_after is longer than idle_timeout, so nothing is ever reclaimed")
    if session.minimum > session.idle_timeout:
        sentences.append("session: minimum is longer than idle_timeout, so the idle timeout never ends anything")
    if not license.enforce:
        sentences.append("enforce: nobody is denied; decisions are only recorded")
    if not any(pool.in_license for pool in (license.named, license.document, session, license.usage)):
        sentences.append("in_license: the license has no CALs at all, so everybody is denied")
    return sentences
