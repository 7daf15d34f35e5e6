"""NTLM: raw in the NTLM scheme, raw in the Negotiate scheme, and inside SPNEGO."""

import asyncio
import dataclasses
import hmac
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import spnego
from hypothesis import given, settings
from hypothesis import strategies as st
from spnego._ntlm_raw.messages import Authenticate, Challenge

from calgate.plugin.errors import AccountRefused, AuthenticationFailed, Refusal
from calgate.plugin.identity import Authenticated, Continue, Identity, SelectiveAuthenticator, schemes_for
from calgate_negotiate import der, ntlm_messages, wbclient
from calgate_negotiate import spnego as tokens
from calgate_negotiate.handshake import Mechanisms, NegotiateAuthenticator, State
from calgate_negotiate.ntlm import PluginVerifier
from calgate_negotiate.spnego import KERBEROS, MS_KERBEROS, NTLM, NegState
from calgate_users.directory import UsersDirectory
from calgate_users.ntlmv2 import nt_hash
from support.handshakes import PEER, authenticator, ntlm_client, shake
from support.users_file import FILE, write

if TYPE_CHECKING:
    from calgate_negotiate.kerberos import Acceptor

NEGOEX = bytes.fromhex("060a2b06010401823702021e")


@pytest.fixture(scope="module")
def users_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("users"), FILE)


@pytest.mark.parametrize(("scheme", "wrapped"), [("NTLM", False), ("Negotiate", False), ("Negotiate", True)])
async def test_right_password_signs_in_with_every_wrapping(users_file: Path, scheme: str, wrapped: bool) -> None:
    client = ntlm_client("DEMO\\alice", spnego_wrapped=wrapped)
    proven = await shake(authenticator(users_file).begin(PEER), client, scheme)
    assert proven.identity == Identity("DEMO", "alice", "ntlm")
    assert client.complete


@pytest.mark.parametrize(("scheme", "wrapped"), [("NTLM", False), ("Negotiate", False), ("Negotiate", True)])
async def test_wrong_password_fails_with_every_wrapping(users_file: Path, scheme: str, wrapped: bool) -> None:
    client = ntlm_client("DEMO\\alice", "wrong", spnego_wrapped=wrapped)
    with pytest.raises(AuthenticationFailed):
        await shake(authenticator(users_file).begin(PEER), client, scheme)


async def test_disabled_account_is_refused_with_its_own_error(users_file: Path) -> None:
    with pytest.raises(AccountRefused):
        await shake(authenticator(users_file).begin(PEER), ntlm_client("DEMO\\gone"), "NTLM")


async def test_scheme_is_recognized_in_any_case(users_file: Path) -> None:
    assert await shake(authenticator(users_file).begin(PEER), ntlm_client("DEMO\\alice"), "nTLm")


async def test_only_ntlm_is_offered_without_a_keytab(users_file: Path) -> None:
    assert authenticator(users_file).schemes == ["NTLM"]


# ---------------------------------------------------------------- integrity


async def test_changed_challenge_is_detected_by_the_mic(users_file: Path) -> None:
    """A relay removes signing from the client's flags."""

    def without_signing(leg: int, token: bytes) -> bytes:
        if leg != 1:
            return token
        flags = int.from_bytes(token[12:16], "little") & ~0x10
        return token[:12] + flags.to_bytes(4, "little") + token[16:]

    with pytest.raises(AuthenticationFailed, match="MIC does not fit"):
        await shake(authenticator(users_file).begin(PEER), ntlm_client("DEMO\\alice"), "NTLM", without_signing)


async def test_promised_mic_cannot_be_removed(users_file: Path) -> None:
    """CVE-2019-1040: the proof covers the promise."""

    def drop(leg: int, token: bytes) -> bytes:
        if leg != 2:
            return token
        whole = bytearray(token[:72] + token[88:])  # version stays, MIC goes, the payload moves up
        for field in (12, 20, 28, 36, 44, 52):
            offset = int.from_bytes(whole[field + 4 : field + 8], "little") - 16
            whole[field + 4 : field + 8] = offset.to_bytes(4, "little")
        assert Authenticate.unpack(bytes(whole)).mic is None
        assert Authenticate.unpack(bytes(whole)).user_name == "alice"
        return bytes(whole)

    with pytest.raises(AuthenticationFailed, match="MIC does not fit"):
        await shake(authenticator(users_file).begin(PEER), ntlm_client("DEMO\\alice"), "NTLM", drop)


