"""Kerberos against a keytab, with a real KDC and MIT's own client."""

import asyncio
import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import gssapi
import pytest
from gssapi.raw import ChannelBindings

from calgate.plugin.errors import AuthenticationFailed
from calgate.plugin.identity import Authenticated, Continue, Peer
from calgate_negotiate import der, spnego
from calgate_negotiate.channel_binding import ChannelBindingPolicy, Mode
from calgate_negotiate.handshake import Mechanisms, NegotiateAuthenticator
from calgate_negotiate.kerberos import Acceptor
from calgate_negotiate.spnego import KERBEROS, MS_KERBEROS, NTLM
from support import keytabs
from support.domain import DOMAIN, HOST, OLD_HOST, Lab, run

PEER = Peer("127.0.0.1", behind_proxy=True)
SPNEGO = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")
Accept = Callable[..., NegotiateAuthenticator]


@pytest.fixture
def accept() -> Iterator[Accept]:
    opened: list[Acceptor] = []

    def make(keytab: Path, mode: Mode = "allow") -> NegotiateAuthenticator:
        opened.append(Acceptor(keytab))
        return NegotiateAuthenticator(Mechanisms(kerberos=opened[-1], channel_binding=ChannelBindingPolicy(mode, None)))

    yield make
    for acceptor in opened:
        acceptor.close()


class Client:
    """Somebody with a ticket, asking for one to the gateway."""

    def __init__(
        self,
        ticket: dict[str, str],
        service: str = f"HTTP@{HOST}",
        mech: "gssapi.OID | None" = SPNEGO,
        bound_to: bytes | None = None,
    ) -> None:
        store = {"ccache": ticket["KRB5CCNAME"]}
        self._context = gssapi.SecurityContext(
            name=gssapi.Name(service, gssapi.NameType.hostbased_service),
            creds=gssapi.Credentials(usage="initiate", store=store),
            usage="initiate",
            mech=mech,
            flags=gssapi.RequirementFlag.mutual_authentication,
            channel_bindings=ChannelBindings(application_data=bound_to) if bound_to is not None else None,
        )
        self.first: bytes = self._context.step()

    async def sign_in(self, authenticator: NegotiateAuthenticator, peer: Peer = PEER) -> Authenticated:
        handshake, token = authenticator.begin(peer), self.first
        for _leg in range(4):
            outcome = await handshake.step_token("Negotiate", token)
            if isinstance(outcome, Authenticated):
                if outcome.token is not None:
                    self._context.step(outcome.token)
                return outcome
            assert isinstance(outcome, Continue)
            token = self._context.step(outcome.token)
        raise AssertionError("no end")

    @property
    def knows_the_gateway(self) -> bool:
        """Whether the gateway proved itself too."""
        return bool(self._context.complete)


@pytest.mark.parametrize("mech", [SPNEGO, gssapi.MechType.kerberos])
async def test_a_ticket_proves_who_it_is_for_and_the_gateway_proves_itself(
    domain: Lab, tmp_path: Path, accept: Accept, mech: "gssapi.OID"
) -> None:
    client = Client(domain.ticket("alice", tmp_path), mech=mech)
    proven = await client.sign_in(accept(domain.keytab))
    assert proven.identity.name == "CORP\\alice"
    assert proven.identity.mechanism == "kerberos"
    assert proven.identity.sid is not None
    assert proven.identity.sid.startswith("S-1-5-21-")
    assert len(proven.identity.groups) > 5
    assert client.knows_the_gateway


async def test_a_name_typed_in_capitals_is_spelled_as_the_directory_does(
    domain: Lab, tmp_path: Path, accept: Accept
) -> None:
    proven = await Client(domain.ticket("ALICE", tmp_path)).sign_in(accept(domain.keytab))
    assert proven.identity.name == "CORP\\alice"


async def test_a_ticket_with_a_thousand_groups_is_read(domain: Lab, tmp_path: Path, accept: Accept) -> None:
    client = Client(domain.ticket("many1000", tmp_path))
    assert len(base64.b64encode(client.first)) > 12_000
    proven = await client.sign_in(accept(domain.keytab))
    assert len(proven.identity.groups) > 1000


async def test_a_token_shown_twice_is_refused(domain: Lab, tmp_path: Path, accept: Accept) -> None:
    """A replay on another connection."""
    gateway, client = accept(domain.keytab), Client(domain.ticket("alice", tmp_path))
    await client.sign_in(gateway)
    with pytest.raises(AuthenticationFailed, match="shown twice"):
        await gateway.begin(PEER).step_token("Negotiate", client.first)


