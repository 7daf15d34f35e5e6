"""Who the users are: excluded ones, equal ones, probable robots and more people like them."""

import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.history import History, SourceError
from calgate_cal.planner.wishes import Visit, Wish

_ROBOT_HOURS = 22  # of 24: a person who comes at that many different hours has not been seen
_ROBOT_DAYS = 6 / 7
_AGAIN_AT_LEAST = 100  # visits after a user's first, before their machines say anything
_ELSEWHERE = 0.9  # of them


def account(user: str) -> str:
    """Returns the account of CORP\\ann or ann@corp.example."""
    return user.rpartition("\\")[2].partition("@")[0]


def matches(user: str, patterns: Iterable[str]) -> bool:
    """Whether a user is one of these names or patterns, in any case, with the domain or without."""
    folded = [pattern.casefold() for pattern in patterns]
    return any(fnmatchcase(name, _literal(pattern)) for pattern in folded for name in (user, account(user)))


def _literal(pattern: str) -> str:
    return pattern.replace("[", "[[]")  # only * and ? are special


def exclude(history: History, patterns: Sequence[str]) -> list[str]:
    """Leaves users out. Returns their names."""
    everybody = {visit.user for visit in history.visits} | {denial.user for denial in history.denials}
    gone = {user for user in everybody if matches(user, patterns)}
    if gone:
        history.visits = [visit for visit in history.visits if visit.user not in gone]
        history.denials = [denial for denial in history.denials if denial.user not in gone]
    return sorted(history.names.get(user, user) for user in gone)


def pairs(text: str, file: str) -> Mapping[str, str]:
    """Reads lines such as `ann@corp.example = CORP\\ann`. Raises SourceError."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        one, sign, other = line.partition("=")
        if not sign or not one.strip() or not other.strip():
            raise SourceError(f"{file}, line {number}: write two names with = between them")
        found[one.strip().casefold()] = other.strip().casefold()
    return found


def unite(history: History, same: Mapping[str, str]) -> None:
    """Lets two names of one user be one."""
    if same:
        history.visits = [
            visit._replace(user=same[visit.user]) if visit.user in same else visit for visit in history.visits
        ]
        history.denials = [
            denial._replace(user=same[denial.user]) if denial.user in same else denial for denial in history.denials
        ]


def forget_machines(history: History) -> bool:
    """Takes users alone if hardly a session comes from a machine that its user had before; returns whether it did.

    Such a session log has a name for each session in place of the machine: two sessions of a user would never share a
    CAL, as they do in the same browser.
    """
    if history.source != "qlikview":
        return False
    users = {visit.user for visit in history.visits}
    again = len(history.visits) - len(users)  # visits after a user's first
    elsewhere = len({(visit.user, visit.machine) for visit in history.visits}) - len(users)
    if again < _AGAIN_AT_LEAST or elsewhere < _ELSEWHERE * again:
        return False
    history.visits = [visit._replace(machine="") for visit in history.visits]
    return True


def robots(visits: Iterable[Visit], calendar: Calendar) -> list[str]:
    """Returns users who come at all hours, on at least 6 days of 7."""
    hours: dict[str, set[int]] = defaultdict(set)
    days: dict[str, set[int]] = defaultdict(set)
    for visit in visits:
        slot = calendar.slot(visit.begin)
        hours[visit.user].add(slot.hour)
        days[visit.user].add(slot.day)
    return sorted(
        user
        for user, present in days.items()
        if len(hours[user]) >= _ROBOT_HOURS
        and max(present) - min(present) >= 6
        and len(present) >= (max(present) - min(present) + 1) * _ROBOT_DAYS
    )


def grow(wishes: Sequence[Wish], share: float, calendar: Calendar, seed: int) -> list[Wish]:
    """Adds that share of people, each drawn from the present ones and moved by some weeks."""
    own: dict[str, list[Wish]] = defaultdict(list)
    for wish in wishes:
        own[wish.user].append(wish)
    users = sorted(own)
    weeks = [calendar.slot(wish.begin).week for wish in (wishes[0], wishes[-1])] if wishes else [0, 0]
    count = weeks[1] - weeks[0] + 1
    generator = random.Random(seed)  # noqa: S311 - a sample, no secret
    added: list[Wish] = []
    for number in range(round(len(users) * share)):
        user, by = generator.choice(users), generator.randrange(1, count) if count > 1 else 0
        added += [_moved(wish, by, weeks[0], count, f"{user} +{number + 1}", calendar) for wish in own[user]]
    return sorted([*wishes, *added])


def _moved(wish: Wish, by: int, first: int, count: int, user: str, calendar: Calendar) -> Wish:
    day = calendar.slot(wish.begin).day
    then = (first + (day // 7 - first + by) % count) * 7 + day % 7
    shift = calendar.midnight(then) - calendar.midnight(day)
    holder = (user, wish.holder[1])
    return wish._replace(begin=wish.begin + shift, used=wish.used + shift, user=user, holder=holder)


def of_one_document(wishes: Iterable[Wish]) -> set[str]:
    """Returns users who opened one document only: a Document CAL serves them as a Named CAL does."""
    documents: dict[str, set[str]] = defaultdict(set)
    for wish in wishes:
        documents[wish.user].add(wish.document)
    return {user for user, names in documents.items() if len(names) == 1 and not names & {"", "*"}}


def ranked(hours: Mapping[str, float], among: Collection[str] | None = None) -> list[str]:
    """Returns users by the hours that they hold a CAL, most first.

    Ranked by hours, the same remaining pool takes a quarter to two thirds as many Named CALs as ranked by visits.
    """
    return sorted((user for user in hours if among is None or user in among), key=lambda user: (-hours[user], user))
