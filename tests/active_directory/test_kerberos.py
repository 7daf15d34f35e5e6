"""Kerberos with a keytab, a real KDC and MIT's client."""

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
    """A user with a ticket-granting ticket, who requests one for the gateway."""

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
        """Whether the gateway authenticated itself, too."""
        return bool(self._context.complete)


@pytest.mark.parametrize("mech", [SPNEGO, gssapi.MechType.kerberos])
async def test_ticket_signs_in_and_the_gateway_authenticates_itself(
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


async def test_name_typed_in_capitals_is_spelled_as_in_the_directory(
    domain: Lab, tmp_path: Path, accept: Accept
) -> None:
    proven = await Client(domain.ticket("ALICE", tmp_path)).sign_in(accept(domain.keytab))
    assert proven.identity.name == "CORP\\alice"


async def test_ticket_with_a_thousand_groups_signs_in(domain: Lab, tmp_path: Path, accept: Accept) -> None:
    client = Client(domain.ticket("many1000", tmp_path))
    assert len(base64.b64encode(client.first)) > 12_000
    proven = await client.sign_in(accept(domain.keytab))
    assert len(proven.identity.groups) > 1000


async def test_replayed_token_is_refused(domain: Lab, tmp_path: Path, accept: Accept) -> None:
    """A replay on another connection."""
    gateway, client = accept(domain.keytab), Client(domain.ticket("alice", tmp_path))
    await client.sign_in(gateway)
    with pytest.raises(AuthenticationFailed, match="sent twice"):
        await gateway.begin(PEER).step_token("Negotiate", client.first)


async def test_changed_token_is_refused_wherever_it_is_changed(domain: Lab, tmp_path: Path, accept: Accept) -> None:
    gateway, client = accept(domain.keytab), Client(domain.ticket("bob", tmp_path))
    token = client.first
    for at in range(200, len(token), 97):
        spoiled = token[:at] + bytes([token[at] ^ 0x55]) + token[at + 1 :]
        with pytest.raises(AuthenticationFailed):
            await gateway.begin(PEER).step_token("Negotiate", spoiled)
    for length in range(0, len(token), 61):
        with pytest.raises(AuthenticationFailed):
            await gateway.begin(PEER).step_token("Negotiate", token[:length])


async def test_rotated_keytab_works_without_a_restart_and_with_old_tickets(
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
    with pytest.raises(AuthenticationFailed, match="export the keytab again"):
        await Client(new_ticket).sign_in(accept(stale))


async def test_ticket_for_another_service_is_refused_with_the_remedy(
    domain: Lab, tmp_path: Path, accept: Accept
) -> None:
    with pytest.raises(AuthenticationFailed, match="add the SPN to the account"):
        await Client(domain.ticket("alice", tmp_path), service=f"ldap@dc1.{DOMAIN}").sign_in(accept(domain.keytab))


async def test_differing_clocks_are_named_in_the_refusal(
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
    ("principal", "older", "enctype", "expected"),
    [
        (f"HTTP/{HOST}", 0, keytabs.AES256, "another account holds the SPN"),
        (f"HTTP/{HOST}", 1, keytabs.AES256, "export the keytab again"),
        (f"HTTP/{HOST}", 0, keytabs.AES128, "export it with AES keys"),
        ("HTTP/elsewhere.example.net", 0, keytabs.AES256, "add the SPN to the account"),
    ],
)
async def test_fault_of_the_keytab_is_refused_with_its_remedy(
    domain: Lab, tmp_path: Path, accept: Accept, principal: str, older: int, enctype: int, expected: str
) -> None:
    version = max(int(line.split()[0]) for line in run("klist", "-k", str(domain.keytab)).splitlines() if HOST in line)
    keytab = keytabs.write(tmp_path / "http.keytab", keytabs.entry(principal, version - older, enctype))
    with pytest.raises(AuthenticationFailed, match=expected):
        await Client(domain.ticket("alice", tmp_path)).sign_in(accept(keytab))


# ---------------------------------------------------------------- RC4


async def test_rc4_ticket_is_refused_with_the_remedy_even_with_its_key_in_the_keytab(
    domain: Lab, tmp_path: Path, accept: Accept, rc4_keytab: Path
) -> None:
    both = tmp_path / "both.keytab"
    both.write_bytes(domain.keytab.read_bytes() + rc4_keytab.read_bytes()[2:])
    gateway = accept(both)
    ticket = domain.ticket("alice", tmp_path)
    for mech in (SPNEGO, gssapi.MechType.kerberos):
        with pytest.raises(
            AuthenticationFailed,
            match=f"ticket for HTTP/{OLD_HOST} is encrypted with rc4, not AES: allow AES for the account",
        ):
            await Client(ticket, service=f"HTTP@{OLD_HOST}", mech=mech).sign_in(gateway)
    assert (await Client(ticket).sign_in(gateway)).identity.account == "alice"


async def test_sign_in_without_a_readable_ticket_is_refused(
    domain: Lab, tmp_path: Path, accept: Accept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In case the library ever finds a ticket where our reader does not look."""
    monkeypatch.setattr("calgate_negotiate.ticket.presented", lambda _token: None)
    with pytest.raises(AuthenticationFailed, match="no ticket whose encryption type can be read"):
        await Client(domain.ticket("alice", tmp_path)).sign_in(accept(domain.keytab))


def test_start_fails_with_an_rc4_keytab_and_names_the_remedy(rc4_keytab: Path) -> None:
    with pytest.raises(ValueError, match=r"no AES key of HTTP/, only rc4: allow AES for the account"):
        Acceptor(rc4_keytab)


def test_start_warns_about_rc4_keys_in_the_keytab(
    domain: Lab, tmp_path: Path, accept: Accept, caplog: pytest.LogCaptureFixture
) -> None:
    accept(domain.keytab)
    assert caplog.messages == []
    keytab = tmp_path / "http.keytab"
    keytab.write_bytes(domain.keytab.read_bytes() + keytabs.entry(f"HTTP/{HOST}", 3, keytabs.RC4))
    accept(keytab)
    (message,) = caplog.messages
    assert "has RC4 keys as well as AES keys" in message


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
async def test_relayed_ticket_is_refused_by_channel_binding(
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


async def test_microsofts_kerberos_oid_signs_in_if_it_is_first_as_in_windows(
    domain: Lab, tmp_path: Path, accept: Accept
) -> None:
    client = Client(domain.ticket("alice", tmp_path), mech=gssapi.MechType.kerberos)
    mechanisms = (MS_KERBEROS, KERBEROS, NEGOEX, NTLM)
    outcome = await accept(domain.keytab).begin(PEER).step_token("Negotiate", offer(mechanisms, client.first))
    assert isinstance(outcome, Authenticated)
    assert outcome.identity.account == "alice"
    assert outcome.token is not None
    response = spnego.read(outcome.token)
    assert isinstance(response, spnego.Response)
    assert response.mechanism == MS_KERBEROS, "Windows accepts only the OID that it offered"


async def test_negoex_first_leads_to_kerberos_with_signed_lists(domain: Lab, tmp_path: Path, accept: Accept) -> None:
    """The first token is for NEGOEX; the gateway chooses Kerberos, and both sides sign the offer."""
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
    response = spnego.read(outcome.token)
    assert isinstance(response, spnego.Response)
    client._context.step(response.token)
    signed = client._context.get_signature(der.pack(0x30, b"".join(mechanisms)))
    outcome = await handshake.step_token("Negotiate", spnego.write(spnego.Response(mic=signed)))
    assert isinstance(outcome, Authenticated)
    assert outcome.identity.account == "bob"
