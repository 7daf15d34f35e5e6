"""Which user an administrator means: names that changed, names that two users have, users who left the directory."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from cal_model.license import DAY, Lab
from calgate.plugin import AccountRefused, Claimant, Identity, Person, Unavailable
from calgate_cal.admin import AdminError
from calgate_cal.names import is_named, normalize
from support.directory import People

License = Callable[..., Awaitable[Lab]]

OLD, NEW = "S-1-5-21-1-2-3-1105", "S-1-5-21-1-2-3-2210"


class Accounts(People):
    """The accounts of a domain by name; the test renames, deletes and creates them."""

    def __init__(self, **keys: str) -> None:
        self.keys = keys
        self.disabled: set[str] = set()
        self.is_away = False

    async def look_up(self, identity: Identity) -> Person | None:
        if self.is_away:
            raise Unavailable("no domain controller answers")
        account = next((name for name, key in self.keys.items() if key == identity.sid), identity.account.casefold())
        if account in self.disabled:
            raise AccountRefused("the account is disabled", code="account-disabled")
        key = self.keys.get(account)
        return Person(key, "CORP", account, account.title(), frozenset()) if key else None


async def named(license: License, **keys: str) -> tuple[Lab, Accounts]:
    """A license in which ivan, whose account is OLD, has used a Named CAL."""
    accounts = Accounts(**keys)
    q = await license(accounts, named={"in_license": 3, "dynamic": True}, session={"in_license": 3})
    await use(q, OLD, "ivan")
    return q, accounts


async def use(q: Lab, key: str, account: str) -> None:
    lease = await q.allocator.claim("q", Claimant(key, f"CORP\\{account}", "pc"), "d", reference=f"r-{account}")
    await q.allocator.settle(lease, served=True)


async def states(q: Lab) -> dict[str, str]:
    return {holder.user: holder.state for holder in await q.holders()}


@pytest.mark.parametrize("name", ["CORP\\igor", "igor", "igor@corp.example", "CORP\\ivan", "ivan", OLD, OLD.lower()])
async def test_renamed_user_is_found_by_every_name_they_have_or_had(license: License, name: str) -> None:
    q, accounts = await named(license, ivan=OLD)
    accounts.keys = {"igor": OLD}
    await use(q, OLD, "igor")
    assert [(holder.name, list(holder.names)) for holder in await q.holders()] == [("CORP\\igor", ["CORP\\ivan"])]
    assert (await q.license_admin.remove(name))[0] == "CORP\\igor"
    assert await states(q) == {OLD: "quarantined"}


async def test_renamed_user_who_has_not_come_back_is_found_by_the_new_name(license: License) -> None:
    q, accounts = await named(license, ivan=OLD)
    accounts.keys = {"igor": OLD}
    assert (await q.license_admin.remove("CORP\\igor"))[0] == "CORP\\igor"


async def test_list_has_the_present_name_of_a_renamed_user_who_has_not_come_back(license: License) -> None:
    q, accounts = await named(license, ivan=OLD)
    accounts.keys = {"igor": OLD}
    (holder,) = await q.license_admin.with_current_names(await q.holders())
    assert (holder.name, list(holder.names)) == ("CORP\\igor", ["CORP\\ivan"])
    accounts.is_away = True
    (holder,) = await q.license_admin.with_current_names(await q.holders())
    assert holder.name == "CORP\\ivan"


async def test_account_created_again_is_told_from_the_deleted_one_and_nothing_is_taken(license: License) -> None:
    q, accounts = await named(license, ivan=OLD)
    accounts.keys = {"ivan": NEW}
    with pytest.raises(AdminError, match=f"2 users are called ivan: {OLD} .*{NEW} .*holds no CAL"):
        await q.license_admin.remove("ivan")
    await use(q, NEW, "ivan")
    assert await states(q) == {OLD: "held", NEW: "held"}
    with pytest.raises(AdminError, match=f"{OLD} .*not in the directory.*holds Named.*{NEW} .*in the directory"):
        await q.license_admin.remove("CORP\\ivan")
    await q.license_admin.remove(OLD)
    assert await states(q) == {OLD: "quarantined", NEW: "held"}
    await q.license_admin.remove(NEW)
    assert await states(q) == {OLD: "quarantined", NEW: "quarantined"}


@pytest.mark.parametrize("name", ["ivan", "CORP\\ivan", "ivan@corp.example", OLD])
async def test_holder_whose_account_was_deleted_loses_the_cal(license: License, name: str) -> None:
    q, accounts = await named(license, ivan=OLD)
    accounts.keys = {}
    assert (await q.license_admin.remove(name))[0] == "CORP\\ivan"
    assert await q.license_admin.undo(name) == "CORP\\ivan"


async def test_holder_whose_account_is_disabled_loses_the_cal(license: License) -> None:
    q, accounts = await named(license, ivan=OLD)
    accounts.disabled = {"ivan"}
    assert (await q.license_admin.remove("ivan"))[0] == "CORP\\ivan"


async def test_name_is_not_guessed_while_the_directory_is_away_and_a_key_needs_no_guess(license: License) -> None:
    q, accounts = await named(license, ivan=OLD)
    accounts.is_away = True
    with pytest.raises(Unavailable):
        await q.license_admin.remove("ivan")
    assert (await q.license_admin.remove(OLD))[0] == "CORP\\ivan"


async def test_session_cal_of_a_renamed_user_is_ended_by_either_name(license: License) -> None:
    accounts = Accounts(ivan=OLD)
    q = await license(accounts, session={"in_license": 2})
    await use(q, OLD, "ivan")
    accounts.keys = {"igor": OLD}
    (ended,) = await q.license_admin.end("CORP\\igor", None, force=True)
    assert ended[0].user == OLD
    await use(q, OLD, "igor")
    assert len(await q.license_admin.end("CORP\\ivan", None, force=True)) == 1


async def test_equal_accounts_of_two_domains_are_told_apart_by_the_domain(license: License) -> None:
    q = await license(Accounts(ivan=OLD), named={"in_license": 2, "dynamic": True})
    for key, domain in ((OLD, "CORP"), (NEW, "PARTNER")):
        lease = await q.allocator.claim("q", Claimant(key, f"{domain}\\ivan", "pc"), "d", reference=domain)
        await q.allocator.settle(lease, served=True)
    with pytest.raises(AdminError, match="2 users are called ivan"):
        await q.license_admin.remove("ivan")
    await q.at(DAY)
    assert (await q.license_admin.remove("CORP\\ivan"))[0] == "CORP\\ivan"
    assert await states(q) == {OLD: "quarantined", NEW: "held"}


@pytest.mark.parametrize(
    ("written", "is_meant"),
    [
        ("CORP\\svc-monitor", True),
        ("corp\\SVC-Monitor", True),
        ("svc-monitor", True),
        (" svc-monitor ", True),
        ("svc-monitor@corp.example", True),
        ("corp.example\\svc-monitor", True),
        ("CORP/svc-monitor", True),
        (" CORP \\ svc-monitor ", True),
        (f" {OLD} ", True),
        (OLD.lower(), True),
        ("PARTNER\\svc-monitor", False),
        ("svc-monitor@partner.example", False),
        ("svc", False),
    ],
)
def test_written_name_means_a_user_in_every_usual_form(written: str, is_meant: bool) -> None:
    monitor = Claimant(OLD, "CORP\\svc-monitor", "pc")
    assert is_named({normalize(written)}, monitor) is is_meant
    assert not is_named({normalize(written)}, replace(monitor, user=NEW, name="CORP\\alice"))


@pytest.mark.parametrize("written", ["corp.example\\ivan", "ivan@corp.example", "ivan"])
def test_user_of_a_domain_with_a_dot_is_meant_by_every_usual_form(written: str) -> None:
    assert is_named({normalize(written)}, Claimant("corp.example\\ivan", "corp.example\\ivan", "pc"))


@pytest.mark.parametrize("written", ["svc-monitor", "CORP\\svc-monitor", "svc-monitor@corp.example"])
async def test_exempt_and_capped_users_are_read_in_every_usual_form(license: License, written: str) -> None:
    q = await license(session={"in_license": 3, "max": [{"user": written, "cals": 1}]})
    assert [await q.open("svc-monitor", client=pc) for pc in ("one", "two")] == ["session", "no-cal"]
    assert await q.open("alice") == "session"
    exempt = await license(session={"in_license": 1}, exempt={"users": [written]})
    assert (await exempt.claim("svc-monitor")).kind == "exempt"
