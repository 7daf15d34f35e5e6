"""The vendor's order of consumption as a table: from what a user has and what is free to the CAL that serves them."""

from collections.abc import Awaitable, Callable

import pytest

from cal_model.license import MINUTE, Lab

License = Callable[..., Awaitable[Lab]]

OWN_NAMED, OWN_DOCUMENT, OWN_SESSION, OPEN_HOUR = "own Named", "own Document", "own Session", "own Usage hour"
NEW_NAMED, NEW_DOCUMENT, NEW_SESSION, NEW_USAGE = "Named free", "Document free", "Session free", "Usage free"
EVERYTHING = [OWN_NAMED, OWN_DOCUMENT, NEW_NAMED, NEW_DOCUMENT, OWN_SESSION, NEW_SESSION, OPEN_HOUR, NEW_USAGE]

TABLE = [
    (EVERYTHING, "named"),
    (EVERYTHING[1:], "document"),
    (EVERYTHING[2:], "named"),
    (EVERYTHING[3:], "document"),
    (EVERYTHING[4:], "session"),
    ([NEW_SESSION, OPEN_HOUR, NEW_USAGE], "session"),
    ([OPEN_HOUR, NEW_USAGE], "usage"),
    ([NEW_USAGE], "usage"),
    ([], "no-cal"),
    ([OWN_DOCUMENT, NEW_NAMED], "document"),
    ([OWN_SESSION, NEW_NAMED], "named"),
    ([OWN_SESSION, NEW_DOCUMENT], "document"),
    ([OWN_SESSION, OPEN_HOUR], "session"),
]


@pytest.mark.parametrize(("has", "kind"), TABLE, ids=lambda value: value if isinstance(value, str) else "+".join(value))
async def test_claim_is_served_by_the_first_step_that_can_serve_it(has: list[str], kind: str, license: License) -> None:
    q = await license(
        named={"in_license": 2}, document={"in_license": 2}, session={"in_license": 2}, usage={"in_license": 2}
    )
    if OPEN_HOUR in has:
        await q.license_admin.limit("session", 0)
        assert await q.open("alice") == "usage"
        await q.license_admin.limit("session", None)
    if OWN_SESSION in has:
        assert await q.open("alice", "another.qvw") == "session"
    if OWN_NAMED in has:
        await q.license_admin.assign("alice")
    if OWN_DOCUMENT in has:
        await q.license_admin.allocate("sales.qvw", 2)
        await q.license_admin.assign("alice", "sales.qvw")
    await q.license_admin.dynamic("named", NEW_NAMED in has)
    if NEW_DOCUMENT in has:
        await q.license_admin.allocate("sales.qvw", 2)
        await q.license_admin.dynamic("document", on=True)
    if NEW_SESSION not in has:
        await q.license_admin.limit("session", 1 if OWN_SESSION in has else 0)
    if NEW_USAGE not in has:
        await q.license_admin.limit("usage", 1 if OPEN_HOUR in has else 0)
    assert await q.open("alice") == kind


async def test_claim_never_takes_two_cals(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True}, session={"in_license": 1}, usage={"in_license": 1})
    for minute in range(3):
        await q.at(minute * MINUTE)
        assert await q.open("alice") == "named"
    assert await q.occupied() == {"named": 1}
