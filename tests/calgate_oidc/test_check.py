"""The findings of `calgate check` about the section."""

import time
from pathlib import Path
from typing import Any

import pytest

from calgate.plugin import CheckContext, Finding
from calgate_oidc import warnings
from calgate_oidc.check import check, remedy_for
from calgate_oidc.settings import Config
from support.oidc_provider import CLIENT, SECRET, provider


def config_of(issuer: str, **changed: Any) -> Config:
    """Reads a section for an issuer."""
    right = {"issuer": issuer, "client": {"id": CLIENT, "secret": SECRET}, "person": {"sid": "onprem_sid"}}
    return Config.model_validate(right | changed)


async def findings(config: Config, now: float | None = None) -> list[Finding]:
    context = CheckContext(services=None, hosts=["bi.example"], now=lambda: now or time.time())  # type: ignore[arg-type]
    return [finding async for finding in check(config, context)]


def levels(found: list[Finding]) -> dict[str, str]:
    return {finding.subject: finding.level for finding in found}


async def test_check_reads_discovery_keys_and_clock_and_says_what_to_register() -> None:
    async with provider() as idp:
        found = await findings(config_of(idp.issuer))
        assert levels(found) == {idp.issuer: "ok", "oidc clock": "ok", "oidc.person": "ok", "oidc": "note"}
        assert "lists 1 key that verifies" in found[0].what
        assert "https://bi.example/_calgate/sign-in/oidc/back (redirect URI)" in found[-1].what
        late = await findings(config_of(idp.issuer), time.time() + 120)
        assert levels(late)["oidc clock"] == "fail"


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get issuer certificate", "set oidc.ca"),
        ("the discovery document is of the issuer 'https://x/'", "write oidc.issuer exactly"),
        ("no response in time", "open the firewall"),
    ],
)
def test_remedy_is_for_the_fault(fault: str, remedy: str) -> None:
    assert remedy in remedy_for(fault)


async def test_check_warns_of_what_the_provider_cannot_do() -> None:
    async with provider() as idp:
        idp.metadata = {"claims_supported": ["sub"], "backchannel_logout_supported": None, "end_session_endpoint": None}
        found = await findings(config_of(idp.issuer))
        assert levels(found)["oidc.person"] == "warn"
        text = " ".join(finding.what for finding in found)
        assert "no back-channel logout" in text
        assert "no sign-out endpoint" in text


async def test_check_names_a_provider_that_cannot_be_used(tmp_path: Path) -> None:
    async with provider() as idp:
        idp.metadata = {"issuer": "https://other.example"}
        found = await findings(config_of(idp.issuer))
    assert (found[0].level, "is of the issuer 'https://other.example'" in found[0].what) == ("fail", True)
    away = await findings(config_of(idp.issuer))
    assert (away[0].level, away[0].subject) == ("fail", idp.issuer)
    (tmp_path / "ca.pem").write_text("no certificate")
    assert levels(await findings(config_of(idp.issuer, ca=tmp_path / "ca.pem")))["oidc.ca"] == "fail"
    key = {"id": "c", "key": tmp_path / "ca.pem", "certificate": tmp_path / "ca.pem"}
    assert levels(await findings(config_of(idp.issuer, client=key)))["oidc client"] == "fail"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"issuer": "http://127.0.0.1:1"}, "oidc.issuer: http"),
        ({"person": {"account": "sam", "domain": "CORP"}}, "given to somebody else"),
    ],
)
def test_settings_that_are_unwise_are_warned_about(changed: dict[str, Any], words: str) -> None:
    assert warnings(config_of("https://idp.example")) == []
    assert words in warnings(config_of(**({"issuer": "https://idp.example"} | changed)))[0]
