"""`calgate check` of the `[ldap]` section, against a server that leaves attributes out of its replies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calgate.plugin.checks import CheckContext, Finding
from calgate.plugin.services import Services
from calgate_ldap import Config, check
from support.ldap_data import BASE, DOMAIN_SID, objects, person
from support.ldap_server import Attributes, LdapServer

Configure = Callable[..., Config]
Servers = Callable[..., LdapServer]


async def findings(config: Config, folder: Path, login: tuple[str, str] | None = None) -> dict[str, Finding]:
    context = CheckContext(Services(store=None, state_dir=folder), (), login=login)  # type: ignore[arg-type]
    return {finding.subject: finding async for finding in check(config, context)}


def directory(**svc: Any) -> dict[str, Attributes]:
    """CORP with the bind account svc, which can always read itself."""
    account = person("svc", 1500, userPrincipalName=b"svc@corp.example")
    return objects() | {f"CN=svc,{BASE}": account, f"<SID={DOMAIN_SID}-1500>": account} | svc


async def test_check_passes_if_the_bind_account_can_read_users(
    configure: Configure, serve: Servers, tmp_path: Path
) -> None:
    found = await findings(configure(serve(objects=directory())), tmp_path)
    assert {finding.level for finding in found.values()} == {"ok"}
    assert "can read groups and account states (2 users tried)" in found["ldap.bind"].what


async def test_check_fails_if_the_bind_account_can_read_only_itself(
    configure: Configure, serve: Servers, tmp_path: Path
) -> None:
    hidden = {"tokenGroups", "userAccountControl", "accountExpires"}
    alice = {name: values for name, values in person("alice", 1001).items() if name not in hidden}
    found = await findings(configure(serve(objects=directory(**{f"CN=alice,{BASE}": alice}))), tmp_path)
    assert found["groups"].level == "ok"
    failed = found["ldap.bind"]
    assert failed.level == "fail"
    assert "cannot read tokenGroups, userAccountControl, accountExpires of 1 of 2 users" in failed.what
    assert f"CN=alice,{BASE}" in failed.what
    assert '"svc@corp.example:RP;Account Restrictions;user"' in failed.remedy
    assert "gMSA" in failed.remedy


@pytest.mark.parametrize("user", ["svc@corp.example", "CORP\\svc", "svc", f"CN=svc,{BASE}"])
async def test_check_finds_the_bind_account_by_every_name(
    configure: Configure, serve: Servers, tmp_path: Path, user: str
) -> None:
    config = configure(serve(objects=directory()), bind={"user": user, "password": "right"})
    found = await findings(config, tmp_path)
    assert found["groups"] == Finding("ok", "groups", "CORP\\svc is in 2 groups, nested ones included")


async def test_server_name_without_an_address_is_reported_as_such(configure: Configure, tmp_path: Path) -> None:
    url = "ldaps://no-such-server.invalid"
    found = await findings(configure(servers=[url]), tmp_path)
    assert "its name has no address in the DNS" in found[f"{url}:636"].what
    assert found[f"{url}:636"].blocks == "directory"
