"""NTLM in a real domain, through winbindd."""

import asyncio
import os
import signal
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import requests
from requests_ntlm import HttpNtlmAuth

from active_directory.test_gateway import ready
from calgate.plugin.errors import AccountRefused, AuthenticationFailed, Refusal, Unavailable
from calgate.plugin.identity import Authenticated
from calgate_negotiate.handshake import Mechanisms, NegotiateAuthenticator
from calgate_negotiate.winbind import Winbind
from support.certificates import Authority
from support.domain import HOST, PASSWORD, Lab
from support.domain_gateway import Front, front
from support.gateway_process import curl
from support.handshakes import PEER, ntlm_client, shake


@pytest_asyncio.fixture
async def accept() -> AsyncIterator[NegotiateAuthenticator]:
    winbind = Winbind()
    yield NegotiateAuthenticator(Mechanisms(ntlm_verifier=winbind))
    winbind.close()


async def verdict(accept: NegotiateAuthenticator, user: str, password: str = PASSWORD) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await shake(accept.begin(PEER), ntlm_client(user, password), "NTLM")
    return caught.value


@pytest.mark.parametrize(("scheme", "wrapped"), [("NTLM", False), ("Negotiate", False), ("Negotiate", True)])
async def test_domain_returns_sid_and_groups(accept: NegotiateAuthenticator, scheme: str, wrapped: bool) -> None:
    client = ntlm_client("corp\\ALICE", PASSWORD, spnego_wrapped=wrapped)
    identity = (await shake(accept.begin(PEER), client, scheme)).identity
    assert (identity.name, identity.mechanism) == ("CORP\\alice", "ntlm")
    assert identity.sid is not None
    assert identity.sid.startswith("S-1-5-21-")
    assert len(identity.groups) > 3
    assert identity.sid not in identity.groups


@pytest.mark.parametrize(
    ("user", "password", "code"),
    [
        ("CORP\\disabled", PASSWORD, "account-disabled"),
        ("CORP\\expired", PASSWORD, "account-expired"),
        ("CORP\\pwexpired", PASSWORD, "password-expired"),
        ("CORP\\locked", PASSWORD, "account-locked"),
    ],
)
async def test_account_states_have_their_own_codes(
    accept: NegotiateAuthenticator, user: str, password: str, code: str
) -> None:
    refusal = await verdict(accept, user, password)
    assert isinstance(refusal, AccountRefused)
    assert refusal.code == code


@pytest.mark.parametrize(
    ("user", "password", "expected"),
    [
        ("CORP\\carol", "wrong", "wrong"),
        ("CORP\\disabled", "wrong", "wrong"),
        ("CORP\\nobody", PASSWORD, "no such user"),
        ("GWHOST\\root", PASSWORD, "neither ours nor in negotiate.domains"),
        ("EVIL\\alice", PASSWORD, "neither ours nor in negotiate.domains"),
    ],
)
async def test_failed_sign_in_reveals_nothing_to_the_client(
    accept: NegotiateAuthenticator, user: str, password: str, expected: str
) -> None:
    refusal = await verdict(accept, user, password)
    assert isinstance(refusal, AuthenticationFailed)
    assert refusal.code == "sign-in-failed"
    assert expected in refusal.detail


async def test_event_loop_never_waits_for_winbindd(domain: Lab, accept: NegotiateAuthenticator) -> None:
    """winbindd is stopped with sixty sign-ins waiting; a blocked loop could not resume it, a thread does later."""
    winbindd = int((domain.folder / "member.pid").read_text())
    names = ["alice", "bob", "carol"] * 20
    awake = threading.Timer(8, os.killpg, (winbindd, signal.SIGCONT))
    os.killpg(winbindd, signal.SIGSTOP)
    awake.start()
    try:
        clients = [ntlm_client(f"CORP\\{name}", PASSWORD) for name in names]
        shaken = asyncio.gather(*(shake(accept.begin(PEER), client, "NTLM") for client in clients))
        for _ in range(50):
            await asyncio.sleep(0.01)
        assert not awake.finished.is_set()
        assert not shaken.done()
    finally:
        awake.cancel()
        os.killpg(winbindd, signal.SIGCONT)
    assert [one.identity.account for one in await shaken] == names


