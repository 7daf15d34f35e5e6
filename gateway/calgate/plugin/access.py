"""May you have this? The result of a positive access decision."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grant:
    """Access is granted, by this rule and until this time."""

    rule: str
    until: float | None = None  # Unix time of the next boundary of any `hours` rule; None if there is none