async def test_response_to_another_challenge_fails(users_file: Path) -> None:
    """A captured AUTHENTICATE is replayed on another connection."""
    first, second = authenticator(users_file).begin(PEER), authenticator(users_file).begin(PEER)
    client, other = ntlm_client("DEMO\\alice"), ntlm_client("DEMO\\alice")
    ours, theirs = client.step(), other.step()
    assert ours is not None
    assert theirs is not None
    challenge = await first.step_token("NTLM", ours)
    assert isinstance(challenge, Continue)
    response = client.step(challenge.token)
    assert response is not None
    assert isinstance(await first.step_token("NTLM", response), Authenticated)
    await second.step_token("NTLM", theirs)
    with pytest.raises(AuthenticationFailed):
        await second.step_token("NTLM", response)


async def test_mic_of_zeros_is_refused(users_file: Path) -> None:
    def blank(leg: int, token: bytes) -> bytes:
        return token if leg == 1 else token[:72] + bytes(16) + token[88:]

    with pytest.raises(AuthenticationFailed, match="MIC does not fit"):
        await shake(authenticator(users_file).begin(PEER), ntlm_client("DEMO\\alice"), "NTLM", blank)


async def test_changed_list_of_mechanisms_is_detected(users_file: Path) -> None:
    """A relay removes Kerberos from the client's offer, so that NTLM is chosen."""
    opening = tokens.Init((KERBEROS, NTLM), mechanism_list=b"", token=None)
    outcome = await _finish_inside_spnego(users_file, opening, signed_list=_list(NTLM))
    assert isinstance(outcome, AuthenticationFailed)
    assert "mechListMIC does not fit" in outcome.detail


@pytest.mark.parametrize("first", [MS_KERBEROS, KERBEROS, NEGOEX])
async def test_windows_offer_with_ntlm_last_signs_in_by_ntlm_with_signed_lists(users_file: Path, first: bytes) -> None:
    opening = tokens.Init((first, KERBEROS, NTLM), mechanism_list=b"", token=b"optimistic, for the first")
    outcome = await _finish_inside_spnego(users_file, opening, signed_list=_list(first, KERBEROS, NTLM))
    assert isinstance(outcome, Authenticated)
    assert outcome.identity.account == "alice"


async def test_ntlm_as_second_choice_fails_without_mech_list_mic(users_file: Path) -> None:
    opening = tokens.Init((MS_KERBEROS, NTLM), mechanism_list=b"", token=None)
    outcome = await _finish_inside_spnego(users_file, opening, signed_list=None)
    assert isinstance(outcome, AuthenticationFailed)
    assert "mechListMIC is missing" in outcome.detail


@pytest.mark.parametrize("flags", [0x01, 0x80001, 0x8001])
async def test_mech_list_mic_fails_with_flags_that_allow_no_signing(users_file: Path, flags: int) -> None:
    """A handmade message with the right password and without a MIC, which would cover the flags."""
    handshake = authenticator(users_file).begin(PEER)
    first = ntlm_client("DEMO\\alice").step()
    assert first is not None
    outcome = await handshake.step_token("Negotiate", init_token((NTLM,), first))
    assert isinstance(outcome, Continue)
    response = tokens.read(outcome.token)
    assert isinstance(response, tokens.Response)
    nonce = Challenge.unpack(response.token).server_challenge
    blob = b"\1\1" + bytes(30)
    key = hmac.digest(nt_hash("demo"), "ALICEDEMO".encode("utf-16-le"), "md5")
    proof = hmac.digest(key, nonce + blob, "md5")
    message = Authenticate(flags, None, proof + blob, "DEMO", "alice", encoding="utf-16-le").pack()
    with pytest.raises(AuthenticationFailed, match="mechListMIC does not fit"):
        await handshake.step_token("Negotiate", tokens.write(tokens.Response(token=message, mic=bytes(16))))