async def test_a_changed_token_is_refused_wherever_it_is_changed(domain: Lab, tmp_path: Path, accept: Accept) -> None:
    gateway, client = accept(domain.keytab), Client(domain.ticket("bob", tmp_path))
    token = client.first
    for at in range(200, len(token), 97):
        spoiled = token[:at] + bytes([token[at] ^ 0x55]) + token[at + 1 :]
        with pytest.raises(AuthenticationFailed):
            await gateway.begin(PEER).step_token("Negotiate", spoiled)
    for length in range(0, len(token), 61):
        with pytest.raises(AuthenticationFailed):
            await gateway.begin(PEER).step_token("Negotiate", token[:length])


async def test_a_rotated_keytab_needs_no_restart_and_old_tickets_stay_good(
    domain: Lab, tmp_path: Path, accept: Accept, rotate: Callable[[Path], None]
) -> None:
    keytab, stale = tmp_path / "http.keytab", tmp_path / "stale.keytab"
    for file in (keytab, stale):
        file.write_bytes(domain.keytab.read_bytes())
    gateway = accept(keytab)
    old_ticket = domain.ticket("alice", tmp_path)
    assert await Client(old_ticket).sign_in(gateway)
    rotate(keytab)
    new_ticket = domain.ticket("bob", tmp_path)
    assert (await Client(new_ticket).sign_in(gateway)).identity.account == "bob"
    assert (await Client(old_ticket).sign_in(gateway)).identity.account == "alice"
    with pytest.raises(AuthenticationFailed, match="export it anew"):
        await Client(new_ticket).sign_in(accept(stale))


async def test_a_ticket_for_another_service_says_which_remedy(domain: Lab, tmp_path: Path, accept: Accept) -> None:
    with pytest.raises(AuthenticationFailed, match="add the SPN to the account"):
        await Client(domain.ticket("alice", tmp_path), service=f"ldap@dc1.{DOMAIN}").sign_in(accept(domain.keytab))


