"""Python's requests with Kerberos (requests-gssapi, requests-kerberos): programs sign in as browsers do."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import requests
import requests_gssapi
import requests_kerberos
from requests.auth import AuthBase

from active_directory.test_gateway import ready
from active_directory.test_ntlm import ready_over_tls
from support.domain import Lab
from support.domain_gateway import Front, front


@dataclass(frozen=True, slots=True)
class Client:
    """The options of one of the two libraries."""

    proving: Callable[[], AuthBase]  # raises unless the gateway's own token fits
    proving_at_once: Callable[
        [], AuthBase
    ]  # the same, and the ticket goes with the first request, before any challenge
    bound: Callable[[], AuthBase]  # to the certificate (RFC 5929)
    unbound: Callable[[], AuthBase]


CLIENTS = {
    "requests-gssapi": Client(
        proving=lambda: requests_gssapi.HTTPSPNEGOAuth(mutual_authentication=requests_gssapi.REQUIRED),
        proving_at_once=lambda: requests_gssapi.HTTPSPNEGOAuth(
            mutual_authentication=requests_gssapi.REQUIRED, opportunistic_auth=True
        ),
        bound=lambda: requests_gssapi.HTTPSPNEGOAuth(channel_bindings="tls-server-end-point"),
        unbound=requests_gssapi.HTTPSPNEGOAuth,
    ),
    "requests-kerberos": Client(
        proving=lambda: requests_kerberos.HTTPKerberosAuth(mutual_authentication=requests_kerberos.REQUIRED),
        proving_at_once=lambda: requests_kerberos.HTTPKerberosAuth(
            mutual_authentication=requests_kerberos.REQUIRED, force_preemptive=True
        ),
        bound=requests_kerberos.HTTPKerberosAuth,  # it binds by itself
        unbound=lambda: requests_kerberos.HTTPKerberosAuth(send_cbt=False),
    ),
}


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Client:
    return CLIENTS[request.param]


@pytest.fixture(autouse=True)
def alice(domain: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the clients of a test alice's ticket."""
    for name, value in domain.ticket("alice", tmp_path).items():
        monkeypatch.setenv(name, value)


async def get(running: Front, domain: Lab, auth: AuthBase | None, session: requests.Session) -> requests.Response:
    url, ca = f"{running.url}/docs/Sales", str(domain.ca)
    return await asyncio.to_thread(session.get, url, auth=auth, verify=ca, timeout=30)


async def test_requests_signs_in_with_mutual_authentication_and_needs_no_second_ticket(
    domain: Lab, tmp_path: Path, client: Client
) -> None:
    async with front(domain, tmp_path) as running:
        await ready(running)
        with requests.Session() as session:
            assert (await get(running, domain, client.proving(), session)).status_code == 200
            assert (await get(running, domain, None, session)).status_code == 200
        assert running.users() == ["CORP\\alice"] * 2
        assert len(running.gate.decisions("signed in")) == 1


async def test_requests_gets_the_gateways_proof_with_every_response_of_its_session(
    domain: Lab, tmp_path: Path, client: Client
) -> None:
    async with front(domain, tmp_path) as running:
        await ready(running)
        with requests.Session() as session:
            replies = [await get(running, domain, client.proving_at_once(), session) for _ in range(4)]
            post = partial(session.post, data={"a": "1"}, auth=client.proving_at_once(), verify=str(domain.ca))
            replies.append(await asyncio.to_thread(post, f"{running.url}/form", timeout=30))
        assert [reply.status_code for reply in replies] == [200] * 5
        assert all(reply.headers["WWW-Authenticate"].startswith("Negotiate ") for reply in replies)
        assert ["Set-Cookie" in reply.headers for reply in replies] == [True, False, False, False, False]
        assert running.server.seen[-1].body == b"a=1"
        assert running.users() == ["CORP\\alice"] * 5
        assert len(running.gate.decisions("signed in")) == 1


async def test_requests_is_let_in_only_with_channel_binding_if_it_is_required(
    domain: Lab, tmp_path: Path, client: Client
) -> None:
    tls = domain.folder / "tls"
    listen = f'tls = {{ certificate = "{tls}/gateway.pem", key = "{tls}/gateway.key" }}'
    async with front(domain, tmp_path, listen=listen, negotiate='channel_binding = "require"') as running:
        await ready_over_tls(running, domain)
        with requests.Session() as session:
            refused = await get(running, domain, client.unbound(), session)
            assert (refused.status_code, refused.json()["code"]) == (401, "binding-missing")
        with requests.Session() as session:
            assert (await get(running, domain, client.bound(), session)).status_code == 200
        assert running.users() == ["CORP\\alice"]
