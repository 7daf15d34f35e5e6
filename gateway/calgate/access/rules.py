"""The access rules of the settings file: read top to bottom, the first rule that matches decides.

Pure: knows no HTTP, no directory, no store and no license. A CAL is never security, so nothing here depends on one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal
from zoneinfo import ZoneInfo

from calgate.access.hours import is_within, next_boundary
from calgate.access.settings import Rule, groups_of
from calgate.paths import DocumentGlob, Glob, compile_document, compile_glob, fold
from calgate.plugin.access import Grant
from calgate.plugin.errors import Forbidden, Unavailable
from calgate.plugin.identity import Person


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """A user, and the path or document that the request opens."""

    person: Person | None  # None: a request on a route without sign-in
    address: str  # the client's, as seen through trusted proxies
    path: str  # decoded, begins with "/"
    document: str | None  # canonical, `host|document` where the request names the host; None: it opens and uses none


Outcome = Literal["allow", "deny", "no match", "unresolved"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one rule, and the reason."""

    rule: str
    outcome: Outcome
    why: str
    decides: bool = False  # this rule decides the request
    on_trial: bool = False  # `enforce = false`: it decides nothing


class Rules:
    """The rules of a settings file, with their groups resolved."""

    def __init__(self, rules: Sequence[Rule], groups: Mapping[str, str | None], timezone: str) -> None:
        """`groups`: what `Directory.resolve` returned for `groups_of(rules)`. `timezone`: an IANA name, for `hours`."""
        self._zone = ZoneInfo(timezone)
        self._rules = tuple(_compile(rule, groups, self._zone) for rule in rules)
        self._hours = tuple(period for rule in rules for period in rule.hours)
        self._boundary_valid = (0.0, 0.0)  # the time for which the last boundary that was found is the next one
        self.unresolved = tuple(group for group in groups_of(rules) if groups.get(group) is None)

    def decide(
        self, request: AccessRequest, now: float, *, trial: Callable[[Verdict], None] = lambda verdict: None
    ) -> Grant:
        """Returns the grant at this Unix time; raises Forbidden, with the name of the rule that refuses, if any does.

        A rule that would match but for a group that the directory cannot find raises Unavailable: to guess "not a
        member" could let a user past a deny rule.

        A deny rule with `enforce = false` never decides: where it matches (or cannot be resolved), `trial` is called
        with its verdict, for the log, and the rules below it decide as if it were not there.
        """
        for rule in self._rules:
            verdict = rule.judge(request, now)
            if verdict.outcome == "no match":
                continue
            if verdict.on_trial:
                trial(verdict)
                continue
            return self._conclude(verdict, now)
        raise Forbidden("no rule allows this user to open this")

    def explain(self, request: AccessRequest, now: float) -> Sequence[Verdict]:
        """Returns every rule's own verdict in order, unreached rules included; refused where none `decides`."""
        verdicts = [rule.judge(request, now) for rule in self._rules]
        settled = next((v for v in verdicts if v.outcome != "no match" and not v.on_trial), None)
        return [replace(verdict, decides=verdict is settled) for verdict in verdicts]

    def could_admit(self, person: Person) -> bool:
        """Returns whether some rule lets the person open anything, at any time and from any address.

        A rule with a group that the directory cannot find counts as one that could.
        """
        for rule in self._rules:
            if not rule.could_concern(person):
                continue
            if not rule.rule.deny:
                return True
            if rule.is_unconditional and rule.rule.enforce:
                return False
        return False

    def _conclude(self, verdict: Verdict, now: float) -> Grant:
        if verdict.outcome == "unresolved":
            raise Unavailable(f"rule {verdict.rule!r}: {verdict.why}", code="rules-unresolved")
        if verdict.outcome == "deny":
            raise Forbidden(f"rule {verdict.rule!r}: {verdict.why}", rule=verdict.rule)
        return Grant(verdict.rule, self._boundary(now))

    def _boundary(self, now: float) -> float | None:
        """Returns the next boundary of any hours; it is cached until it has passed, since finding it takes 0.2 ms."""
        if not self._hours:
            return None
        begin, end = self._boundary_valid
        if not begin <= now < end:
            end = next_boundary(self._hours, now, self._zone)
            self._boundary_valid = (now, end)
        return end


