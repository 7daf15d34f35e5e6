"""Warnings about access rules that are valid but probably not intended. Pure."""

from collections.abc import Sequence

from calgate.access.settings import Rule
from calgate.paths import compile_document, fold


def warnings(rules: Sequence[Rule]) -> Sequence[str]:
    """Returns a sentence for each rule that is valid but probably not intended."""
    if not rules:
        return ["access: there is no rule, so every request is refused; add an [[access]] rule"]
    return [
        sentence
        for index, rule in enumerate(rules)
        for later in [[other for other in rules[index + 1 :] if not other.anonymous]]  # those see no signed-in user
        for sentence in (_widened(rule, later), _hidden(rule, later))
        if sentence
    ]


def _widened(rule: Rule, later: Sequence[Rule]) -> str | None:
    """Finds a rule whose documents a rule below it opens to other users."""
    if rule.deny or not rule.documents:
        return None
    for other in later:
        if other.deny and other.enforce and _covers(other, rule.documents) and not _is_narrow(other):
            return None
        if not other.deny and _covers(other, rule.documents):
            return (
                f"access rule {other.name!r} also lets its users open the documents of {rule.name!r} "
                f"({', '.join(rule.documents)}); if that is not intended, add a rule with the same documents and "
                "deny = true between them"
            )
    return None


def _hidden(rule: Rule, later: Sequence[Rule]) -> str | None:
    if later and rule.everybody and rule.enforce and not (rule.documents or rule.paths or _is_narrow(rule)):
        return f"access rule {rule.name!r} is for everybody, so no rule below it is ever reached"
    return None


def _covers(rule: Rule, documents: Sequence[str]) -> bool:
    """Whether the rule covers these documents; each pattern stands for a name that it would match."""
    patterns = tuple(map(compile_document, rule.documents))
    named = [fold(document).replace("**", "x").replace("*", "x").replace("?", "x") for document in documents]
    return not patterns or all(any(p.matches(name, on_unknown_host=False) for p in patterns) for name in named)


def _is_narrow(rule: Rule) -> bool:
    return bool(rule.groups or rule.users or rule.networks or rule.hours)
