"""Two real domains that trust each other: users of both sign in, each looked up in their own domain."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import calgate_ldap
from active_directory.test_gateway import As, ask, ready
from calgate import config
from calgate.plugin.errors import Unavailable
from calgate.plugin.identity import Identity, NtlmAttempt
from calgate.plugin.services import Event, Services
from calgate_negotiate.handshake import Mechanisms, NegotiateAuthenticator
from calgate_negotiate.winbind import Winbind
from support.check_settings import Write, findings, write
from support.domain import DOMAIN, HOST, PARTNER_BASE, PARTNER_DOMAIN, PASSWORD, Lab, run
from support.domain_gateway import front
from support.handshakes import PEER, ntlm_client, shake

__all__ = ["write"]  # a fixture

REALM = PARTNER_DOMAIN.upper()
DOMAINS = """
[[ldap.domains]]
servers = ["ldaps://dc2.{domain}"]
base = "{base}"
bind = {{ user = "reader@{domain}", password = {{ file = "{folder}/secret" }} }}

[[access]]
name = "partners"
groups = ["PARTNER\\\\partners"]
"""


@pytest.fixture(scope="module")
def partner(domain: Lab) -> Iterator[Path]:
    with domain.partner() as samba:
        yield samba


def both(folder: Path) -> str:
    return DOMAINS.format(domain=PARTNER_DOMAIN, base=PARTNER_BASE, folder=folder)


@pytest.fixture
def become(domain: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> As:
    """Gives curl a user's tickets, including one for the gateway: from the other domain's KDC, then from ours."""

    def change(account: str) -> None:
        for name, value in domain.ticket(account, tmp_path).items():
            monkeypatch.setenv(name, value)
        run("kvno", "-q", f"HTTP/{HOST}@{DOMAIN.upper()}")

    return change


async def test_users_of_both_domains_sign_in_under_their_own_domain(
    domain: Lab, partner: Path, tmp_path: Path, become: As
) -> None:
    async with front(domain, tmp_path, ldap=both(tmp_path)) as running:
        await ready(running)
        for account in ("alice", f"dora@{REALM}", f"alice@{REALM}"):
            become(account)
            assert (await ask(running, "/")).status == 200, running.gate.log.read_text()
        assert running.users() == ["CORP\\alice", "PARTNER\\dora", "PARTNER\\alice"]


async def test_sids_and_groups_are_looked_up_in_their_own_domain(partner: Path, write: Write, tmp_path: Path) -> None:
    section = config.read(write(ldap=both(tmp_path))).plugins["ldap"]
    assert isinstance(section, calgate_ldap.Config)
    async with calgate_ldap.start(section, Services(Deaf(), tmp_path)) as forest:  # type: ignore[arg-type]
        sid = _sid(partner, "alice")
        person = await forest.look_up(Identity("CORP", "alice", "kerberos", sid=sid))  # the name is a hint, and wrong
        assert person is not None
        assert (person.key, person.name) == (sid, "PARTNER\\alice")
        found = await forest.resolve(["PARTNER\\partners", "CORP\\app-users", "partners", "CORP\\partners"])
    theirs = found["PARTNER\\partners"]
    assert theirs is not None
    assert theirs in person.groups
    assert theirs.rpartition("-")[0] == sid.rpartition("-")[0] != (found["CORP\\app-users"] or "").rpartition("-")[0]
    assert (found["partners"], found["CORP\\partners"]) == (theirs, None)


class Deaf:
    """A store without events."""

    def listen(self, hear: Callable[[Event], None]) -> None:
        pass


async def test_namesake_in_the_other_domain_has_none_of_the_groups(
    domain: Lab, partner: Path, tmp_path: Path, become: As
) -> None:
    """CORP\\alice is in app-users; PARTNER\\alice is not, and no rule names the other domain's users."""
    async with front(domain, tmp_path, ldap=both(tmp_path).partition("[[access]]")[0]) as running:
        await ready(running)
        become(f"alice@{REALM}")
        assert (await ask(running)).status == 403
        assert running.users() == []


