"""`calgate check` for licenses: misspelt groups and users, a wrong clock, CALs that seem gone."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cal_model.license import HOUR, MINUTE, Lab
from calgate.plugin import CheckContext, Finding, Identity, Person, Services, Unavailable
from calgate_cal import Config, check, start
from calgate_cal.register import LastSeen
from support.directory import People
from support.waiting import until

License = Callable[..., Awaitable[Lab]]


class Domain(People):
    """A domain with two groups and a service account; or one that is away."""

    is_away = False

    async def look_up(self, identity: Identity) -> Person | None:
        return await super().look_up(identity) if identity.account.casefold() != "svc-typo" else None

    async def resolve(self, groups: Sequence[str]) -> Mapping[str, str | None]:
        if self.is_away:
            raise Unavailable("no domain controller answers")
        return {group: group if group in ("CORP\\Analysts", "CORP\\Board") else None for group in groups}


async def findings(q: Lab, folder: Path, settings: dict[str, Any], **context: Any) -> list[Finding]:
    services = Services(q.store, folder, context.pop("directory", None) or Domain())
    config = Config.model_validate(settings)
    return [finding async for finding in check(config, CheckContext(services, (), **context))]


@pytest.mark.parametrize(
    ("license_settings", "setting"),
    [
        ({"named": {"in_license": 1, "dynamic": True, "dynamic_for": ["CORP\\Typo"]}}, "named.dynamic_for"),
        ({"document": {"in_license": 1, "dynamic_for": ["CORP\\Typo"]}}, "document.dynamic_for"),
        ({"session": {"in_license": 1, "reserve": [{"group": "CORP\\Typo", "cals": 1}]}}, "session.reserve"),
        ({"session": {"in_license": 1, "max": [{"group": "CORP\\Typo", "cals": 1}]}}, "session.max"),
    ],
)
async def test_misspelt_group_fails_with_the_setting_that_names_it(
    license: License, tmp_path: Path, license_settings: dict[str, Any], setting: str
) -> None:
    q = await license(session={"in_license": 1})
    (finding,) = await findings(q, tmp_path, {"q": license_settings})
    assert (finding.level, finding.subject) == ("fail", "licenses.q")
    assert finding.what == f"{setting}: no directory has the group CORP\\Typo"
    assert finding.remedy


@pytest.mark.parametrize(
    ("license_settings", "setting"),
    [
        ({"session": {"in_license": 1}, "exempt": {"users": ["svc-typo"]}}, "exempt.users"),
        ({"session": {"in_license": 1, "max": [{"user": "CORP\\svc-typo", "cals": 1}]}}, "session.max"),
    ],
)
async def test_misspelt_user_fails_with_the_setting_that_names_it(
    license: License, tmp_path: Path, license_settings: dict[str, Any], setting: str
) -> None:
    q = await license(session={"in_license": 1})
    (finding,) = await findings(q, tmp_path, {"q": license_settings})
    assert finding.level == "fail"
    assert finding.what.startswith(f"{setting}: no directory has the user")


@pytest.mark.parametrize("written", ["svc@mail.example", "CN=svc,DC=corp,DC=example"])
async def test_user_under_a_name_that_no_claim_has_fails_with_the_name_to_write(
    license: License, tmp_path: Path, written: str
) -> None:
    class Suffixes(Domain):
        async def look_up(self, identity: Identity) -> Person | None:
            return Person("S-1-9", "CORP", "svc-monitor", "", frozenset())

    q = await license(session={"in_license": 1})
    settings = {"q": {"session": {"in_license": 1}, "exempt": {"users": [written]}}}
    (finding,) = await findings(q, tmp_path, settings, directory=Suffixes())
    assert (finding.level, finding.what) == (
        "fail",
        f"exempt.users: {written} is called CORP\\svc-monitor: write that name",
    )


async def test_groups_that_are_all_found_are_ok(license: License, tmp_path: Path) -> None:
    q = await license(session={"in_license": 1})
    named = {"in_license": 1, "dynamic_for": ["CORP\\Analysts", "CORP\\Board"]}
    (finding,) = await findings(q, tmp_path, {"q": {"named": named, "exempt": {"users": ["svc-monitor"]}}})
    assert (finding.level, finding.what) == ("ok", "2 groups, all found")


async def test_directory_that_is_away_is_a_failure_and_a_blocked_one_untried(license: License, tmp_path: Path) -> None:
    q = await license(session={"in_license": 1})
    away = Domain()
    away.is_away = True
    settings = {"q": {"named": {"in_license": 1, "dynamic_for": ["CORP\\Analysts"]}}}
    (finding,) = await findings(q, tmp_path, settings, directory=away)
    assert (finding.level, "no domain controller answers" in finding.what) == ("fail", True)
    (finding,) = await findings(q, tmp_path, settings, blocked={"directory": "ldaps://dc1"})
    assert finding.level == "untried"


async def test_clock_that_was_ahead_is_reported_with_the_way_out(license: License, tmp_path: Path) -> None:
    q = await license(session={"in_license": 1})
    await q.at(2 * HOUR)
    await q.open("alice")
    await q.at(MINUTE)
    (finding,) = await findings(q, tmp_path, {"q": {"session": {"in_license": 1}}})
    assert (finding.level, "7140 s ahead" in finding.what) == ("warn", True)
    assert "calgate cals clock --license q" in finding.remedy
    await q.license_admin.set_clock()
    assert await findings(q, tmp_path, {"q": {"session": {"in_license": 1}}}) == []


async def test_limit_below_what_anonymous_browsers_can_hold_is_warned_about(license: License, tmp_path: Path) -> None:
    settings = {"session": {"in_license": 3}, "anonymous": {"max": 2}}
    q = await license(**settings)
    await q.license_admin.limit("session", 2)
    assert await findings(q, tmp_path, {"q": settings}) == []
    await q.license_admin.limit("session", 1)
    (finding,) = await findings(q, tmp_path, {"q": settings})
    assert (finding.level, "anonymous.max is 2" in finding.what) == ("warn", True)


async def test_renamed_license_is_reported_with_the_name_that_has_the_cals(license: License, tmp_path: Path) -> None:
    q = await license(named={"in_license": 2})
    await q.license_admin.assign("alice")
    renamed = {"production": {"named": {"in_license": 2}}}
    (finding,) = await findings(q, tmp_path, renamed)
    assert (finding.level, finding.subject) == ("warn", "licenses.production")
    assert "q (1 CALs)" in finding.what
    assert await findings(q, tmp_path, renamed | {"q": {"named": {"in_license": 2}}}) == []


async def test_moved_store_is_reported_with_the_number_of_cals_last_seen(license: License, tmp_path: Path) -> None:
    settings = {"q": {"named": {"in_license": 2}}}
    q = await license(named={"in_license": 2})
    await q.license_admin.assign("alice")
    services = Services(q.store, tmp_path, Domain())
    async with start(Config.model_validate(settings), services) as allocator:
        await allocator.activate()
        await until(lambda: LastSeen(tmp_path).read() == {"q": 1})
    assert await findings(q, tmp_path, settings) == []
    await q.store.redis.flushall()
    await q.at(0)
    (finding,) = await findings(q, tmp_path, settings)
    assert (finding.level, "last saw permanent CALs in use (1)" in finding.what) == ("warn", True)


async def test_gateway_warns_at_its_start_of_cals_that_seem_gone(
    license: License, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    q = await license(named={"in_license": 2})
    LastSeen(tmp_path).write("q", 12)
    services = replace(Services(q.store, tmp_path, Domain()))
    with caplog.at_level(logging.WARNING, "calgate_cal"):
        async with start(q.config, services) as allocator:
            await allocator.activate()
            await until(lambda: any("in use (12)" in message for message in caplog.messages))
    assert [message for message in caplog.messages if "last saw permanent CALs in use (12)" in message]
    assert LastSeen(tmp_path).read() == {"q": 12}  # the wrong store's 0 does not replace it


def test_damaged_file_of_last_seen_cals_counts_as_missing(tmp_path: Path) -> None:
    (tmp_path / "licenses.json").write_text("[")
    assert LastSeen(tmp_path).read() == {}
    LastSeen(tmp_path).write("q", 1)
    assert LastSeen(tmp_path).read() == {"q": 1}
