"""People and groups of a directory, and what is refused to be believed."""

from collections.abc import AsyncIterator, Callable

import pytest

from calgate.plugin.errors import AccountRefused, Unavailable
from calgate.plugin.identity import Directory, Identity, Person
from calgate_ldap import Config
from calgate_ldap.cache import Cache
from calgate_ldap.directory import ActiveDirectory
from calgate_ldap.pool import Pool
from support.ldap_data import BASE, DOMAIN_SID, objects, person
from support.ldap_server import Attributes, LdapServer

NOW = 1_800_000_000.0
Servers = Callable[..., LdapServer]


@pytest.fixture
async def directory_of(configure: Callable[..., Config]) -> AsyncIterator[Callable[..., ActiveDirectory]]:
    pools: list[Pool] = []

    def make(*servers: LdapServer, **more: object) -> ActiveDirectory:
        config = configure(*servers, **more)
        pools.append(Pool(config))
        return ActiveDirectory(pools[-1], config.base, Cache(300, 0), now=lambda: NOW)

    yield make
    for pool in pools:
        pool.close()


ALICE = Person(
    key=f"{DOMAIN_SID}-1001",
    domain="CORP",
    account="alice",
    display_name="Alice",
    groups=frozenset({f"{DOMAIN_SID}-2000", f"{DOMAIN_SID}-513"}),
)


@pytest.mark.parametrize(
    "identity",
    [
        Identity("CORP", "alice", "kerberos", sid=ALICE.key),
        Identity("EVIL", "mallory", "ntlm", sid=ALICE.key),  # the SID was proven, names are hints
        Identity("corp", "alice", "ntlm"),
        Identity("CORP.EXAMPLE", "alice", "ntlm"),
    ],
)
async def test_a_person_is_found_by_sid_or_by_name(
    directory_of: Callable[..., ActiveDirectory], serve: Servers, identity: Identity
) -> None:
    directory = directory_of(serve())
    assert isinstance(directory, Directory)
    assert await directory.look_up(identity) == ALICE


@pytest.mark.parametrize(
    "identity",
    [
        Identity("CORP", "nobody", "ntlm"),
        Identity("EVIL", "alice", "ntlm"),
        Identity("CORP", "alice", "kerberos", sid="S-1-5-21-10-20-31-1001"),
        Identity("CORP", "alice", "kerberos", sid="S-1-5-21-10-20-30-1001>)(x"),
        Identity("CORP", "*", "ntlm"),
        Identity("CORP", "alice)(objectClass=*", "ntlm"),
    ],
)
async def test_nobody_else_is_found(
    directory_of: Callable[..., ActiveDirectory], serve: Servers, identity: Identity
) -> None:
    assert await directory_of(serve()).look_up(identity) is None


async def test_somebody_of_another_domain_who_is_a_foreign_principal_here_is_nobody(
    directory_of: Callable[..., ActiveDirectory], serve: Servers
) -> None:
    """A group here may hold people of a trusted domain: an object of theirs stands for them, and has no groups."""
    theirs = bytes([1, 5]) + (5).to_bytes(6, "big") + b"".join(n.to_bytes(4, "little") for n in (21, 10, 20, 31, 1001))
    foreign: dict[str, Attributes] = {"<SID=S-1-5-21-10-20-31-1001>": {"objectSid": [theirs]}}
    directory = directory_of(serve(objects=objects() | foreign))
    assert await directory.look_up(Identity("OTHER", "olga", "kerberos", sid="S-1-5-21-10-20-31-1001")) is None


async def test_a_ticket_without_a_pac_is_nobody(
    directory_of: Callable[..., ActiveDirectory], serve: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    """Its principal may be the userPrincipalName of another account than the one of that sAMAccountName."""
    assert await directory_of(serve()).look_up(Identity("CORP.EXAMPLE", "alice", "kerberos")) is None
    assert "has no PAC" in caplog.text


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"userAccountControl": b"514"}, "account-disabled"),
        ({"msDS_User_Account_Control_Computed": b"16"}, "account-locked"),
        ({"accountExpires": b"%d" % (116444736000000000 + int(NOW - 1) * 10_000_000)}, "account-expired"),
        ({"accountExpires": b"%d" % (116444736000000000 + int(NOW + 1) * 10_000_000)}, None),
        ({"accountExpires": b"0"}, None),
        ({"lockoutTime": b"133000000000000000"}, None),  # a lock that has ended
    ],
)
async def test_the_state_of_the_account_decides(
    directory_of: Callable[..., ActiveDirectory], serve: Servers, more: dict[str, bytes], code: str | None
) -> None:
    changed: dict[str, Attributes] = objects() | {f"<SID={ALICE.key}>": person("alice", 1001, **more)}
    directory = directory_of(serve(objects=changed))
    identity = Identity("CORP", "alice", "kerberos", sid=ALICE.key)
    if code is None:
        assert await directory.look_up(identity) == ALICE
        return
    with pytest.raises(AccountRefused) as caught:
        await directory.look_up(identity)
    assert caught.value.code == code


async def test_groups_resolve_by_name_sid_and_dn(
    directory_of: Callable[..., ActiveDirectory], serve: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["BI Users", "CORP\\BI Users", "EVIL\\BI Users", f"CN=BI Users,{BASE}", "Mail", "nope", f"CN=alice,{BASE}"]
    known = f"{DOMAIN_SID}-2000"
    assert await directory_of(serve()).resolve(names) == {
        "BI Users": known,
        "CORP\\BI Users": known,
        "EVIL\\BI Users": None,
        f"CN=BI Users,{BASE}": known,
        "Mail": None,
        "nope": None,
        f"CN=alice,{BASE}": None,
    }
    assert "Mail is a distribution group" in caplog.text


async def test_an_error_is_never_nobody(directory_of: Callable[..., ActiveDirectory], serve: Servers) -> None:
    server = serve()
    server.mood = "busy"
    directory = directory_of(server)
    with pytest.raises(Unavailable):
        await directory.look_up(Identity("CORP", "alice", "ntlm"))
    with pytest.raises(Unavailable):
        await directory.resolve(["BI Users"])


async def test_a_base_that_is_no_domain_is_an_error_with_its_name(
    directory_of: Callable[..., ActiveDirectory], serve: Servers
) -> None:
    with pytest.raises(Unavailable, match=r"ldap\.base DC=nowhere is not a domain's DN"):
        await directory_of(serve(), base="DC=nowhere").look_up(Identity("CORP", "alice", "ntlm"))


async def test_a_person_is_asked_for_once(directory_of: Callable[..., ActiveDirectory], serve: Servers) -> None:
    server = serve()
    directory = directory_of(server)
    identity = Identity("CORP", "alice", "kerberos", sid=ALICE.key)
    await directory.look_up(identity)
    asked = len(server.searches)
    await directory.look_up(identity)
    assert len(server.searches) == asked
