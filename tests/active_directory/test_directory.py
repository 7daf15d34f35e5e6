"""The directory plugin against a real domain controller."""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from calgate.plugin.errors import AccountRefused, Unavailable
from calgate.plugin.identity import Identity, Match, PeopleSearch
from calgate_ldap.pool import PAUSE
from support.certificates import Authority
from support.domain import BASE, DOMAIN, Lab
from support.domain_directory import directory, named


@pytest.fixture
def someone(domain: Lab) -> Iterator[str]:
    """An account for one test to change."""
    domain.samba_tool("user", "create", "someone", "P4ss-word-1!")
    yield "someone"
    domain.samba_tool("user", "delete", "someone")


@pytest.mark.parametrize("url", [f"ldaps://dc1.{DOMAIN}", f"ldap://dc1.{DOMAIN}"])
async def test_nested_domain_local_universal_and_primary_groups_count(domain: Lab, url: str) -> None:
    async with directory(domain, servers=[url]) as active_directory:
        alice = await active_directory.look_up(named("alice"))
        names = ["app-users", "CORP\\division-1", "dl-app", "uni-app", "Domain Users", "BUILTIN\\Users", "app-admins"]
        sids = await active_directory.resolve(names)
        assert alice is not None
        assert [name for name in names if sids[name] not in alice.groups] == ["app-admins"]
        assert await active_directory.look_up(Identity("", "", "kerberos", sid=alice.key)) == alice


async def test_group_is_found_by_its_dn(domain: Lab) -> None:
    async with directory(domain) as active_directory:
        dn = f"CN=app-users,CN=Users,{BASE}"
        found = await active_directory.resolve([dn, "app-users"])
        assert found[dn] == found["app-users"] is not None


async def test_user_in_a_thousand_groups_has_them_all(domain: Lab) -> None:
    async with directory(domain) as active_directory:
        person = await active_directory.look_up(named("many1000"))
        assert person is not None
        assert len(person.groups) > 1000


async def test_name_outside_ascii_is_spelled_as_in_the_directory(domain: Lab) -> None:
    async with directory(domain) as active_directory:
        person = await active_directory.look_up(named("BJÖRN"))
        assert person is not None
        assert (person.account, person.display_name) == ("björn", "Müller")


@pytest.mark.parametrize(
    ("account", "code"),
    [("disabled", "account-disabled"), ("expired", "account-expired"), ("locked", "account-locked")],
)
async def test_account_state_is_refused_with_its_code(domain: Lab, account: str, code: str) -> None:
    async with directory(domain) as active_directory:
        with pytest.raises(AccountRefused) as caught:
            await active_directory.look_up(named(account))
        assert caught.value.code == code


async def test_change_takes_effect_after_the_cache_time(domain: Lab, someone: str) -> None:
    async with directory(domain, lifetime=0) as active_directory:
        group = (await active_directory.resolve(["app-admins"]))["app-admins"]
        before = await active_directory.look_up(named(someone))
        domain.samba_tool("group", "addmembers", "app-admins", someone)
        after = await active_directory.look_up(named(someone))
        assert before is not None
        assert after is not None
        assert after.groups - before.groups == {group}
        domain.samba_tool("user", "disable", someone)
        with pytest.raises(AccountRefused):
            await active_directory.look_up(named(someone))
        domain.samba_tool("user", "enable", someone)
        assert await active_directory.look_up(named(someone)) is not None


async def test_certificate_of_another_ca_is_refused(domain: Lab, tmp_path: Path) -> None:
    other = Authority(tmp_path, "Another CA").file
    for url in (f"ldaps://dc1.{DOMAIN}", f"ldap://dc1.{DOMAIN}"):
        async with directory(domain, servers=[url], ca=other) as active_directory:
            with pytest.raises(Unavailable, match=r"certificate is not accepted .*check ldap\.ca"):
                await active_directory.look_up(named("alice"))


async def test_certificate_for_another_name_is_refused(domain: Lab) -> None:
    async with directory(domain, servers=[f"ldaps://gateway.{DOMAIN}:636", "ldaps://localhost"]) as active_directory:
        with pytest.raises(Unavailable):
            await active_directory.look_up(named("alice"))