async def _finish_inside_spnego(
    users_file: Path, opening: tokens.Init, signed_list: bytes | None
) -> Authenticated | Refusal:
    """A client that offers NTLM, not first, and signs `signed_list`; it checks our own signature."""
    handshake = authenticator(users_file).begin(PEER)
    client = ntlm_client("DEMO\\alice")
    outcome = await handshake.step_token("Negotiate", init_token(opening.mechanisms, opening.token))
    assert isinstance(outcome, Continue)
    response = tokens.read(outcome.token)
    assert response == tokens.Response(NegState.REQUEST_MIC, NTLM)
    outcome = await handshake.step_token("Negotiate", tokens.write(tokens.Response(token=client.step())))
    assert isinstance(outcome, Continue)
    challenge = tokens.read(outcome.token)
    assert isinstance(challenge, tokens.Response)
    token = client.step(challenge.token)
    mic = client.sign(signed_list) if signed_list is not None else None
    try:
        outcome = await handshake.step_token("Negotiate", tokens.write(tokens.Response(token=token, mic=mic)))
    except Refusal as refusal:
        return refusal
    assert isinstance(outcome, Authenticated)
    assert outcome.token is not None
    done = tokens.read(outcome.token)
    assert isinstance(done, tokens.Response)
    assert done.state == NegState.ACCEPT_COMPLETED
    assert done.mic is not None
    client._reset_ntlm_crypto_state(outgoing=False)
    client.verify(_list(*opening.mechanisms), done.mic)
    return outcome


def _list(*mechanisms: bytes) -> bytes:
    body = b"".join(mechanisms)
    return bytes([0x30, len(body)]) + body


def init_token(mechanisms: tuple[bytes, ...], token: bytes | None) -> bytes:
    """A client's NegTokenInit."""
    fields = der.pack(0xA0, _list(*mechanisms))
    if token is not None:
        fields += der.pack(0xA2, der.pack(0x04, token))
    body = tokens.SPNEGO + der.pack(0xA0, der.pack(0x30, fields))
    return der.pack(0x60, body)


# ---------------------------------------------------------------- refusals


