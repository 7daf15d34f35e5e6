"""May you have this? What a decision about access gives to those who act on it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grant:
    """Access was decided: yes, by this rule, and until then."""

    rule: str
    until: float | None = None  # Unix time of the next boundary of any `hours` rule; None: none
