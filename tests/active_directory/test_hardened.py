"""A hardened domain: ordinary accounts cannot read other users' groups and account states."""

from collections.abc import Iterator

import pytest

from calgate.plugin.errors import AccountRefused
from calgate_ldap.connection import UnreadableError
from support.check_settings import Write, report, write
from support.domain import BASE, Lab, run
from support.domain_directory import directory, named

__all__ = ["write"]  # a fixture

LEGACY = f"CN=Pre-Windows 2000 Compatible Access,CN=Builtin,{BASE}"
AUTHENTICATED_USERS = f"CN=S-1-5-11,CN=ForeignSecurityPrincipals,{BASE}"
# property sets (MS-ADTS 3.1.1.2.3.3) and the class user: what `calgate check` names in its remedy
PROPERTY_SETS = {
    "General Information": "59ba2f42-79a2-11d0-9020-00c04fc2d3cf",
    "Account Restrictions": "4c164200-20c0-11d0-a768-00aa006e0529",
    "Remote Access Information": "037088f8-0ae1-11d2-b422-00a0c968f939",
}
USER_CLASS = "bf967aba-0de6-11d0-a285-00aa003049e2"
TOKEN_GROUPS = "b7c69e6d-2cc7-11d2-854e-00a0c983f608"


def modify(domain: Lab, ldif: str) -> None:
    run("ldbmodify", "-H", str(domain.folder / "dc/private/sam.ldb"), stdin=ldif)


@pytest.fixture
def hardened(domain: Lab) -> Iterator[Lab]:
    """The domain without Authenticated Users in Pre-Windows 2000 Compatible Access."""
    change = f"dn: {LEGACY}\nchangetype: modify\n{{}}: member\nmember: {AUTHENTICATED_USERS}\n"
    modify(domain, change.format("delete"))
    yield domain
    modify(domain, change.format("add"))


def grant(domain: Lab, dn: str, sddl: str) -> None:
    domain.samba_tool("dsacl", "set", "--action=allow", f"--objectdn={dn}", f"--sddl={sddl}")


@pytest.mark.parametrize("account", ["alice", "disabled", "expired"])
async def test_user_is_unavailable_in_a_hardened_domain(hardened: Lab, account: str) -> None:
    """The domain controller leaves the attributes out, without an error."""
    async with directory(hardened) as active_directory:
        with pytest.raises(UnreadableError) as caught:
            await active_directory.look_up(named(account))
    assert {"tokenGroups", "userAccountControl"} <= set(caught.value.attributes)


async def test_check_fails_in_a_hardened_domain_and_says_how_to_grant_the_rights(hardened: Lab, write: Write) -> None:
    found = await report(write(), None)
    lines = [f"{one.what} → {one.remedy}" for one in found.wrong if one.subject == "ldap.bind"]
    assert len(lines) == 1
    assert "cannot read" in lines[0]
    assert "tokenGroups" in lines[0]
    for name in PROPERTY_SETS:
        assert f"RP;{name};user" in lines[0]


async def test_rights_that_check_names_are_enough_in_a_hardened_domain(hardened: Lab, write: Write) -> None:
    sid = (
        hardened.samba_tool("user", "show", "gateway", "--attributes=objectSid").partition("objectSid: ")[2].split()[0]
    )
    entries = "".join(f"(OA;CI;RP;{guid};{USER_CLASS};{sid})" for guid in PROPERTY_SETS.values())
    grant(hardened, f"CN=Users,{BASE}", entries)
    async with directory(hardened) as active_directory:
        alice = await active_directory.look_up(named("alice"))
        groups = await active_directory.resolve(["app-users", "dl-app"])
        assert alice is not None
        assert set(groups.values()) <= alice.groups
        with pytest.raises(AccountRefused):
            await active_directory.look_up(named("disabled"))
    assert (await report(write())).wrong == []


async def test_only_the_user_with_a_deny_entry_is_unavailable(domain: Lab) -> None:
    domain.samba_tool("user", "create", "hidden", "P4ss-word-1!")
    try:
        grant(domain, f"CN=hidden,CN=Users,{BASE}", f"(OD;;RP;{TOKEN_GROUPS};;AU)")
        async with directory(domain) as active_directory:
            with pytest.raises(UnreadableError, match="tokenGroups"):
                await active_directory.look_up(named("hidden"))
            assert await active_directory.look_up(named("alice")) is not None
    finally:
        domain.samba_tool("user", "delete", "hidden")
