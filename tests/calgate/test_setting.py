"""The kinds of value of a settings file: what cannot be meant is refused, in a sentence."""

import math

import pytest
from pydantic import ValidationError

from calgate.balance import HealthSection
from calgate.config import Route
from calgate.session import SessionSection
from calgate.setting import Section
from calgate_negotiate.guard import Limit

UPSTREAM = {"upstreams": ["http://qvws1.corp.example"]}


@pytest.mark.parametrize("span", [-5.0, math.inf, math.nan, "5000000w", "-5s", "0.5", 15])
def test_a_duration_is_neither_negative_nor_endless(span: object) -> None:
    with pytest.raises(ValidationError, match="a duration is"):
        Route.model_validate(UPSTREAM | {"answer_timeout": span})


@pytest.mark.parametrize(
    ("section", "key"),
    [
        (SessionSection, "lifetime"),
        (SessionSection, "idle"),
        (HealthSection, "every"),
        (HealthSection, "timeout"),
        (Limit, "within"),
        (Limit, "wait"),
        (Route, "connect_timeout"),
        (Route, "answer_timeout"),
        (Route, "websocket_idle"),
    ],
)
def test_what_must_take_some_time_is_not_zero(section: type[Section], key: str) -> None:
    given: dict[str, object] = {Limit: {"failures": 4}, Route: UPSTREAM}.get(section, {})
    with pytest.raises(ValidationError, match="greater than 0"):
        section.model_validate(given | {key: "0s"})


def test_a_guard_allows_one_failure_at_least() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Limit.model_validate({"failures": 0})
