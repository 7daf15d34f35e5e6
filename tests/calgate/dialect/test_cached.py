"""The memory of a dialect: the readings of short requests, each by all parts that it was read from."""

from typing import cast

import pytest

from calgate.dialect.cached import CachedDialect
from calgate.dialect.protocol import Dialect, Use
from calgate.dialect.qlikview import QlikView
from calgate.plugin.errors import BadRequest
from support.qlikview import CALL, update


class Counting(QlikView):
    """Counts its readings."""

    def __init__(self) -> None:
        self.readings = 0

    def classify(self, method: str, target: str, body: bytes = b"", content_type: str = "") -> Use:
        self.readings += 1
        return super().classify(method, target, body, content_type)

    def needs_body(self, method: str, target: str, content_type: str = "") -> int:
        self.readings += 1
        return super().needs_body(method, target, content_type)


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def cached(counting: Counting) -> CachedDialect:
    return CachedDialect(cast(Dialect, counting))


def test_command_that_comes_again_is_read_once(cached: CachedDialect, counting: Counting) -> None:
    uses = [cached.classify("POST", CALL, update("Sales.qvw").encode(), "text/plain") for _ in range(3)]
    assert [use.document for use in uses] == ["sales.qvw"] * 3
    assert counting.readings == 1


def test_each_part_of_a_request_decides(cached: CachedDialect, counting: Counting) -> None:
    body = update("Sales.qvw").encode()
    assert cached.classify("POST", CALL, body, "text/plain").document == "sales.qvw"
    assert cached.classify("POST", CALL, update("Plan.qvw").encode(), "text/plain").document == "plan.qvw"
    assert cached.classify("POST", f"{CALL}?host=QVS@x", body, "text/plain").host == "qvs@x"
    for _ in range(2):  # a refusal is not remembered, so that it is raised each time
        with pytest.raises(BadRequest):
            cached.classify("POST", CALL, body, "text/plain; charset=utf-7")
    assert counting.readings == 5


def test_long_request_is_read_each_time(cached: CachedDialect, counting: Counting) -> None:
    body = update("Sales.qvw", inner="<set/>" * 200).encode()
    for _ in range(2):
        assert cached.classify("POST", CALL, body, "text/plain").document == "sales.qvw"
    assert counting.readings == 2


@pytest.mark.parametrize(("length", "readings"), [(100, 1), (60_000, 2)])
def test_need_of_a_body_is_remembered_for_short_targets_only(
    cached: CachedDialect, counting: Counting, length: int, readings: int
) -> None:
    for _ in range(2):
        cached.needs_body("POST", f"{CALL}?x={'x' * length}")
    assert counting.readings == readings
