"""The `[licenses.NAME]` sections of the settings file."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from calgate.plugin import Duration, LicenseInfo, Section
from calgate_cal.names import normalize

MINUTE, DAY = 60.0, 86400.0

_Off = BeforeValidator(lambda value: None if value == "off" else value)
OptionalDuration = Annotated[Duration | None, _Off]
"""Seconds, or None for "off"."""

Count = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
Switch = Annotated[bool, Field(strict=True)]  # "no" in quotes is a text, which pydantic would read as a bool


def _name(value: str) -> str:
    if not value.strip() or len(value) > 256:
        raise ValueError(f"a name has 1 to 256 characters, not {len(value)}")
    return value


Name = Annotated[str, AfterValidator(_name)]
"""A user or a group, as CORP\\name, name@corp.example or a SID."""


def _path(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError(f"a path begins with a slash, not {value!r}")
    return value


class Pool(Section):
    """One of the four kinds: how many CALs were bought, and how many of them can be in use."""

    in_license: Count = 0
    """CALs bought. 0 switches the kind off, because none is assumed to be bought."""

    limit: Count | None = None
    """CALs that can be in use at once; all that were bought unless set. `calgate cals limit` changes it at run
    time."""

    @model_validator(mode="after")
    def _limit_is_bought(self) -> Self:
        if self.limit is not None and self.limit > self.in_license:
            raise ValueError(f"limit: {self.limit} is more than in_license, {self.in_license}")
        return self


class Named(Pool):
    """CALs that belong to users."""

    dynamic: Switch = False
    """Assigns a free CAL to each user who opens a document and has none, permanently. Off, because casual users would
    exhaust the pool."""

    dynamic_for: tuple[Name, ...] | None = None
    """Groups whose members `dynamic` applies to; every user unless set."""

    quarantine: Duration = 7 * DAY
    """How long a removed CAL stays occupied after its last use; until then `calgate cals undo` gives it back. 7 days,
    as the vendor has it."""

    group: Name | None = None
    """The group that `calgate cals sync` keeps the Named CALs in step with, unless it is given another."""

    other_client: Literal["allow", "take-over", "refuse"] = "allow"
    """What happens when the owner uses a second machine at once: "allow" lets both, "take-over" ends the use of the
    first machine, "refuse" denies the second. The vendor allows it."""

    return_after: OptionalDuration = None
    """Returns a dynamically assigned CAL that was unused for so long; "off" keeps it until an administrator removes
    it."""

    overdraft: Count = 0
    """CALs that can be granted beyond the limit, each recorded as such. 0, because the license does not include
    them."""


class Document(Pool):
    """CALs for one user on one document. Administrators allocate them to documents at run time."""

    dynamic: Switch = False
    """Assigns a free CAL of a document's allocation to each user who opens it, permanently. Off, because casual users
    would exhaust the allocation."""

    dynamic_for: tuple[Name, ...] | None = None
    """Groups whose members `dynamic` applies to; every user unless set."""

    quarantine: Duration = 7 * DAY
    """How long a removed CAL stays occupied after its last use; until then `calgate cals undo` gives it back. 7 days,
    as the vendor has it."""


class Reserve(Section):
    """Session CALs that only a group gets."""

    group: Name
    """The group whose members get these CALs; what they hold counts towards them."""

    cals: Count
    """How many Session CALs are kept for the group."""


class Cap(Section):
    """The most Session CALs that a group, or a user, holds at once."""

    group: Name | None = None
    """The group; either this or `user`."""

    user: Name | None = None
    """The user, as CORP\\alice, alice@corp.example or alice; either this or `group`."""

    cals: Count
    """How many Session CALs the group or user can hold at once."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.group is None) == (self.user is None):
            raise ValueError("a `max` entry names a group or a user, one of them")
        return self


class Session(Pool):
    """CALs for the time of a visit."""

    minimum: Duration = 15 * MINUTE
    """How long a CAL is occupied at least, also after a sign-out. 15 minutes, as the license says."""

    idle_timeout: Duration = 30 * MINUTE
    """How long after the last activity a CAL comes back. 30 minutes, the vendor's Maximum Inactive Session Time."""

    reclaimable_after: OptionalDuration = 30 * MINUTE
    """How long a CAL must be idle before a user who would be denied gets it; "off": never. 30 minutes, the vendor's
    Possible Session Timeout."""

    maximum: OptionalDuration = None
    """Ends a CAL after so long even if it is in use; "off": no maximum, as the vendor has it."""

    reserve: tuple[Reserve, ...] = ()
    """CALs kept for groups: `[{ group = "CORP\\Board", cals = 1 }]`. None unless set."""

    max: tuple[Cap, ...] = ()
    """The most CALs of a group or user at once: `[{ group = "CORP\\Temps", cals = 2 }]`. No bound unless set."""

    overdraft: Count = 0
    """CALs that can be granted beyond the limit, each recorded as such. 0, because the license does not include
    them."""

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
    """CALs that can be granted beyond the limit, each recorded as such. 0, because the license does not include
    them."""


