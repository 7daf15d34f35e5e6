"""Who may have what: the access rules of the settings file, read top to bottom; the first that matches decides.

Pure: knows no HTTP, no directory, no store and no licence. A CAL is never security, so nothing here depends on one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, model_validator

from calgate.contract import Grant, Person
from calgate.glob import Glob, compile_glob, fold
from calgate.hours import Hours, is_within, next_boundary, parse_hours
from calgate.refusal import Forbidden, Unavailable
from calgate.setting import Section


def _is_user(text: str) -> str:
    if "\\" not in text and not text.startswith("S-1-"):
        raise ValueError(f'a user is written "DOMAIN\\\\name" or as a SID, not {text!r}')
    return text


def _is_path(text: str) -> str:
    compile_glob(text)
    if not text.startswith(("/", "**")):
        raise ValueError(f'a path begins with a slash, or with **: "/admin/**", not {text!r}')
    return text


def _is_document(text: str) -> str:
    compile_glob(text)
    if "" in fold(text).split("/"):
        raise ValueError(
            f"a document's name is written without a slash at its beginning and has no empty folder, not {text!r}; all "
            'that is in a folder is "Sales/**"'
        )
    return text


def _as_network(value: object) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        return ip_network(str(value))
    except ValueError as error:
        raise ValueError(f'a network is written "10.0.0.0/8" or "fd00::/8": {error}') from error


def _as_hours(value: object) -> object:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        raise ValueError('hours are a string, or a list of strings, like "mon-fri 08:00-18:00"')
    return tuple(parse_hours(text) if isinstance(text, str) else text for text in texts)


class Rule(Section):
    """One `[[access]]` table of the settings file.

    What is given must all be so: one of `groups` or `users`, and one of `networks`, and one of `paths`, and one of
    `documents`, and one of `hours`. A request that opens no document matches no rule with `documents`.
    """

    name: str = Field(min_length=1)
    # an empty list would be no condition at all, and is more likely meant for nobody
    groups: tuple[str, ...] = Field((), min_length=1)  # name, SID or DN, as the directory resolves them
    users: tuple[Annotated[str, AfterValidator(_is_user)], ...] = Field((), min_length=1)
    networks: tuple[Annotated[IPv4Network | IPv6Network, PlainValidator(_as_network)], ...] = Field((), min_length=1)
    paths: tuple[Annotated[str, AfterValidator(_is_path)], ...] = Field((), min_length=1)
    documents: tuple[Annotated[str, AfterValidator(_is_document)], ...] = Field((), min_length=1)
    hours: Annotated[tuple[Hours, ...], BeforeValidator(_as_hours)] = Field((), min_length=1)
    everybody: bool = False  # the word for a rule without any of the above
    deny: bool = False
    enforce: bool = True  # false: on trial, see `Rules.decide`

    @model_validator(mode="after")
    def _says_whom_it_is_for(self) -> "Rule":
        if self.everybody and (self.groups or self.users):
            raise ValueError("everybody = true leaves no place for groups or users")
        narrowed = self.groups or self.users or self.networks or self.paths or self.documents or self.hours
        if not (self.everybody or narrowed):
            raise ValueError(
                "the rule names nobody and nothing: give it groups, users, networks, paths, documents or hours, "
                "or everybody = true if it is meant for all"
            )
        if not (self.enforce or self.deny):
            raise ValueError(
                "only a rule with deny = true can be on trial (enforce = false); leave the others out instead"
            )
        return self


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asks for."""

    person: Person
    address: str  # the client's, as seen through trusted proxies
    path: str  # decoded, begins with "/"
    document: str | None  # canonical name; None: the request opens and uses none


