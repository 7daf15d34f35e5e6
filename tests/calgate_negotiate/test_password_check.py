"""The findings of `calgate check` about `[password]` that need no domain."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from calgate.plugin import CheckContext, Finding, Section, Services
from calgate_negotiate.password_check import check
from calgate_negotiate.password_settings import Config
from calgate_negotiate.settings import Config as NegotiateConfig

USERS = object()  # stands for the file of [users], which the check only has to know of


async def findings(
    negotiate: Mapping[str, Any] | None = None, *, has_tls: bool = True, can_be_https: bool = True, **section: Any
) -> list[Finding]:
    beside: dict[str, Section] = {}
    if negotiate is not None:
        beside["negotiate"] = NegotiateConfig.model_validate(negotiate)
    services = Services(
        None,  # type: ignore[arg-type]
        Path("/nowhere"),
        can_be_https=can_be_https,
        siblings=beside,
        ntlm_verifier=USERS if negotiate is not None else None,  # type: ignore[arg-type]
    )
    config = Config.model_validate(section)
    return [one async for one in check(config, CheckContext(services, (), has_tls=has_tls))]


EVERYBODY = "negotiate.ntlm is on for everybody: browsers show their own dialog before the form"


@pytest.mark.parametrize(
    ("negotiate", "found"),
    [
        ({"ntlm": "users"}, [("warn", EVERYBODY)]),
        ({"ntlm": "users", "ntlm_from": ["10.0.0.0/8", "::/0"]}, [("warn", EVERYBODY)]),
        ({"ntlm": "users", "ntlm_from": ["10.0.0.0/8"]}, []),
        ({"ntlm": "users", "offer_to": ["10.0.0.0/8"]}, []),
    ],
)
async def test_form_behind_a_dialog_of_the_browser_is_warned_about(
    negotiate: Mapping[str, Any], found: list[tuple[str, str]]
) -> None:
    assert [(one.level, one.what) for one in await findings(negotiate)] == found


async def test_form_without_a_challenge_for_anybody_is_noted() -> None:
    (found,) = await findings({"ntlm": "users", "offer_to": []})
    assert (found.level, found.what) == (
        "note",
        "negotiate.offer_to is empty: nobody is challenged, so users with a ticket get the form too",
    )


async def test_form_that_cannot_be_served_safely_fails_as_at_the_start() -> None:
    (plain,) = await findings({"ntlm": "users"}, has_tls=False, can_be_https=False)
    assert (plain.level, plain.what) == ("fail", "passwords would be sent in clear text")
    assert "set listen.tls" in plain.remedy
    (nobody,) = await findings()
    assert (nobody.level, nobody.what.startswith("needs negotiate.keytab")) == ("fail", True)


async def test_form_behind_a_proxy_that_ends_tls_depends_on_its_header() -> None:
    negotiate = {"ntlm": "users", "ntlm_from": []}
    (found,) = await findings(negotiate, has_tls=False)
    assert (found.level, found.remedy) == ("note", "let the proxy send X-Forwarded-Proto: https")
    assert await findings(negotiate, has_tls=False, can_be_https=False, insecure=True) == []