async def test_wrong_bind_password_is_named_in_the_refusal(domain: Lab) -> None:
    bind = {"user": f"gateway@{DOMAIN}", "password": "wrong"}
    async with directory(domain, bind=bind) as active_directory:
        with pytest.raises(Unavailable, match=r"refuses ldap\.bind's user or password"):
            await active_directory.look_up(named("alice"))


async def test_stopped_domain_controller_is_unavailable_until_it_is_back(domain: Lab) -> None:
    ahead = 0.0
    async with directory(domain, clock=lambda: time.monotonic() + ahead) as active_directory:
        assert await active_directory.look_up(named("alice")) is not None
        domain.do("dc", "stop")
        try:
            with pytest.raises(Unavailable):
                await active_directory.look_up(named("bob"))
            assert await active_directory.look_up(named("alice")) is not None  # still fresh in the cache
        finally:
            domain.do("dc", "start")
        ahead = PAUSE
        assert await active_directory.look_up(named("bob")) is not None


def test_lab_ends_with_the_process_that_started_it(domain: Lab) -> None:
    """After a kill -9 of the tests the lab's anchor notices, for it watches this process."""
    anchor = (domain.folder / "anchor.pid").read_text().strip()
    assert str(os.getpid()) in Path(f"/proc/{anchor}/cmdline").read_text().split("\0")


async def test_attributes_that_the_settings_name_are_read_and_those_without_a_value_are_empty(domain: Lab) -> None:
    async with directory(domain, attributes=("sn", "mail")) as people:
        bjoern = await people.look_up(named("björn"))
    assert bjoern is not None
    assert bjoern.attributes == {"sn": "Müller", "mail": ""}


NAMED = "St*r (Zürich) \\O'Neill"


@pytest.fixture
def odd(domain: Lab) -> Iterator[str]:
    """An account with a name that a filter would read otherwise."""
    options = ("--given-name=Zoë", f"--surname={NAMED}", "--mail-address=zoe@partner.example")
    domain.samba_tool("user", "create", "zoe.oneill", "P4ss-word-1!", *options)
    yield f"Zoë {NAMED}"
    domain.samba_tool("user", "delete", "zoe.oneill")


async def everybody(active_directory: PeopleSearch, text: str) -> Sequence[Match]:
    """Returns all users whom a search finds; repeats a search that a busy server has ended early."""
    async with asyncio.timeout(60):
        while (found := await active_directory.find_people(text, 10)).is_cut:
            pass
    return found.people


async def test_person_is_found_by_the_beginning_of_each_name_and_every_character_is_itself(
    domain: Lab, odd: str
) -> None:
    async with directory(domain) as active_directory:
        own = await active_directory.look_up(named("zoe.oneill"))
        assert own is not None
        begins = [
            "zoe.",
            "CORP\\ZOE",
            f"{DOMAIN}\\zoe",
            "zoe.oneill@corp",
            "zoë st*r (z",
            "St*r (",
            NAMED,
            odd,
            "zoe@par",
        ]
        for text in begins:
            [found] = await everybody(active_directory, text)
            assert (found.key, found.name, found.display_name) == (own.key, "CORP\\zoe.oneill", odd), text
            assert found.mail == "zoe@partner.example"
            assert found.principal_name == f"zoe.oneill@{DOMAIN}"
        for text in (
            "*",
            "St*(",
            "Star",
            "oneill",
            "zoe*",
            "*)(objectClass=*",
            "zoe)(|(cn=*",
            "EVIL\\zoe",
            "CORP\\",
            "\\2a",
            "zoe\x00",
        ):
            assert await everybody(active_directory, text) == [], text
        [found] = await everybody(active_directory, "MÜL")
        assert found.name == "CORP\\björn"


async def test_search_marks_accounts_that_may_not_sign_in_and_lists_no_computer(domain: Lab) -> None:
    async with directory(domain) as active_directory:
        for name, code in (
            ("disabled", "account-disabled"),
            ("expired", "account-expired"),
            ("locked", "account-locked"),
        ):
            [found] = await everybody(active_directory, name)
            assert (found.name, found.refusal) == (f"CORP\\{name}", code)
        assert await everybody(active_directory, "dc1") == []
        some = await active_directory.find_people("d", 1)
        assert (len(some.people), some.is_cut) == (1, True)