class Anonymous(Section):
    """Session CALs for browsers on public routes, where nobody signs in."""

    max: Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
    """The most Session CALs that such browsers hold at once, all together. They are part of the license's Session CALs:
    users with a sign-in can take all of them."""

    per_address: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 3
    """The most of them that browsers at one address hold (IPv6: in one /64 network), so that one visitor cannot take
    all. 3, because an office or a school often has one address."""


class Exempt(Section):
    """Users and paths that take no CAL: monitoring."""

    users: tuple[Name, ...] = ()
    """Users, as CORP\\svc-monitor, svc-monitor@corp.example, svc-monitor (in any domain) or a SID. None unless
    set."""

    paths: tuple[Annotated[str, AfterValidator(_path)], ...] = ()
    """Paths with everything below them, in any case: "/qlikview/health" is not "/qlikview/healthy". None unless
    set."""


class License(Section):
    """A purchased license with its four pools."""

    client: Literal["address", "browser", "user"] = "address"
    """What distinguishes two clients of one user, which take two Session CALs: the machine's address, the browser, or
    nothing.
    The address, because the vendor counts machines."""

    named: Named = Named()
    """The pool of Named CALs."""

    document: Document = Document()
    """The pool of Document CALs."""

    session: Session = Session()
    """The pool of Session CALs."""

    usage: Usage = Usage()
    """The pool of Usage CALs."""

    anonymous: Anonymous | None = None
    """Session CALs on routes with `sign_in = "off"`: `{ max = 2 }`. Without it a route without sign-in cannot name this
    license."""

    queue: Switch = False
    """Lets denied users wait, first come first served. Off, because the vendor's server has no queue."""

    enforce: Switch = True
    """false is observe mode: every decision is made and recorded, and no user is denied. On, as the license
    demands."""

    exempt: Exempt = Exempt()
    """Users and paths that take no CAL."""

    contact: str = ""
    """The contact for denied users, shown on the denial page: an address or a telephone number. Nothing unless set."""

    @model_validator(mode="after")
    def _anonymous_is_part_of_session(self) -> Self:
        session = self.session
        most = session.in_license if session.limit is None else session.limit
        if self.anonymous is not None and self.anonymous.max > most:
            raise ValueError(
                f"anonymous.max: {self.anonymous.max} is more than the Session CALs that can be in use, {most};"
                " anonymous CALs are part of session.in_license and session.limit"
            )
        return self

    @property
    def groups(self) -> frozenset[str]:
        """Every group that a decision can depend on."""
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
        """Users that a `max` entry names, normalized."""
        return frozenset(normalize(cap.user) for cap in self.session.max if cap.user is not None)

    @property
    def terms(self) -> LicenseInfo:
        """The facts about the licenses that the core needs."""
        users = frozenset(map(normalize, self.exempt.users))
        anonymous = 0 if self.anonymous is None else self.anonymous.max
        return LicenseInfo(self.client, self.contact, users, self.exempt.paths, anonymous)


class Config(Section):
    """All licenses, by name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, License] = Field(init=False)

    @model_validator(mode="after")
    def _names_can_be_keys(self) -> Self:
        for name in self.licenses:
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
                raise ValueError(f"a license's name is made of letters, digits, - and _, not {name!r}")
        return self

    @property
    def licenses(self) -> Mapping[str, License]:
        return self.__pydantic_extra__


def warnings(config: Config) -> Sequence[str]:
    """Returns a sentence for each setting that is allowed but unwise."""
    return [f"licenses.{name}.{sentence}" for name, license in config.licenses.items() for sentence in _of(license)]


def _of(license: License) -> Sequence[str]:
    session, sentences = license.session, list[str]()
    if license.named.dynamic and license.named.dynamic_for is None:
        sentences.append(
            "named: dynamic without dynamic_for: the first users get the Named CALs permanently; set dynamic_for"
        )
    if session.reclaimable_after is not None and session.reclaimable_after > session.idle_timeout:
        sentences.append(
            "session: reclaimable_after is longer than idle_timeout, so no CAL is ever reclaimed; make it shorter"
        )
    if session.minimum > session.idle_timeout:
        sentences.append(
            "session: minimum is longer than idle_timeout, so the idle timeout never ends a CAL; make it shorter"
        )
    if not license.enforce:
        sentences.append("enforce: nobody is denied; decisions are only recorded")
    if not any(pool.in_license for pool in (license.named, license.document, session, license.usage)):
        sentences.append("in_license: the license has no CALs at all, so every user is denied; say what was bought")
    return sentences