async def test_user_of_a_trusted_domain_that_is_not_in_the_file_is_refused(
    domain: Lab, partner: Path, tmp_path: Path, become: As
) -> None:
    async with front(domain, tmp_path) as running:
        await ready(running)
        become(f"dora@{REALM}")
        assert (await ask(running)).status in (401, 403)
        assert running.users() == []


async def test_users_of_our_domain_are_let_in_before_the_other_domain_responds(
    domain: Lab, tmp_path: Path, become: As
) -> None:
    more = both(tmp_path).partition("[[access]]")[0].replace(f"dc2.{PARTNER_DOMAIN}", f"dc2.{PARTNER_DOMAIN}:1")
    async with front(domain, tmp_path, ldap=more) as running:
        await ready(running)
        become("alice")
        assert (await ask(running)).status == 200


async def test_account_disabled_in_the_other_domain_is_refused_with_a_valid_ticket(
    domain: Lab, partner: Path, tmp_path: Path, become: As
) -> None:
    become(f"dora@{REALM}")
    run("samba-tool", "user", "disable", "dora", "-s", str(partner))
    try:
        async with front(domain, tmp_path, ldap=both(tmp_path)) as running:
            await ready(running)
            reply = await ask(running)
        assert (reply.status, running.users()) == (403, [])
        assert "PARTNER\\\\dora is disabled" in running.gate.log.read_text()
    finally:
        run("samba-tool", "user", "enable", "dora", "-s", str(partner))


async def test_our_domain_local_group_counts_for_a_user_of_the_other_domain(
    domain: Lab, partner: Path, tmp_path: Path, become: As
) -> None:
    """The user's own domain does not know the group: our KDC adds it to the ticket."""
    domain.samba_tool("group", "addmembers", "dl-app", _sid(partner, "dora"))
    try:
        rule = '\n[[access]]\nname = "local group"\ngroups = ["CORP\\\\dl-app"]\n'
        more = both(tmp_path).partition("[[access]]")[0] + rule
        async with front(domain, tmp_path, ldap=more) as running:
            await ready(running)
            become(f"dora@{REALM}")
            assert (await ask(running)).status == 200, running.gate.log.read_text()
    finally:
        domain.samba_tool("group", "removemembers", "dl-app", _sid(partner, "dora"))


async def test_check_of_two_healthy_domains_accepts_a_ticket_of_the_other(
    partner: Path, write: Write, tmp_path: Path
) -> None:
    found = await findings(write(ldap=both(tmp_path)), (f"dora@{REALM}", PASSWORD))
    assert [f for f in found if f.level != "ok"] == []
    what = {f.subject: f.what for f in found}
    assert "PARTNER (partner.example.net)" in what[f"ldaps://dc2.{PARTNER_DOMAIN}:636"]
    assert what["groups"].startswith("PARTNER\\dora is in ")
    assert "PARTNER\\dora" in what["ticket"]


def _sid(samba: Path, account: str) -> str:
    shown = run("samba-tool", "user", "show", account, "--attributes=objectSid", "-s", str(samba))
    return shown.partition("objectSid: ")[2].split()[0]


@pytest.mark.usefixtures("partner")
@pytest.mark.parametrize("setting", ["PARTNER", PARTNER_DOMAIN])
@pytest.mark.parametrize("user", ["PARTNER\\dora", f"{PARTNER_DOMAIN}\\dora"])
async def test_ntlm_response_of_a_trusted_domain_is_passed_on_under_either_name(setting: str, user: str) -> None:
    """The lab's member reaches no domain controller of the partner, so winbindd decides."""
    winbind = Winbind([setting])
    try:
        authenticator = NegotiateAuthenticator(Mechanisms(ntlm_verifier=winbind))
        with pytest.raises(Unavailable, match="NT_STATUS_NO_LOGON_SERVERS"):
            await shake(authenticator.begin(PEER), ntlm_client(user, PASSWORD), "NTLM")
        domain = user.partition("\\")[0]
        assert winbind.canonical(NtlmAttempt(domain, "dora", "", b"", b"", b"")) == "partner\\dora"
    finally:
        winbind.close()