async def test_clocks_that_differ_say_so(
    domain: Lab, tmp_path: Path, accept: Accept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one second allowed instead of five minutes, two seconds are a difference of clocks."""
    settings = tmp_path / "krb5.conf"
    text = (domain.folder / "krb5.conf").read_text()
    settings.write_text(text.replace("[libdefaults]", "[libdefaults]\n    clockskew = 1"))
    client = Client(domain.ticket("alice", tmp_path))
    await asyncio.sleep(2.1)
    monkeypatch.setenv("KRB5_CONFIG", str(settings))
    with pytest.raises(AuthenticationFailed, match="clocks differ"):
        await client.sign_in(accept(domain.keytab))


@pytest.mark.parametrize(
    ("principal", "older", "enctype", "told"),
    [
        (f"HTTP/{HOST}", 0, keytabs.AES256, "another account holds the SPN"),
        (f"HTTP/{HOST}", 1, keytabs.AES256, "export it anew"),
        (f"HTTP/{HOST}", 0, keytabs.AES128, "export it with AES keys"),
        ("HTTP/elsewhere.example.net", 0, keytabs.AES256, "add the SPN to the account"),
    ],
)
async def test_each_fault_of_a_keytab_names_its_remedy(
    domain: Lab, tmp_path: Path, accept: Accept, principal: str, older: int, enctype: int, told: str
) -> None:
    version = max(int(line.split()[0]) for line in run("klist", "-k", str(domain.keytab)).splitlines() if HOST in line)
    keytab = keytabs.write(tmp_path / "http.keytab", keytabs.entry(principal, version - older, enctype))
    with pytest.raises(AuthenticationFailed, match=told):
        await Client(domain.ticket("alice", tmp_path)).sign_in(accept(keytab))


# ---------------------------------------------------------------- RC4


async def test_a_ticket_under_rc4_is_refused_with_its_remedy_though_the_keytab_has_its_key(
    domain: Lab, tmp_path: Path, accept: Accept, rc4_keytab: Path
) -> None:
    both = tmp_path / "both.keytab"
    both.write_bytes(domain.keytab.read_bytes() + rc4_keytab.read_bytes()[2:])
    gateway = accept(both)
    ticket = domain.ticket("alice", tmp_path)
    for mech in (SPNEGO, gssapi.MechType.kerberos):
        with pytest.raises(
            AuthenticationFailed, match=f"ticket for HTTP/{OLD_HOST} is under rc4, not AES: allow AES for the account"
        ):
            await Client(ticket, service=f"HTTP@{OLD_HOST}", mech=mech).sign_in(gateway)
    assert (await Client(ticket).sign_in(gateway)).identity.account == "alice"


async def test_a_sign_in_whose_ticket_was_not_seen_is_refused(
    domain: Lab, tmp_path: Path, accept: Accept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the library ever find a ticket where our reader looks for none."""
    monkeypatch.setattr("calgate_negotiate.ticket.presented", lambda _token: None)
    with pytest.raises(AuthenticationFailed, match="no ticket whose encryption could be seen"):
        await Client(domain.ticket("alice", tmp_path)).sign_in(accept(domain.keytab))


def test_a_keytab_of_rc4_alone_is_refused_at_start_with_its_remedy(rc4_keytab: Path) -> None:
    with pytest.raises(ValueError, match=r"no AES key of HTTP/, only rc4: allow AES for the account"):
        Acceptor(rc4_keytab)


def test_a_keytab_that_holds_rc4_beside_aes_is_warned_about_at_start(
    domain: Lab, tmp_path: Path, accept: Accept, caplog: pytest.LogCaptureFixture
) -> None:
    accept(domain.keytab)
    assert caplog.messages == []
    keytab = tmp_path / "http.keytab"
    keytab.write_bytes(domain.keytab.read_bytes() + keytabs.entry(f"HTTP/{HOST}", 3, keytabs.RC4))
    accept(keytab)
    (message,) = caplog.messages
    assert "holds RC4 beside AES" in message


OURS = b"tls-server-end-point:" + b"o" * 32
OTHER = b"tls-server-end-point:" + b"x" * 32


@pytest.mark.parametrize(
    ("mode", "sent", "channel", "code"),
    [
        ("off", OTHER, OURS, None),
        ("allow", None, OURS, None),
        ("allow", OURS, OURS, None),
        ("allow", OTHER, OURS, "sign-in-failed"),
        ("allow", OTHER, None, None),
        ("require", OURS, OURS, None),
        ("require", OTHER, OURS, "sign-in-failed"),
        ("require", None, OURS, "binding-missing"),
        ("require", OURS, None, "binding-missing"),
    ],
)
async def test_a_ticket_relayed_from_another_connection_is_refused(
    domain: Lab, tmp_path: Path, accept: Accept, mode: Mode, sent: bytes | None, channel: bytes | None, code: str | None
) -> None:
    client = Client(domain.ticket("alice", tmp_path), bound_to=sent)
    peer = Peer("127.0.0.1", behind_proxy=False, channel_binding=channel)
    if code is None:
        assert (await client.sign_in(accept(domain.keytab, mode), peer)).identity.account == "alice"
        return
    with pytest.raises(AuthenticationFailed) as caught:
        await client.sign_in(accept(domain.keytab, mode), peer)
    assert caught.value.code == code


# ---------------------------------------------------------------- what Windows offers, in its order

NEGOEX = bytes.fromhex("060a2b06010401823702021e")


def offer(mechanisms: tuple[bytes, ...], token: bytes) -> bytes:
    """A first SPNEGO token."""
    fields = der.pack(0xA0, der.pack(0x30, b"".join(mechanisms))) + der.pack(0xA2, der.pack(0x04, token))
    return der.pack(0x60, spnego.SPNEGO + der.pack(0xA0, der.pack(0x30, fields)))


async def test_microsofts_own_number_for_kerberos_first_as_windows_has_it(
    domain: Lab, tmp_path: Path, accept: Accept
) -> None:
    client = Client(domain.ticket("alice", tmp_path), mech=gssapi.MechType.kerberos)
    mechanisms = (MS_KERBEROS, KERBEROS, NEGOEX, NTLM)
    outcome = await accept(domain.keytab).begin(PEER).step_token("Negotiate", offer(mechanisms, client.first))
    assert isinstance(outcome, Authenticated)
    assert outcome.identity.account == "alice"
    assert outcome.token is not None
    answer = spnego.read(outcome.token)
    assert isinstance(answer, spnego.Response)
    assert answer.mechanism == MS_KERBEROS, "Windows takes no other number than the one that it offered"


async def test_negoex_first_ends_in_kerberos_with_the_list_signed_by_both(
    domain: Lab, tmp_path: Path, accept: Accept
) -> None:
    """The guess is for NEGOEX; the gateway chooses Kerberos, and both sign what was offered."""
    client = Client(domain.ticket("bob", tmp_path), mech=gssapi.MechType.kerberos)
    mechanisms = (NEGOEX, MS_KERBEROS, KERBEROS, NTLM)
    handshake = accept(domain.keytab).begin(PEER)
    outcome = await handshake.step_token("Negotiate", offer(mechanisms, b"NEGOEXTS" + bytes(88)))
    assert isinstance(outcome, Continue)
    chosen = spnego.read(outcome.token)
    assert isinstance(chosen, spnego.Response)
    assert chosen.mechanism in (MS_KERBEROS, KERBEROS)
    outcome = await handshake.step_token("Negotiate", spnego.write(spnego.Response(token=client.first)))
    assert isinstance(outcome, Continue), "not before the list is signed"
    answer = spnego.read(outcome.token)
    assert isinstance(answer, spnego.Response)
    client._context.step(answer.token)
    signed = client._context.get_signature(der.pack(0x30, b"".join(mechanisms)))
    outcome = await handshake.step_token("Negotiate", spnego.write(spnego.Response(mic=signed)))
    assert isinstance(outcome, Authenticated)
    assert outcome.identity.account == "bob"
