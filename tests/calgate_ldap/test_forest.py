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
        "objectClass": [b"top", b"person", b"user"],
        "objectSid": [other_sid(1001)],
        "sAMAccountName": [b"alice"],
        "displayName": [b"Alice of the branch"],
        "primaryGroupID": [b"513"],
        "tokenGroups": [other_sid(3000)],
        "userAccountControl": [b"512"],
        "accountExpires": [b"0"],
        "msDS-User-Account-Control-Computed": [b"0"],
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


class EventStore:
    """A store that only delivers events."""

    prefix = "test"

    def __init__(self) -> None:
        self.listeners: list[Callable[[Event], None]] = []

    def listen(self, on_event: Callable[[Event], None]) -> None:
        self.listeners.append(on_event)


@pytest.fixture
def two(serve: Servers) -> tuple[LdapServer, LdapServer]:
    return serve(), serve(objects=other_objects())


@asynccontextmanager
async def forest(
    configure: Configure, two: tuple[LdapServer, LdapServer], folder: Path
) -> AsyncIterator[tuple[Directory, EventStore]]:
    own, other = two
    config = configure(own, domains=[{"servers": [other.url], "base": OTHER_BASE}])
    store = EventStore()
    async with calgate_ldap.start(config, Services(store=store, state_dir=folder)) as directory:  # type: ignore[arg-type]
        yield directory, store


async def test_users_of_each_domain_are_found_in_their_domain(
    configure: Configure, two: tuple[LdapServer, LdapServer], tmp_path: Path
) -> None:
    async with forest(configure, two, tmp_path) as (directory, _store):
        assert isinstance(directory, DomainInfo)
        ours = await directory.look_up(Identity("CORP", "alice", "kerberos", sid=f"{DOMAIN_SID}-1001"))
        theirs = await directory.look_up(Identity("BRANCH", "alice", "kerberos", sid=f"{OTHER_SID}-1001"))
        by_name = await directory.look_up(Identity("BRANCH.EXAMPLE", "alice", "ntlm"))
        unknown_user = await directory.look_up(Identity("EVIL", "alice", "ntlm"))
    assert ours is not None
    assert theirs is not None
    assert (ours.name, theirs.name, by_name) == ("CORP\\alice", "BRANCH\\alice", theirs)
    assert unknown_user is None
    assert theirs.groups == {f"{OTHER_SID}-3000", f"{OTHER_SID}-513"}


async def test_only_other_domains_groups_are_taken_from_the_ticket(
    configure: Configure, two: tuple[LdapServer, LdapServer], tmp_path: Path
) -> None:
    """Groups of unknown domains are harmless: no rule can name a group that no directory has."""
    ticket_groups = frozenset({f"{DOMAIN_SID}-2000", f"{OTHER_SID}-9999", "S-1-5-21-99-99-99-512", "S-1-5-32-544"})
    async with forest(configure, two, tmp_path) as (directory, _store):
        identity = Identity("BRANCH", "alice", "kerberos", sid=f"{OTHER_SID}-1001", groups=ticket_groups)
        person = await directory.look_up(identity)
    assert person is not None
    unknown = "S-1-5-21-99-99-99-512"
    assert person.groups == {f"{OTHER_SID}-3000", f"{OTHER_SID}-513", f"{DOMAIN_SID}-2000", unknown}


async def test_groups_of_each_domain_are_found_in_their_domain(
    configure: Configure, two: tuple[LdapServer, LdapServer], tmp_path: Path
) -> None:
    names = ["CORP\\BI Users", "BRANCH\\Tills", "Tills", "CORP\\Tills"]
    async with forest(configure, two, tmp_path) as (directory, _store):
        found = await directory.resolve(names)
    tills = f"{OTHER_SID}-3000"
    assert found == dict(zip(names, [f"{DOMAIN_SID}-2000", tills, tills, None], strict=True))


async def test_users_of_our_domain_are_found_while_another_domain_is_down(
    configure: Configure, two: tuple[LdapServer, LdapServer], tmp_path: Path
) -> None:
    two[1].mood = "busy"
    ticket_groups = frozenset({f"{DOMAIN_SID}-513"})  # every ticket names it
    async with forest(configure, two, tmp_path) as (directory, _store):
        assert await directory.look_up(
            Identity("CORP", "alice", "kerberos", sid=f"{DOMAIN_SID}-1001", groups=ticket_groups)
        )
        with pytest.raises(Unavailable):
            await directory.look_up(Identity("BRANCH", "alice", "kerberos", sid=f"{OTHER_SID}-1001"))


async def test_person_is_queried_again_after_an_event_about_them(
    configure: Configure, two: tuple[LdapServer, LdapServer], tmp_path: Path
) -> None:
    identity = Identity("CORP", "alice", "kerberos", sid=f"{DOMAIN_SID}-1001")
    async with forest(configure, two, tmp_path) as (directory, store):
        await directory.look_up(identity)
        before = len(two[0].searches)
        await directory.look_up(identity)
        assert len(two[0].searches) == before
        for on_event in store.listeners:
            on_event(Event("person-changed", f"{DOMAIN_SID}-1001"))
        await directory.look_up(identity)
    assert len(two[0].searches) > before
