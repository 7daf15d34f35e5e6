"""Several domains as one directory."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import calgate_ldap
from calgate.plugin.checks import DomainInfo
from calgate.plugin.errors import Unavailable
from calgate.plugin.identity import Directory, Identity
from calgate.plugin.services import Event, Services
from calgate_ldap import Config
from support.ldap_data import BASE, DOMAIN_SID
from support.ldap_server import Attributes, LdapServer

Configure = Callable[..., Config]
Servers = Callable[..., LdapServer]
OTHER_BASE = "DC=branch,DC=example"
OTHER_SID = "S-1-5-21-11-21-31"


def other_sid(*rest: int) -> bytes:
    numbers = (21, 11, 21, 31, *rest)
    return bytes([1, len(numbers)]) + (5).to_bytes(6, "big") + b"".join(n.to_bytes(4, "little") for n in numbers)


def other_objects() -> dict[str, Attributes]:
    """BRANCH, with an alice of its own."""
    alice: Attributes = {
        "objectSid": [other_sid(1001)],
        "sAMAccountName": [b"alice"],
        "displayName": [b"Alice of the branch"],
        "primaryGroupID": [b"513"],
        "tokenGroups": [other_sid(3000)],
        "userAccountControl": [b"512"],
    }
    return {
        "": {"configurationNamingContext": [f"CN=Configuration,{BASE}".encode()]},
        OTHER_BASE: {"objectSid": [other_sid()]},
        f"CN=BRANCH,CN=Partitions,CN=Configuration,{BASE}": {
            "nCName": [OTHER_BASE.encode()],
            "nETBIOSName": [b"BRANCH"],
            "dnsRoot": [b"branch.example"],
        },
        f"CN=alice,{OTHER_BASE}": alice,
        f"<SID={OTHER_SID}-1001>": alice,
        f"CN=Tills,{OTHER_BASE}": {
            "objectSid": [other_sid(3000)],
            "objectClass": [b"group"],
            "sAMAccountName": [b"Tills"],
            "groupType": [b"-2147483646"],
        },
    }


class OnlyNews:
    """A store that only spreads news."""

    prefix = "test"

    def __init__(self) -> None:
        self.hearers: list[Callable[[Event], None]] = []

    def listen(self, hear: Callable[[Event], None]) -> None:
        self.hearers.append(hear)


@pytest.fixture
def two(serve: Servers) -> tuple[LdapServer, LdapServer]:
    return serve(), serve(objects=other_objects())


@asynccontextmanager
async def forest(
    configure: Configure, two: tuple[LdapServer, LdapServer], folder: Path
) -> AsyncIterator[tuple[Directory, OnlyNews]]:
    own, other = two
    config = configure(own, domains=[{"servers": [other.url], "base": OTHER_BASE}])
    store = OnlyNews()
    async with calgate_ldap.start(config, Services(store=store, state_dir=folder)) as directory:  # type: ignore[arg-type]
        yield directory, store


async def test_people_of_each_domain_are_found_in_it(
    configure: Configure, two: tuple[LdapServer, LdapServer], tmp_path: Path
) -> None:
    async with forest(configure, two, tmp_path) as (directory, _store):
        assert isinstance(directory, DomainInfo)
        ours = await directory.look_up(Identity("CORP", "alice", "kerberos", sid=f"{DOMAIN_SID}-1001"))
        theirs = await directory.look_up(Identity("BRANCH", "alice", "kerberos", sid=f"{OTHER_SID}-1001"))
        by_name = await directory.look_up(Identity("BRANCH.EXAMPLE", "alice", "ntlm"))
        nobody = await directory.look_up(Identity("EVIL", "alice", "ntlm"))
    assert ours is not None
    assert theirs is not None
    assert (ours.name, theirs.name, by_name) == ("CORP\\alice", "BRANCH\\alice", theirs)
    assert nobody is None
    assert theirs.groups == {f"{OTHER_SID}-3000", f"{OTHER_SID}-513"}


async def test_groups_of_other_domains_that_a_ticket_names_count_and_none_of_ones_own_or_of_the_machine(
    configure: Configure, two: tuple[LdapServer, LdapServer], tmp_path: Path
) -> None:
    """Those of a domain that is not in the file do no harm: no rule can name a group that no directory has."""
    said = frozenset({f"{DOMAIN_SID}-2000", f"{OTHER_SID}-9999", "S-1-5-21-99-99-99-512", "S-1-5-32-544"})
    async with forest(configure, two, tmp_path) as (directory, _store):
        identity = Identity("BRANCH", "alice", "kerberos", sid=f"{OTHER_SID}-1001", groups=said)
        person = await directory.look_up(identity)
    assert person is not None
    unknown = "S-1-5-21-99-99-99-512"
    assert person.groups == {f"{OTHER_SID}-3000", f"{OTHER_SID}-513", f"{DOMAIN_SID}-2000", unknown}


async def test_groups_are_found_in_their_domain(
    configure: Configure, two: tuple[LdapServer, LdapServer], tmp_path: Path
) -> None:
    names = ["CORP\\BI Users", "BRANCH\\Tills", "Tills", "CORP\\Tills"]
    async with forest(configure, two, tmp_path) as (directory, _store):
        found = await directory.resolve(names)
    tills = f"{OTHER_SID}-3000"
    assert found == dict(zip(names, [f"{DOMAIN_SID}-2000", tills, tills, None], strict=True))


async def test_another_domain_that_is_down_is_nothing_to_people_of_ours(
    configure: Configure, two: tuple[LdapServer, LdapServer], tmp_path: Path
) -> None:
    two[1].mood = "busy"
    said = frozenset({f"{DOMAIN_SID}-513"})  # as every ticket does
    async with forest(configure, two, tmp_path) as (directory, _store):
        assert await directory.look_up(Identity("CORP", "alice", "kerberos", sid=f"{DOMAIN_SID}-1001", groups=said))
        with pytest.raises(Unavailable):
            await directory.look_up(Identity("BRANCH", "alice", "kerberos", sid=f"{OTHER_SID}-1001"))


async def test_news_of_a_person_make_the_next_question_a_real_one(
    configure: Configure, two: tuple[LdapServer, LdapServer], tmp_path: Path
) -> None:
    identity = Identity("CORP", "alice", "kerberos", sid=f"{DOMAIN_SID}-1001")
    async with forest(configure, two, tmp_path) as (directory, store):
        await directory.look_up(identity)
        asked = len(two[0].searches)
        await directory.look_up(identity)
        assert len(two[0].searches) == asked
        for hear in store.hearers:
            hear(Event("person-changed", f"{DOMAIN_SID}-1001"))
        await directory.look_up(identity)
    assert len(two[0].searches) > asked