async def test_two_hundred_interleaved_handshakes_never_mix(accept: NegotiateAuthenticator) -> None:
    """All challenges are sent before the first response arrives."""
    names = [("alice", "bob", "carol", "many1000")[number % 4] for number in range(200)]
    clients = [ntlm_client(f"CORP\\{name}", PASSWORD) for name in names]
    handshakes = [accept.begin(PEER) for _ in names]
    challenges = [
        await handshake.step_token("NTLM", client.step()) for handshake, client in zip(handshakes, clients, strict=True)
    ]
    responses = [client.step(challenge.token) for client, challenge in zip(clients, challenges, strict=True)]
    steps = [handshake.step_token("NTLM", response) for handshake, response in zip(handshakes, responses, strict=True)]
    proven = []
    for first in range(0, len(steps), 40):  # on a busy machine more would exceed the deadline
        proven += await asyncio.gather(*steps[first : first + 40])
    assert [one.identity.account for one in proven if isinstance(one, Authenticated)] == names


async def test_sign_in_is_unavailable_without_a_domain_controller_and_works_again_with_one(
    domain: Lab, accept: NegotiateAuthenticator
) -> None:
    await shake(accept.begin(PEER), ntlm_client("CORP\\alice", PASSWORD), "NTLM")
    domain.do("dc", "stop")
    try:
        refusal = await verdict(accept, "CORP\\alice")
        assert isinstance(refusal, Unavailable)
        assert refusal.code == "logon-server-unavailable"
    finally:
        domain.do("dc", "start")
    for _ in range(100):
        try:
            await shake(accept.begin(PEER), ntlm_client("CORP\\alice", PASSWORD), "NTLM")
            return
        except Unavailable:
            await asyncio.sleep(0.1)
    raise AssertionError("winbindd does not come back")


# ---------------------------------------------------------------- the gateway with real clients


@pytest_asyncio.fixture
async def secure(domain: Lab, tmp_path: Path) -> AsyncIterator[Front]:
    """A gateway with TLS that requires channel binding."""
    tls = domain.folder / "tls"
    async with front(
        domain,
        tmp_path,
        listen=f'tls = {{ certificate = "{tls}/gateway.pem", key = "{tls}/gateway.key" }}',
        negotiate='ntlm = "domain"\nchannel_binding = "require"',
    ) as running:
        await ready_over_tls(running, domain)
        yield running


async def ready_over_tls(running: Front, domain: Lab) -> None:
    for _ in range(100):
        if (await curl(f"{running.url}/_calgate/health", "--cacert", str(domain.ca))).status == 200:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(running.gate.log.read_text())


async def test_curl_signs_in_by_ntlm(domain: Lab, tmp_path: Path) -> None:
    async with front(domain, tmp_path, negotiate='ntlm = "domain"') as running:
        await ready(running)
        reply = await curl(f"{running.url}/docs/Sales", user="CORP\\alice", password=PASSWORD)
        assert reply.status == 200
        assert running.users() == ["CORP\\alice"]
        refused = await curl(f"{running.url}/docs/Sales", user="CORP\\pwexpired", password=PASSWORD)
        assert (refused.status, refused.json["code"]) == (403, "password-expired")


async def test_requests_ntlm_signs_in_with_required_channel_binding(domain: Lab, secure: Front) -> None:
    def ask() -> requests.Response:
        auth = HttpNtlmAuth("CORP\\alice", PASSWORD)
        return requests.get(f"{secure.url}/docs/Sales", auth=auth, verify=str(domain.ca), timeout=30)

    assert (await asyncio.to_thread(ask)).status_code == 200
    assert secure.users() == ["CORP\\alice"]


async def test_client_without_channel_binding_is_refused_if_it_is_required(domain: Lab, secure: Front) -> None:
    """curl's NTLM has no channel binding."""
    reply = await curl(f"{secure.url}/docs/Sales", "--cacert", str(domain.ca), user="CORP\\alice", password=PASSWORD)
    assert (reply.status, reply.json["code"]) == (401, "binding-missing")


async def test_relayed_sign_in_is_refused_by_channel_binding(domain: Lab, secure: Front, tmp_path: Path) -> None:
    """A relay passes every byte on; the client is bound to the relay's certificate."""
    evil = Authority(tmp_path, "Evil CA")
    signed = evil.sign(HOST)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(signed.certificate, signed.key)
    outward = ssl.create_default_context(cafile=str(domain.ca))

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, secure.gate.port, ssl=outward)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while piece := await source.read(65536):
                sink.write(piece)
            sink.close()

        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(relay, "127.0.0.80", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]

    def ask() -> requests.Response:
        auth = HttpNtlmAuth("CORP\\alice", PASSWORD)
        return requests.get(f"https://{HOST}:{port}/docs/Sales", auth=auth, verify=str(evil.file), timeout=30)

    async with server:
        response = await asyncio.to_thread(ask)
    assert response.status_code == 401
    assert secure.users() == []
    assert any("relayed" in str(entry["reason"]) for entry in secure.gate.decisions("sign-in failed"))
