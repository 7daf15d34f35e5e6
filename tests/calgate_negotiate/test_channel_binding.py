"""Channel binding: sign-ins bound to the TLS connection they arrive on."""

import asyncio
import dataclasses
import hashlib
from ipaddress import ip_network
from pathlib import Path

import pytest
import spnego
from spnego.channel_bindings import GssChannelBindings

from calgate.plugin.channel_binding import certificate_binding
from calgate.plugin.errors import AuthenticationFailed
from calgate.plugin.identity import Authenticated, Peer
from calgate_negotiate import channel_binding
from calgate_negotiate.channel_binding import ChannelBindingPolicy, Mode
from calgate_negotiate.handshake import Mechanisms, NegotiateAuthenticator
from calgate_negotiate.ntlm import PluginVerifier
from calgate_negotiate.ntlm_messages import binding_hash
from calgate_users.directory import UsersDirectory
from support.certificates import Authority
from support.handshakes import PEER, ntlm_client, shake
from support.users_file import write
from support.waiting import until

OURS = b"tls-server-end-point:" + b"o" * 32
OTHER = b"tls-server-end-point:" + b"x" * 32


async def sign_in(
    users_file: Path, mode: Mode, *, sent: bytes | None, peer: Peer, terminator: Path | None = None
) -> Authenticated:
    gateway = NegotiateAuthenticator(
        Mechanisms(
            ntlm_verifier=PluginVerifier(UsersDirectory(users_file)),
            channel_binding=ChannelBindingPolicy(mode, terminator),
        )
    )
    client = ntlm_client("DEMO\\alice")
    if sent is not None:
        client.channel_bindings = GssChannelBindings(application_data=sent)
    return await shake(gateway.begin(peer), client, "NTLM")


OVER_TLS = dataclasses.replace(PEER, channel_binding=OURS)


@pytest.mark.parametrize(
    ("mode", "sent", "peer", "code"),
    [
        ("off", None, OVER_TLS, None),
        ("off", OTHER, OVER_TLS, None),
        ("allow", None, OVER_TLS, None),
        ("allow", OURS, OVER_TLS, None),
        ("allow", OTHER, OVER_TLS, "sign-in-failed"),
        ("allow", OURS, PEER, None),  # the terminator's certificate is not known
        ("require", OURS, OVER_TLS, None),
        ("require", OTHER, OVER_TLS, "sign-in-failed"),
        ("require", None, OVER_TLS, "binding-missing"),
        ("require", OURS, PEER, "binding-missing"),
        ("require", None, PEER, "binding-missing"),
    ],
)
async def test_channel_binding_is_judged_by_its_mode(
    tmp_path: Path, mode: Mode, sent: bytes | None, peer: Peer, code: str | None
) -> None:
    if code is None:
        assert (await sign_in(write(tmp_path), mode, sent=sent, peer=peer)).identity.account == "alice"
        return
    with pytest.raises(AuthenticationFailed) as caught:
        await sign_in(write(tmp_path), mode, sent=sent, peer=peer)
    assert caught.value.code == code


async def test_binding_of_zeros_counts_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spnego._ntlm.md5", lambda _data: bytes(16))
    with pytest.raises(AuthenticationFailed) as caught:
        await sign_in(write(tmp_path), "require", sent=OURS, peer=OVER_TLS)
    assert caught.value.code == "binding-missing"


def test_terminators_certificate_is_expected_behind_a_proxy(tmp_path: Path) -> None:
    terminator = Authority(tmp_path).sign("bi.corp.example").certificate
    behind = dataclasses.replace(OVER_TLS, behind_proxy=True)
    assert ChannelBindingPolicy("require", terminator).expected(behind).channel == certificate_binding(terminator)
    assert ChannelBindingPolicy("require", None).expected(behind).channel is None
    assert ChannelBindingPolicy("require", terminator).expected(OVER_TLS).channel == OURS


async def test_terminators_new_certificate_is_loaded_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(channel_binding, "_POLL_INTERVAL", 0.01)
    authority, file = Authority(tmp_path), tmp_path / "terminator.pem"
    first, second = (authority.sign(name).certificate for name in ("one.example", "two.example"))
    file.write_bytes(first.read_bytes())
    policy = ChannelBindingPolicy("require", file)
    following = asyncio.create_task(policy.follow())
    behind = dataclasses.replace(PEER, behind_proxy=True)
    try:
        file.write_text("broken")
        await until(lambda: "cannot load the new file" in caplog.text)
        assert policy.expected(behind).channel == certificate_binding(first)
        file.write_bytes(second.read_bytes())
        await until(lambda: policy.expected(behind).channel == certificate_binding(second))
    finally:
        following.cancel()


def test_start_fails_with_an_unreadable_binding_certificate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"negotiate\.binding_certificate: .* is not a certificate"):
        ChannelBindingPolicy("require", tmp_path / "nowhere.pem")


@pytest.mark.parametrize(
    ("address", "is_taken"), [("10.1.2.3", True), ("10.2.0.1", False), ("fd00::1", True), ("", False)]
)
async def test_ntlm_is_refused_outside_ntlm_from(tmp_path: Path, address: str, is_taken: bool) -> None:
    networks = (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
    gateway = NegotiateAuthenticator(
        Mechanisms(ntlm_verifier=PluginVerifier(UsersDirectory(write(tmp_path))), ntlm_from=networks)
    )
    peer = dataclasses.replace(PEER, address=address)
    assert gateway.schemes_for(peer) == (["NTLM"] if is_taken else [])
    handshake = gateway.begin(peer)
    if is_taken:
        assert await shake(handshake, ntlm_client("DEMO\\alice"), "NTLM")
        return
    with pytest.raises(AuthenticationFailed) as caught:
        await shake(handshake, ntlm_client("DEMO\\alice"), "NTLM")
    assert caught.value.code == "ntlm-off"


def test_the_binding_is_what_an_independent_client_computes() -> None:
    theirs = spnego.channel_bindings.GssChannelBindings(application_data=OURS).pack()
    assert binding_hash(OURS) == hashlib.md5(theirs).digest()