Outcome = Literal["allow", "deny", "no match", "unresolved"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule says, and why."""

    rule: str
    outcome: Outcome
    why: str
    decides: bool = False  # this is the rule that settles the matter
    on_trial: bool = False  # `enforce = false`: it settles nothing


def groups_of(rules: Iterable[Rule]) -> Sequence[str]:
    """The groups that must be resolved before the rules can be used."""
    return sorted({group for rule in rules for group in rule.groups})


class Rules:
    """The rules of a settings file, with their groups resolved."""

    def __init__(self, rules: Sequence[Rule], groups: Mapping[str, str | None], timezone: str) -> None:
        """`groups`: what `Directory.resolve` answered for `groups_of(rules)`. `timezone`: an IANA name, for `hours`."""
        self._zone = ZoneInfo(timezone)
        self._rules = tuple(_compile(rule, groups, self._zone) for rule in rules)
        self._hours = tuple(stretch for rule in rules for stretch in rule.hours)
        self._stretch = (0.0, 0.0)  # from and until when the boundary that was found last is the next one
        self.unresolved = tuple(group for group in groups_of(rules) if groups.get(group) is None)

    def decide(self, asked: Asked, now: float, *, trial: Callable[[Verdict], None] = lambda verdict: None) -> Grant:
        """Whether the person may have it, at this Unix time; raises Forbidden, with the rule's name where one said so.

        A rule that could match but for a group that the directory cannot find raises Unavailable: whoever the group was
        meant for, guessing "not a member" would let somebody past a deny rule.

        A deny rule with `enforce = false` never decides: where it matches (or cannot be resolved) `trial` hears its
        verdict, for the log, and the rules below it are asked as if it were not there.
        """
        for rule in self._rules:
            verdict = rule.judge(asked, now)
            if verdict.outcome == "no match":
                continue
            if verdict.on_trial:
                trial(verdict)
                continue
            return self._conclude(verdict, now)
        raise Forbidden("no rule lets this person have this")

    def explain(self, asked: Asked, now: float) -> Sequence[Verdict]:
        """Every rule's own verdict in order, also of those that are never reached; none `decides`: refused."""
        verdicts = [rule.judge(asked, now) for rule in self._rules]
        settled = next((v for v in verdicts if v.outcome != "no match" and not v.on_trial), None)
        return [replace(verdict, decides=verdict is settled) for verdict in verdicts]

    def _conclude(self, verdict: Verdict, now: float) -> Grant:
        if verdict.outcome == "unresolved":
            raise Unavailable(f"rule {verdict.rule!r}: {verdict.why}", code="rules-unresolved")
        if verdict.outcome == "deny":
            raise Forbidden(f"rule {verdict.rule!r}: {verdict.why}", rule=verdict.rule)
        return Grant(verdict.rule, self._boundary(now))

    def _boundary(self, now: float) -> float | None:
        """The next boundary of any hours; found anew only when one has passed, as finding it takes 0.2 ms."""
        if not self._hours:
            return None
        begin, end = self._stretch
        if not begin <= now < end:
            end = next_boundary(self._hours, now, self._zone)
            self._stretch = (now, end)
        return end


@dataclass(frozen=True, slots=True)
class _Compiled:
    rule: Rule
    zone: ZoneInfo
    groups: Mapping[str, str]  # identifier -> the name in the file
    missing: tuple[str, ...]
    users: frozenset[str]
    paths: tuple[Glob, ...]
    documents: tuple[Glob, ...]

    def judge(self, asked: Asked, now: float) -> Verdict:
        """This rule alone. Who is asked last: only then can a group that is not resolved matter."""
        against = self._circumstances(asked, now)
        if against:
            return self._verdict("no match", against)
        if not (self.rule.groups or self.rule.users):
            return self._verdict(self._yes, "it is for everybody" if self.rule.everybody else "all that it names is so")
        if fold(asked.person.name) in self.users or fold(asked.person.key) in self.users:
            return self._verdict(self._yes, "it names the user")
        member = next((name for key, name in self.groups.items() if key in asked.person.groups), None)
        if member is not None:
            return self._verdict(self._yes, f"the user is in {member}")
        if self.missing:
            return self._verdict("unresolved", f"the directory has no group {self.missing[0]}")
        return self._verdict("no match", "the user is in none of its groups" if self.groups else "it names other users")

    @property
    def _yes(self) -> Outcome:
        return "deny" if self.rule.deny else "allow"

    def _circumstances(self, asked: Asked, now: float) -> str | None:
        """Why the rule does not apply here and now, whoever asks; None: it does."""
        if self.paths and not _any_match(self.paths, asked.path):
            return "it is about other paths"
        if self.documents and asked.document is None:
            return "it is about documents, and this is none"
        if self.documents and not _any_match(self.documents, asked.document or ""):
            return "it is about other documents"
        if self.rule.networks and not self._is_from(asked.address):
            return f"{asked.address} is in none of its networks"
        if self.rule.hours and not is_within(self.rule.hours, now, self.zone):
            return "it is outside its hours"
        return None

    def _is_from(self, address: str) -> bool:
        """Fails closed: an address that cannot be read is in every denied network, and in no other."""
        try:
            where: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
        except ValueError:
            return self.rule.deny
        if isinstance(where, IPv6Address) and where.ipv4_mapped:
            where = where.ipv4_mapped
        return any(where in network for network in self.rule.networks)

    def _verdict(self, outcome: Outcome, why: str) -> Verdict:
        return Verdict(self.rule.name, outcome, why, on_trial=not self.rule.enforce)


def _compile(rule: Rule, groups: Mapping[str, str | None], zone: ZoneInfo) -> _Compiled:
    resolved = {name: groups.get(name) for name in rule.groups}
    return _Compiled(
        rule,
        zone,
        groups={key: name for name, key in resolved.items() if key is not None},
        missing=tuple(name for name, key in resolved.items() if key is None),
        users=frozenset(map(fold, rule.users)),
        paths=tuple(map(compile_glob, rule.paths)),
        documents=tuple(map(compile_glob, rule.documents)),
    )


def _any_match(patterns: Iterable[Glob], name: str) -> bool:
    folded = fold(name)
    return any(pattern.matches(folded) for pattern in patterns)


# ---------------------------------------------------------------- advice


def warnings(rules: Sequence[Rule]) -> Sequence[str]:
    """Sentences for an administrator about rules that are allowed and probably not meant so."""
    return [
        sentence
        for place, rule in enumerate(rules)
        for sentence in (_widened(rule, rules[place + 1 :]), _hidden(rule, rules[place + 1 :]))
        if sentence
    ]


def _widened(rule: Rule, later: Sequence[Rule]) -> str | None:
    """A rule that gives documents to some people is worth nothing if one below it gives them to others."""
    if rule.deny or not rule.documents:
        return None
    for other in later:
        if other.deny and other.enforce and _covers(other, rule.documents) and not _is_narrow(other):
            return None
        if not other.deny and _covers(other, rule.documents):
            return (
                f"access rule {other.name!r} lets its people open the documents of {rule.name!r} as well "
                f"({', '.join(rule.documents)}); if that is not meant, put a rule with the same documents and "
                "deny = true between them"
            )
    return None


def _hidden(rule: Rule, later: Sequence[Rule]) -> str | None:
    if later and rule.everybody and rule.enforce and not (rule.documents or rule.paths or _is_narrow(rule)):
        return f"access rule {rule.name!r} is for everybody, so no rule below it is ever reached"
    return None


def _covers(rule: Rule, documents: Sequence[str]) -> bool:
    """Whether the rule speaks of these documents; each pattern stands for a name that it would match."""
    patterns = tuple(map(compile_glob, rule.documents))
    named = [fold(document).replace("**", "x").replace("*", "x").replace("?", "x") for document in documents]
    return not patterns or all(any(p.matches(name) for p in patterns) for name in named)


def _is_narrow(rule: Rule) -> bool:
    return bool(rule.groups or rule.users or rule.networks or rule.hours)
