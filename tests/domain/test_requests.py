"""Python's requests with Kerberos (requests-gssapi) as a client: programs sign in as browsers do."""

import asyncio
from pathlib import Path

import pytest
import requests
from requests_gssapi import REQUIRED, HTTPSPNEGOAuth

from domain.front import Front, front
from domain.test_gateway import ready
from domain.test_ntlm import ready_over_tls
from lab import Lab


@pytest.fixture(autouse=True)
def alice(domain: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own client has her ticket."""
    for name, value in domain.ticket("alice", tmp_path).items():
        monkeypatch.setenv(name, value)


async def get(running: Front, domain: Lab, auth: HTTPSPNEGOAuth | None, session: requests.Session) -> requests.Response:
    url, ca = f"{running.url}/docs/Sales", str(domain.ca)
    return await asyncio.to_thread(session.get, url, auth=auth, verify=ca, timeout=30)


async def test_it_signs_in_the_gateway_proves_itself_and_the_session_needs_no_second_ticket(
    domain: Lab, tmp_path: Path
) -> None:
    async with front(domain, tmp_path) as running:
        await ready(running)
        with requests.Session() as session:
            # REQUIRED raises unless the gateway's own token fits
            assert (
                await get(running, domain, HTTPSPNEGOAuth(mutual_authentication=REQUIRED), session)
            ).status_code == 200
            assert (await get(running, domain, None, session)).status_code == 200
        assert running.users() == ["CORP\\alice"] * 2
        assert len(running.gate.decisions("signed in")) == 1


async def test_its_binding_to_the_certificate_lets_it_in_where_one_is_required_and_none_does_not(
    domain: Lab, tmp_path: Path
) -> None:
    tls = domain.folder / "tls"
    listen = f'tls = {{ certificate = "{tls}/gateway.pem", key = "{tls}/gateway.key" }}'
    async with front(domain, tmp_path, listen=listen, negotiate='channel_binding = "require"') as running:
        await ready_over_tls(running, domain)
        with requests.Session() as session:
            refused = await get(running, domain, HTTPSPNEGOAuth(), session)
            assert (refused.status_code, refused.json()["code"]) == (401, "binding-missing")
        with requests.Session() as session:
            bound = HTTPSPNEGOAuth(channel_bindings="tls-server-end-point")
            assert (await get(running, domain, bound, session)).status_code == 200
        assert running.users() == ["CORP\\alice"]
