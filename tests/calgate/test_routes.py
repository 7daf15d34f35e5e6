"""What the routes of a settings file mean together."""

from dataclasses import dataclass, field

from calgate.plugin import Grant, Lease, Person
from calgate.routes import authorization_faults


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