@dataclass(frozen=True, slots=True)
class _Compiled:
    rule: Rule
    zone: ZoneInfo
    groups: Mapping[str, str]  # identifier -> the name in the file
    missing: tuple[str, ...]
    users: frozenset[str]
    paths: tuple[Glob, ...]
    documents: tuple[DocumentGlob, ...]

    def judge(self, request: AccessRequest, now: float) -> Verdict:
        """Judges by this rule alone. Users and groups come last: only then can an unresolved group matter."""
        against = self._circumstances(request, now)
        if against:
            return self._verdict("no match", against)
        person = request.person
        if person is None:
            return self._judge_anonymous()
        if self.rule.anonymous:
            return self._verdict("no match", "it is for requests without sign-in")
        if not (self.rule.groups or self.rule.users):
            return self._verdict(
                self._yes, "it is for everybody" if self.rule.everybody else "all its conditions are met"
            )
        if fold(person.name) in self.users or fold(person.key) in self.users:
            return self._verdict(self._yes, "it names the user")
        member = next((name for key, name in self.groups.items() if key in person.groups), None)
        if member is not None:
            return self._verdict(self._yes, f"the user is in {member}")
        if self.missing:
            return self._verdict("unresolved", f"the directory has no group {self.missing[0]}")
        return self._verdict("no match", "the user is in none of its groups" if self.groups else "it names other users")

    def _judge_anonymous(self) -> Verdict:
        """Fails closed: a rule that denies everybody denies strangers too; only a rule with `anonymous` allows them."""
        if self.rule.anonymous:
            return self._verdict(self._yes, "it is for requests without sign-in")
        if self.rule.deny and not (self.rule.groups or self.rule.users):
            return self._verdict("deny", "all its conditions are met")
        return self._verdict("no match", "nobody is signed in, and the rule does not say anonymous = true")

    @property
    def is_unconditional(self) -> bool:
        """Whether the rule holds for every path and document, at all times, from everywhere."""
        return not (self.paths or self.documents or self.rule.networks or self.rule.hours)

    def could_concern(self, person: Person) -> bool:
        """Whether the rule names the person, everybody, or (if it allows) a group that cannot be resolved."""
        if self.rule.anonymous:
            return False
        if not (self.rule.groups or self.rule.users):
            return True
        is_named = fold(person.name) in self.users or fold(person.key) in self.users
        is_member = not person.groups.isdisjoint(self.groups)
        return is_named or is_member or (bool(self.missing) and not self.rule.deny)

    @property
    def _yes(self) -> Outcome:
        return "deny" if self.rule.deny else "allow"

    def _circumstances(self, request: AccessRequest, now: float) -> str | None:
        """Returns why the rule does not apply to any user here and now; None if it does."""
        if self.paths and not self._is_at(request.path):
            return "it is about other paths"
        if self.documents and request.document is None:
            return "it is about documents, and the request opens none"
        if self.documents and not self._is_about(request.document or ""):
            return "it is about other documents"
        if self.rule.networks and not self._is_from(request.address):
            return f"{request.address} is in none of its networks"
        if self.rule.hours and not is_within(self.rule.hours, now, self.zone):
            return "it is outside its hours"
        return None

    def _is_at(self, path: str) -> bool:
        """Fails closed: a server may take `/a` and `/a/` for the same page, but only deny rules assume so."""
        if _any_match(self.paths, path):
            return True
        other = path.rstrip("/") if path.endswith("/") else f"{path}/"
        return self.rule.deny and _any_match(self.paths, other)

    def _is_about(self, document: str) -> bool:
        """Fails closed: a request without a host may be about a document on any host, but only deny rules assume so."""
        folded = fold(document)
        return any(pattern.matches(folded, on_unknown_host=self.rule.deny) for pattern in self.documents)

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
        documents=tuple(map(compile_document, rule.documents)),
    )


def _any_match(patterns: Iterable[Glob], name: str) -> bool:
    folded = fold(name)
    return any(pattern.matches(folded) for pattern in patterns)
