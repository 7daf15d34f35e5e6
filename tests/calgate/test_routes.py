"""The routes of a settings file, and how they affect each other."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from calgate.plugin import Grant, Lease, Person
from calgate.routes import Route, authorization_faults, find_route, finder, sign_in_path


@dataclass
class Passing:
    authorization: str = "pass"


@dataclass
class SetsAuthorization:
    owned: frozenset[str] = field(default_factory=lambda: frozenset({"Authorization"}))
    per_person: bool = True

    async def headers(self, person: Person, grant: Grant, lease: Lease | None) -> dict[str, str]:
        return {"Authorization": "Bearer ours"}


def test_passed_authorization_beside_a_sign_on_that_sets_it_is_a_fault() -> None:
    assert authorization_faults([Passing("strip"), Passing()], {0: SetsAuthorization()}) == []
    (fault,) = authorization_faults([Passing("strip"), Passing()], {1: SetsAuthorization()})
    assert fault.startswith('routes[2].authorization: "pass" cannot be combined')
    assert authorization_faults([Passing()], {0: SetsAuthorization(frozenset({"x-user"}))}) == []


def route(number: int, host: str, path: str) -> Route:
    parts: Any = SimpleNamespace()
    return Route(number, host, path, None, None, None, parts)


@pytest.mark.parametrize(
    ("host", "path", "number"),
    [
        ("bi.example", "/docs/a", 0),
        ("bi.example:8443", "/DOCS", 0),
        ("bi.example.", "/docs/a", 0),
        ("bi.example.:443", "/docs/a", 0),
        ("bi.example..", "/docs/a", 2),
        ("bi.example", "/docsx", 2),
        ("other.example", "/docs/a", 2),
        ("other.example", "/" + "a" * 600, 2),
    ],
)
def test_remembered_route_is_the_one_that_is_found_each_time(host: str, path: str, number: int) -> None:
    routes = [route(0, "bi.example", "/docs"), route(1, "bi.example", "/docs/b"), route(2, "", "/")]
    find = finder(routes)
    for _ in range(2):
        found = find(host, path)
        assert found is find_route(routes, host, path)
        assert cast(Route, found).number == number


def test_long_host_or_path_is_not_remembered() -> None:
    asked: list[str] = []

    class Noting(Route):
        def covers(self, host: str, path: str) -> bool:
            asked.append(path)
            return False

    parts: Any = SimpleNamespace()
    find = finder([Noting(0, "", "/", None, None, None, parts)])
    for path in ("/short", "/" + "a" * 600):
        assert [find("h", path), find("h", path)] == [None, None]
    assert asked == ["/short", "/" + "a" * 600, "/" + "a" * 600]


def test_sign_in_path_is_that_of_a_route_of_the_host_which_requests_reach() -> None:
    def signing(host: str, path: str, license: str | None = None, *, is_public: bool = False) -> Route:
        return replace(route(0, host, path), license=license, is_public=is_public)

    public, start, licensed = signing("", "/public", "q", is_public=True), signing("", "/"), signing("bi", "/docs", "q")
    assert sign_in_path([public], "bi") == ""
    assert sign_in_path([public, start], "bi:8443") == "/"
    assert sign_in_path([public, licensed, start], "bi") == "/docs", "the route with a license comes first"
    assert sign_in_path([public, licensed, start], "other") == "/"
    assert sign_in_path([public, start, licensed], "bi") == "/", "the other is hidden"
