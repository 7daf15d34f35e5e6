"""Document CALs: allocated to a document, then given to one user for it."""

from collections.abc import Awaitable, Callable

import pytest

from cal_model.license import DAY, Lab
from calgate_cal.admin import AdminError

License = Callable[..., Awaitable[Lab]]


async def test_document_cal_serves_one_user_on_one_document(license: License) -> None:
    q = await license(document={"in_license": 2})
    await q.license_admin.allocate("sales.qvw", 1)
    await q.license_admin.assign("alice", "sales.qvw")
    assert [await q.open("alice"), await q.open("alice", client="laptop")] == ["document", "document"]
    assert (await q.denial("alice", "hr.qvw")).pools[0].note == "not-allocated"
    assert (await q.denial("bob")).pools[0].note == "not-assigned"


async def test_document_cals_are_denied_until_an_administrator_allocates_them(license: License) -> None:
    q = await license(document={"in_license": 2, "dynamic": True})
    assert (await q.denial("alice")).pools[0].note == "not-allocated"
    with pytest.raises(AdminError, match=r"no Document CALs are allocated to sales\.qvw; `allocate` comes first"):
        await q.license_admin.assign("alice", "sales.qvw")


async def test_allocations_together_cannot_exceed_the_limit(license: License) -> None:
    q = await license(document={"in_license": 3})
    await q.license_admin.allocate("a.qvw", 2)
    with pytest.raises(AdminError, match="too many Document CALs allocated: it would be 4 in all, and the limit is 3"):
        await q.license_admin.allocate("b.qvw", 2)
    await q.license_admin.allocate("a.qvw", 1)
    await q.license_admin.allocate("b.qvw", 2)
    assert (await q.license_admin.state()).allocations == {"a.qvw": 1, "b.qvw": 2}


async def test_dynamic_document_cals_are_assigned_to_users_who_open_the_document_while_the_allocation_lasts(
    license: License,
) -> None:
    q = await license(document={"in_license": 3, "dynamic": True})
    await q.license_admin.allocate("sales.qvw", 2)
    assert [await q.open(user) for user in ("alice", "bob", "carol")] == ["document", "document", "no-cal"]
    await q.at(1000 * DAY)
    assert await q.open("alice") == "document"


async def test_dynamic_assignment_is_switched_for_all_documents_or_for_one(license: License) -> None:
    q = await license(document={"in_license": 4})
    for document in ("a.qvw", "b.qvw"):
        await q.license_admin.allocate(document, 2)
    await q.license_admin.dynamic("document", on=True)
    await q.license_admin.dynamic("document", on=False, document="b.qvw")
    assert [await q.open("alice", "a.qvw"), await q.open("alice", "b.qvw")] == ["document", "no-cal"]
    await q.license_admin.dynamic("document", on=None, document="b.qvw")
    assert await q.open("alice", "b.qvw") == "document"


async def test_used_document_cal_is_quarantined_and_occupied_after_removal(license: License) -> None:
    q = await license(document={"in_license": 1, "dynamic": True, "quarantine": "1d"})
    await q.license_admin.allocate("sales.qvw", 1)
    await q.open("alice")
    await q.license_admin.remove("alice", "sales.qvw")
    assert (await q.denial("alice")).pools[0].note == "quarantined"
    assert (await q.denial("bob")).pools[0].note == "full"
    assert await q.license_admin.undo("alice", "sales.qvw") == "CORP\\alice"
    assert await q.open("alice") == "document"
    await q.license_admin.remove("alice", "sales.qvw")
    await q.at(1 * DAY)
    assert await q.open("bob") == "document"


async def test_allocation_below_the_number_in_use_takes_nothing_away(license: License) -> None:
    q = await license(document={"in_license": 2, "dynamic": True})
    await q.license_admin.allocate("sales.qvw", 2)
    assert [await q.open("alice"), await q.open("bob")] == ["document", "document"]
    await q.license_admin.allocate("sales.qvw", 1)
    assert [await q.open("alice"), await q.open("bob"), await q.open("carol")] == ["document", "document", "no-cal"]
