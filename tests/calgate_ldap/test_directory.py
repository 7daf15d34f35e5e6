"""Users and groups of a directory, and replies that are not believed."""

from collections.abc import AsyncIterator, Callable

import pytest

from calgate.plugin.errors import AccountRefused, Unavailable
from calgate.plugin.identity import Directory, GroupHints, GroupMembers, Identity, PeopleSearch, Person
from calgate.plugin.names import identity_of
from calgate_ldap import Config, account
from calgate_ldap.cache import Cache
from calgate_ldap.connection import UnreadableError
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
        Identity("EVIL", "mallory", "ntlm", sid=ALICE.key),  # the SID was proved, names are hints
        Identity("corp", "alice", "ntlm"),
        Identity("CORP.EXAMPLE", "alice", "ntlm"),
    ],
)
async def test_person_is_found_by_sid_or_by_name(
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
async def test_person_is_not_found_by_any_other_name(
    directory_of: Callable[..., ActiveDirectory], serve: Servers, identity: Identity
) -> None:
    assert await directory_of(serve()).look_up(identity) is None


async def test_foreign_security_principal_is_not_a_person(
    directory_of: Callable[..., ActiveDirectory], serve: Servers
) -> None:
    """A group can have members of a trusted domain: an object without groups stands for each of them."""
    theirs = bytes([1, 5]) + (5).to_bytes(6, "big") + b"".join(n.to_bytes(4, "little") for n in (21, 10, 20, 31, 1001))
    foreign: dict[str, Attributes] = {"<SID=S-1-5-21-10-20-31-1001>": {"objectSid": [theirs]}}
    directory = directory_of(serve(objects=objects() | foreign))
    assert await directory.look_up(Identity("OTHER", "olga", "kerberos", sid="S-1-5-21-10-20-31-1001")) is None


async def test_ticket_without_a_pac_is_not_a_person(
    directory_of: Callable[..., ActiveDirectory], serve: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    """Its principal can be the userPrincipalName of one account and the sAMAccountName of another."""
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
async def test_account_state_decides(
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


@pytest.mark.parametrize("missing", [*([name] for name in account.REQUIRED), list(account.REQUIRED)])
@pytest.mark.parametrize(
    "identity", [Identity("CORP", "alice", "ntlm", sid=ALICE.key), Identity("", f"CN=alice,{BASE}", "")]
)
async def test_attribute_that_cannot_be_read_makes_the_person_unavailable(
    directory_of: Callable[..., ActiveDirectory], serve: Servers, identity: Identity, missing: list[str]
) -> None:
    """A hardened domain leaves attributes out of its reply: absent is neither "enabled" nor "in no group"."""
    without = {name: values for name, values in person("alice", 1001).items() if name not in missing}
    changed: dict[str, Attributes] = objects() | {f"<SID={ALICE.key}>": without, f"CN=alice,{BASE}": without}
    with pytest.raises(UnreadableError) as caught:
        await directory_of(serve(objects=changed)).look_up(identity)
    assert set(caught.value.attributes) <= set(missing)
    assert caught.value.code == "directory-unavailable"


@pytest.mark.parametrize("missing", ["objectClass", "objectSid", "groupType"])
async def test_group_attribute_that_cannot_be_read_is_unavailable(
    directory_of: Callable[..., ActiveDirectory], serve: Servers, missing: str
) -> None:
    dn = f"CN=BI Users,{BASE}"
    without = {name: values for name, values in objects()[dn].items() if name != missing}
    with pytest.raises(UnreadableError, match=missing):
        await directory_of(serve(objects=objects() | {dn: without})).resolve([dn])


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("userAccountControl", b"many"),
        ("accountExpires", b"never"),
        ("msDS-User-Account-Control-Computed", b"0x10"),
        ("primaryGroupID", b"Domain Users"),
        ("tokenGroups", b"BI Users"),
        ("objectSid", ALICE.key.encode()),
    ],
)
async def test_malformed_attribute_of_a_person_is_unavailable(
    directory_of: Callable[..., ActiveDirectory], serve: Servers, attribute: str, value: bytes
) -> None:
    changed = {**person("alice", 1001), attribute: [value]}
    directory = directory_of(serve(objects=objects() | {f"<SID={ALICE.key}>": changed}))
    with pytest.raises(UnreadableError, match=attribute):
        await directory.look_up(Identity("CORP", "alice", "kerberos", sid=ALICE.key))


async def test_group_of_another_domain_is_not_found_and_the_server_still_serves(
    directory_of: Callable[..., ActiveDirectory], serve: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    """A domain controller refers to another domain for such a DN; that says nothing against the server."""
    directory = directory_of(serve())
    elsewhere = "CN=Partners,DC=partner,DC=example"
    assert await directory.resolve([elsewhere]) == {elsewhere: None}
    assert await directory.look_up(Identity("CORP", "alice", "ntlm")) == ALICE
    assert not caplog.records, "the server was taken for one that fails"


@pytest.mark.parametrize("mood", ["out of time", "over its size limit"])
@pytest.mark.parametrize("asked", [Identity("CORP", "alice", "ntlm"), Identity("CORP", "x", "kerberos", sid=ALICE.key)])
async def test_search_that_is_cut_short_is_unavailable_and_says_nothing_of_the_person(
    directory_of: Callable[..., ActiveDirectory], serve: Servers, mood: str, asked: Identity
) -> None:
    """ldap3 raises nothing for these results: what is missing would be taken for an account that does not exist."""
    server = serve()
    directory = directory_of(server)
    await directory.domain()
    server.mood = mood
    with pytest.raises(Unavailable, match="LimitExceeded"):
        await directory.look_up(asked)
    with pytest.raises(Unavailable):
        await directory.resolve(["BI Users"])


async def test_bind_that_is_referred_elsewhere_is_not_a_bind(
    directory_of: Callable[..., ActiveDirectory], serve: Servers
) -> None:
    server = serve()
    server.mood = "referring"
    with pytest.raises(Unavailable, match="the bind was not completed: referral"):
        await directory_of(server).look_up(Identity("CORP", "alice", "ntlm"))


async def test_password_that_a_read_only_server_refers_elsewhere_is_not_reported_as_changed(
    directory_of: Callable[..., ActiveDirectory], serve: Servers
) -> None:
    server = serve()
    directory = directory_of(server)
    server.is_read_only = True
    with pytest.raises(Unavailable, match="put a writable domain controller first"):
        await directory.change_password(Identity("CORP", "alice", ""), "old", "new")
    server.is_read_only = False
    assert await directory.change_password(Identity("CORP", "alice", ""), "old", "new") == ""


async def test_lockout_policy_that_cannot_be_read_is_unavailable(
    directory_of: Callable[..., ActiveDirectory], serve: Servers
) -> None:
    """An absent lockoutThreshold must not be taken for "the domain locks no accounts"."""
    with pytest.raises(UnreadableError, match="lockoutThreshold"):
        await directory_of(serve()).lockout()


@pytest.mark.parametrize(
    "typed",
    [
        "CORP\\alice",
        "corp.example\\alice",
        "alice@corp.example",
        "alice@new-name.example",
        "alice",
        ALICE.key,
        f"CN=alice,{BASE}",
    ],
)
async def test_administrator_finds_a_person_by_every_name(
    directory_of: Callable[..., ActiveDirectory], serve: Servers, typed: str
) -> None:
    alice = person("alice", 1001, userPrincipalName=b"alice@new-name.example")
    changed: dict[str, Attributes] = objects() | {f"CN=alice,{BASE}": alice, f"<SID={ALICE.key}>": alice}
    assert await directory_of(serve(objects=changed)).look_up(identity_of(typed)) == ALICE


async def test_renamed_person_is_found_by_the_old_name_that_the_upn_keeps(
    directory_of: Callable[..., ActiveDirectory], serve: Servers
) -> None:
    renamed = person("alice", 1001, userPrincipalName=b"amiller@corp.example")
    changed: dict[str, Attributes] = objects() | {f"CN=alice,{BASE}": renamed}
    directory = directory_of(serve(objects=changed))
    for typed in ("CORP\\amiller", "amiller", "amiller@corp.example", "CORP\\alice"):
        assert await directory.look_up(identity_of(typed)) == ALICE
    assert await directory.look_up(Identity("CORP", "amiller", "ntlm")) is None


async def test_upn_signs_nobody_in_by_name(directory_of: Callable[..., ActiveDirectory], serve: Servers) -> None:
    """One account's userPrincipalName can be another's sAMAccountName, so only an administrator may use it."""
    alice = person("alice", 1001, userPrincipalName=b"bob@corp.example")
    changed: dict[str, Attributes] = objects() | {f"CN=alice,{BASE}": alice}
    directory = directory_of(serve(objects=changed))
    assert await directory.look_up(Identity("corp.example", "bob", "ntlm")) is None
    assert await directory.look_up(identity_of("bob@corp.example")) == ALICE


@pytest.mark.parametrize("dn", [f"CN=Sales\\, EMEA,{BASE}", f"CN=Sales\\2C EMEA,{BASE}"])
async def test_dn_with_an_escaped_character_is_resolved(
    directory_of: Callable[..., ActiveDirectory], serve: Servers, dn: str
) -> None:
    group = objects()[f"CN=BI Users,{BASE}"]
    assert await directory_of(serve(objects=objects() | {dn: group})).resolve([dn]) == {dn: f"{DOMAIN_SID}-2000"}


async def test_group_that_is_named_by_its_cn_is_hinted_at(
    directory_of: Callable[..., ActiveDirectory], serve: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    group = {**objects()[f"CN=BI Users,{BASE}"], "sAMAccountName": [b"BIUSERS"], "cn": [b"Business Users"]}
    directory = directory_of(serve(objects=objects() | {f"CN=Business Users,{BASE}": group}))
    assert isinstance(directory, GroupHints)
    assert await directory.resolve(["CORP\\Business Users"]) == {"CORP\\Business Users": None}
    assert await directory.resolve(["CORP\\Business Users"]) == {"CORP\\Business Users": None}
    hint = f'the pre-Windows 2000 name of CN=Business Users,{BASE} is CORP\\BIUSERS: write "CORP\\\\BIUSERS"'
    assert await directory.hint("CORP\\Business Users") == hint
    assert caplog.text.count(hint) == 1
    assert await directory.hint("OTHER\\Business Users") == ""


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("CORP\\BI User", "the nearest name is CORP\\BI Users"),
        ("bi-users", "the nearest name is CORP\\BI Users"),
        ("CORP\\Sales", ""),
        ("CORP\\", ""),
        ("S-1-5-21-10-20-30-2000", ""),
    ],
)
async def test_misspelt_group_is_hinted_at_by_the_nearest_name(
    directory_of: Callable[..., ActiveDirectory], serve: Servers, written: str, hint: str
) -> None:
    assert await directory_of(serve()).hint(written) == hint


async def test_groups_are_resolved_by_name_sid_and_dn(
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


async def test_error_is_never_an_unknown_user(directory_of: Callable[..., ActiveDirectory], serve: Servers) -> None:
    server = serve()
    server.mood = "busy"
    directory = directory_of(server)
    with pytest.raises(Unavailable):
        await directory.look_up(Identity("CORP", "alice", "ntlm"))
    with pytest.raises(Unavailable):
        await directory.resolve(["BI Users"])


async def test_base_that_is_not_a_domain_is_named_in_the_error(
    directory_of: Callable[..., ActiveDirectory], serve: Servers
) -> None:
    with pytest.raises(Unavailable, match=r"ldap\.base DC=nowhere is not a domain's DN"):
        await directory_of(serve(), base="DC=nowhere").look_up(Identity("CORP", "alice", "ntlm"))


async def test_person_is_queried_once(directory_of: Callable[..., ActiveDirectory], serve: Servers) -> None:
    server = serve()
    directory = directory_of(server)
    identity = Identity("CORP", "alice", "kerberos", sid=ALICE.key)
    await directory.look_up(identity)
    before = len(server.searches)
    await directory.look_up(identity)
    assert len(server.searches) == before


async def test_members_of_a_group_are_listed_by_their_sids(
    directory_of: Callable[..., ActiveDirectory], serve: Servers
) -> None:
    group = f"CN=BI Users,{BASE}"
    known = dict(objects())
    known[f"CN=bob,{BASE}"] = {**person("bob", 1002), "memberOf": [group.encode()]}
    known[f"CN=cid,{BASE}"] = {**person("cid", 1003), "memberOf": [f"CN=Mail,{BASE}".encode()]}
    directory = directory_of(serve(objects=known))
    assert isinstance(directory, GroupMembers)
    for name in ("BI Users", "CORP\\BI Users", group):
        assert await directory.members_of(name) == [f"{DOMAIN_SID}-1002"], name
    assert await directory.members_of("nope") is None
    assert await directory.members_of("EVIL\\BI Users") is None


async def test_members_that_cannot_be_listed_are_unavailable_and_never_none(
    directory_of: Callable[..., ActiveDirectory], serve: Servers
) -> None:
    server = serve()
    server.mood = "busy"
    with pytest.raises(Unavailable):
        await directory_of(server).members_of("BI Users")


async def test_search_of_people_returns_no_more_than_wanted_from_ten_thousand(
    directory_of: Callable[..., ActiveDirectory], serve: Servers
) -> None:
    many = objects() | {f"CN=u{n},{BASE}": person(f"u{n}", 3000 + n) for n in range(10_000)}
    directory = directory_of(serve(objects=many))
    assert isinstance(directory, PeopleSearch)
    found = await directory.find_people("u", 50)
    assert (len(found.people), found.is_cut) == (50, True)


@pytest.mark.parametrize("mood", ["out of time", "over its size limit"])
async def test_search_of_people_that_the_server_cuts_short_is_what_it_found(
    directory_of: Callable[..., ActiveDirectory], serve: Servers, mood: str
) -> None:
    server = serve()
    directory = directory_of(server)
    await directory.domain()
    server.mood = mood
    found = await directory.find_people("al", 50)
    assert (found.people, found.is_cut) == ([], True)


async def test_search_of_people_marks_a_state_that_cannot_be_read(
    directory_of: Callable[..., ActiveDirectory], serve: Servers
) -> None:
    unreadable = {**person("ann", 1100), "accountExpires": []}
    directory = directory_of(serve(objects=objects() | {f"CN=ann,{BASE}": unreadable}))
    found = {one.name: one.refusal for one in (await directory.find_people("a", 50)).people}
    assert found["CORP\\ann"] == "account-state-unreadable"
    assert found["CORP\\alice"] == ""


async def test_nobody_holds_an_spn_only_if_spns_can_be_read(
    directory_of: Callable[..., ActiveDirectory], serve: Servers
) -> None:
    """A filter over an attribute that may not be read matches nobody, and every domain controller has SPNs."""
    hidden = directory_of(serve())
    with pytest.raises(UnreadableError, match=r"servicePrincipalName .* cannot be read .*dsacls") as caught:
        await hidden.holders("HTTP/bi.corp.example")
    assert caught.value.attributes == ("servicePrincipalName",)
    with pytest.raises(UnreadableError):
        await hidden.delegation("alice", "HTTP/bi.corp.example")
    controller = objects() | {f"CN=DC1,{BASE}": person("DC1$", 1000, servicePrincipalName=b"HOST/dc1.corp.example")}
    readable = directory_of(serve(objects=controller))
    assert await readable.holders("HTTP/bi.corp.example") == []