async def test_ntlmv1_is_refused(users_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_COMPAT_LEVEL", "1")
    with pytest.raises(AuthenticationFailed, match="NTLMv1 is not accepted"):
        await shake(authenticator(users_file).begin(PEER), ntlm_client("DEMO\\alice"), "NTLM")


@pytest.mark.parametrize(
    ("domain", "account"),
    [
        ("", "EVIL\\alice"),
        ("", "EVIL\\"),
        ("DEMO", "alice@demo"),
        ("DEMO", "a/b"),
        ("DE\\MO", "alice"),
        ("DEMO\0", "alice"),
        ("DEMO", "ali\u202ece"),
        ("DEMO", "alice\n"),
        ("DEMO", " alice"),
        ("", "alice@demo@demo"),
        ("", "@demo"),
        ("DEMO", "a" * 257),
    ],
)
async def test_name_that_could_be_read_in_two_ways_is_refused(users_file: Path, domain: str, account: str) -> None:
    """Even with the right password's proof over exactly these names."""
    with pytest.raises(AuthenticationFailed, match="is not accepted"):
        await _answer_as(users_file, domain, account)


@pytest.mark.parametrize(("domain", "account"), [("EVIL", "alice"), ("", "alice@evil")])
async def test_unknown_domain_is_refused(users_file: Path, domain: str, account: str) -> None:
    with pytest.raises(AuthenticationFailed, match="no such user"):
        await _answer_as(users_file, domain, account)


@pytest.mark.parametrize(
    ("domain", "account"), [("DEMO", "alice"), ("", "alice"), ("", "alice@demo"), ("demo", "ALICE")]
)
async def test_plain_name_and_upn_sign_in(users_file: Path, domain: str, account: str) -> None:
    assert (await _answer_as(users_file, domain, account)).identity == Identity("DEMO", "alice", "ntlm")


async def _answer_as(users_file: Path, domain: str, account: str) -> Authenticated:
    handshake = authenticator(users_file).begin(PEER)
    client = ntlm_client("DEMO\\alice")
    credential = client._credential
    credential.domain, credential.username = domain, account
    return await shake(handshake, client, "NTLM")


async def test_anonymous_sign_in_is_refused(users_file: Path) -> None:
    with pytest.raises(AuthenticationFailed, match="anonymous"):
        await _answer_as(users_file, "", "")

    def say_anonymous(leg: int, token: bytes) -> bytes:
        return token if leg == 1 else token[:61] + bytes([token[61] | 0x08]) + token[62:]

    with pytest.raises(AuthenticationFailed, match="anonymous"):
        await shake(authenticator(users_file).begin(PEER), ntlm_client("DEMO\\alice"), "NTLM", say_anonymous)


@pytest.mark.parametrize(("flags", "is_guest"), [(0x20, False), (0x21, True)])
def test_guest_sign_in_is_refused(flags: int, is_guest: bool) -> None:
    """winbindd's reply from a domain with its Guest account enabled, for any name and password."""
    sid = wbclient.Sid(1, 2, (0, 0, 0, 0, 0, 5), (21, 501))
    sids = (wbclient.SidWithAttributes * 1)(wbclient.SidWithAttributes(sid, 7))
    info = wbclient.UserInfo(user_flags=flags, account_name=b"Guest", domain_name=b"CORP", sid_count=1, sids=sids)
    if is_guest:
        with pytest.raises(AuthenticationFailed, match="signed the user in as a guest"):
            wbclient.proof_of(info)
    else:
        assert wbclient.proof_of(info).identity.sid == "S-1-5-21-501"


async def test_ntlm_through_a_trusted_proxy_is_refused(users_file: Path) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        await shake(
            authenticator(users_file).begin(dataclasses.replace(PEER, behind_proxy=True)),
            ntlm_client("DEMO\\alice"),
            "NTLM",
        )
    assert caught.value.code == "ntlm-behind-proxy"


@pytest.mark.parametrize("behind_proxy", [False, True])
def test_ntlm_is_offered_only_to_clients_that_may_use_it(users_file: Path, behind_proxy: bool) -> None:
    """Kerberos stays on offer: a browser with a ticket needs no NTLM."""
    mechanisms = Mechanisms(
        kerberos=cast("Acceptor", object()), ntlm_verifier=PluginVerifier(UsersDirectory(users_file))
    )
    gateway = NegotiateAuthenticator(mechanisms)
    assert isinstance(gateway, SelectiveAuthenticator)
    offered = schemes_for(gateway, dataclasses.replace(PEER, behind_proxy=behind_proxy))
    assert offered == (["Negotiate"] if behind_proxy else ["Negotiate", "NTLM"])


# ---------------------------------------------------------------- states


async def test_completed_handshake_refuses_another_step(users_file: Path) -> None:
    handshake = authenticator(users_file).begin(PEER)
    last = b""

    def remember(_leg: int, token: bytes) -> bytes:
        nonlocal last
        last = token
        return token

    await shake(handshake, ntlm_client("DEMO\\alice"), "NTLM", remember)
    assert handshake.state is State.COMPLETE
    with pytest.raises(AuthenticationFailed, match="stepped again"):
        await handshake.step_token("NTLM", last)


async def test_failed_handshake_refuses_another_step(users_file: Path) -> None:
    handshake = authenticator(users_file).begin(PEER)
    with pytest.raises(AuthenticationFailed):
        await handshake.step_token("NTLM", b"garbage")
    assert handshake.state is State.FAILED
    with pytest.raises(AuthenticationFailed, match="stepped again"):
        await shake(handshake, ntlm_client("DEMO\\alice"), "NTLM")


@pytest.mark.parametrize(
    ("scheme", "offered", "states"),
    [
        ("NTLM", None, [State.NTLM_RESPONSE]),
        ("Negotiate", (NTLM,), [State.SPNEGO_RESPONSE]),
        ("Negotiate", (KERBEROS, NTLM), [State.SPNEGO_NEGOTIATE, State.SPNEGO_RESPONSE]),
    ],
)
async def test_handshake_passes_through_the_states_of_its_table(
    users_file: Path, scheme: str, offered: tuple[bytes, ...] | None, states: list[State]
) -> None:
    handshake, client = authenticator(users_file).begin(PEER), ntlm_client("DEMO\\alice")
    passed = [handshake.state]
    negotiate = client.step()
    assert negotiate is not None
    first = negotiate if offered is None else init_token(offered, negotiate)
    assert isinstance(await handshake.step_token(scheme, first), Continue)
    passed.append(handshake.state)
    if passed[-1] is State.SPNEGO_NEGOTIATE:
        outcome = await handshake.step_token(scheme, tokens.write(tokens.Response(token=negotiate)))
        assert isinstance(outcome, Continue)
        passed.append(handshake.state)
    assert passed == [State.FIRST, *states]


async def test_second_step_is_refused_while_the_first_is_in_progress(users_file: Path) -> None:
    handshake, client = authenticator(users_file).begin(PEER), ntlm_client("DEMO\\alice")
    negotiate = client.step()
    assert negotiate is not None
    challenge = await handshake.step_token("NTLM", negotiate)
    assert isinstance(challenge, Continue)
    response = client.step(challenge.token)
    assert response is not None
    outcomes = await asyncio.gather(*(handshake.step_token("NTLM", response) for _ in range(2)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Authenticated, AuthenticationFailed]


async def test_scheme_cannot_change_within_a_handshake(users_file: Path) -> None:
    handshake = authenticator(users_file).begin(PEER)
    client = ntlm_client("DEMO\\alice")
    outcome = await handshake.step_token("NTLM", client.step())
    assert isinstance(outcome, Continue)
    with pytest.raises(AuthenticationFailed, match="scheme changed"):
        await handshake.step_token("Negotiate", client.step(outcome.token))


async def test_handshake_cannot_begin_with_authenticate(users_file: Path) -> None:
    message = Authenticate(1, b"", b"x" * 60, domain_name="DEMO", username="alice").pack()
    with pytest.raises(AuthenticationFailed, match="begins with NEGOTIATE"):
        await authenticator(users_file).begin(PEER).step_token("NTLM", message)


async def test_oversized_token_is_refused_unread(users_file: Path) -> None:
    with pytest.raises(AuthenticationFailed, match="longer than any real one"):
        await authenticator(users_file).begin(PEER).step_token("Negotiate", ntlm_messages.SIGNATURE + bytes(60000))


# ---------------------------------------------------------------- hostile bytes


@given(
    token=st.binary(max_size=300), kind=st.sampled_from([b"", ntlm_messages.SIGNATURE + b"\1\0\0\0", b"\x60", b"\xa1"])
)
@settings(max_examples=400)
async def test_hostile_first_token_is_challenged_or_refused(users_file: Path, token: bytes, kind: bytes) -> None:
    for scheme in ("NTLM", "Negotiate"):
        try:
            outcome = await authenticator(users_file).begin(PEER).step_token(scheme, kind + token)
        except AuthenticationFailed:
            continue
        assert isinstance(outcome, Continue)


@given(data=st.data(), wrapped=st.booleans())
@settings(max_examples=400)
async def test_changed_response_never_signs_another_user_in(
    users_file: Path, data: st.DataObject, wrapped: bool
) -> None:
    changed = False

    def tamper(leg: int, token: bytes) -> bytes:
        nonlocal changed
        if leg != 2:
            return token
        at = data.draw(st.integers(0, len(token) - 1))
        bytes_ = data.draw(st.binary(min_size=1, max_size=8))
        spoiled = token[:at] + bytes_ + token[at + len(bytes_) :]
        if data.draw(st.booleans()):
            spoiled = spoiled[: data.draw(st.integers(0, len(spoiled)))]
        changed = spoiled != token
        return spoiled

    client = ntlm_client("DEMO\\alice", spnego_wrapped=wrapped)
    try:
        outcome = await shake(authenticator(users_file).begin(PEER), client, "Negotiate" if wrapped else "NTLM", tamper)
    except (AuthenticationFailed, spnego.exceptions.SpnegoError):
        return
    # bytes around the protected messages (unused header bytes, SPNEGO's own state) can change unnoticed
    assert outcome.identity.account == "alice"
    assert changed or outcome.token is None or wrapped


@given(token=st.binary(max_size=200))
@settings(max_examples=300)
def test_spnego_reader_returns_or_raises_value_error_for_hostile_bytes(token: bytes) -> None:
    for wrapped in (token, b"\x60" + bytes([min(len(token), 127)]) + token):
        try:
            tokens.read(wrapped)
        except ValueError:
            continue


def test_written_spnego_token_is_read_back() -> None:
    for size in (0, 1, 127, 128, 255, 256, 40000):
        response = tokens.Response(NegState.ACCEPT_INCOMPLETE, NTLM, b"t" * size, b"m" * size)
        assert tokens.read(tokens.write(response)) == response


def test_spnego_token_with_trailing_bytes_is_refused() -> None:
    token = tokens.write(tokens.Response(NegState.REJECT))
    with pytest.raises(ValueError, match="bytes after the token"):
        tokens.read(token + b"x")
