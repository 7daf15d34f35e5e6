"""The `[licenses.NAME]` sections."""

from typing import Any

import pytest
from pydantic import ValidationError

from calgate_cal import Config, warnings


def test_settings_example_of_the_documentation_is_accepted() -> None:
    config = Config.model_validate(
        {
            "qlikview": {
                "client": "address",
                "named": {"in_license": 20, "dynamic": True, "dynamic_for": ["CORP\\Analysts"], "quarantine": "7d"},
                "document": {"in_license": 10},
                "session": {"in_license": 6, "minimum": "15m", "idle_timeout": "30m", "reclaimable_after": "30m"},
                "usage": {"in_license": 0},
                "queue": True,
                "enforce": True,
                "exempt": {"users": ["CORP\\svc-monitor"], "paths": ["/qlikview/health"]},
                "contact": "bi-support@corp.example",
            }
        }
    )
    license = config.licenses["qlikview"]
    assert license.named.quarantine == 7 * 86400
    assert license.groups == {"CORP\\Analysts"}
    assert license.terms.exempt_users == {"corp\\svc-monitor"}


@pytest.mark.parametrize(
    ("license", "where", "fault"),
    [
        ({"named": {"in_license": 2, "limit": 3}}, ("q", "named"), "limit: 3 is more than in_license, 2"),
        ({"named": {"in_licence": 2}}, ("q", "named", "in_licence"), "Extra inputs"),
        ({"session": {"in_license": -1}}, ("q", "session", "in_license"), "greater than or equal to 0"),
        ({"session": {"in_license": 1}, "anonymous": {"max": 2}}, ("q",), "anonymous.max: 2 is more than"),
        ({"session": {"in_license": 4, "limit": 1}, "anonymous": {"max": 2}}, ("q",), "anonymous.max: 2 is more than"),
        (
            {"session": {"in_license": 4}, "anonymous": {"max": 0}},
            ("q", "anonymous", "max"),
            "greater than or equal to 1",
        ),
        ({"session": {"maximum": "5m"}}, ("q", "session"), "maximum is shorter than minimum"),
        ({"session": {"minimum": 15}}, ("q", "session", "minimum"), "a duration is written like"),
        ({"session": {"in_license": 1, "reserve": [{"group": "g", "cals": 2}]}}, ("q", "session"), "2 CALs are kept"),
        ({"session": {"max": [{"cals": 2}]}}, ("q", "session", "max", 0), "names a group or a user"),
        ({"named": {"in_license": "2"}}, ("q", "named", "in_license"), "should be a valid integer"),
        ({"queue": "yes"}, ("q", "queue"), "should be a valid boolean"),
        ({"enforce": "off"}, ("q", "enforce"), "should be a valid boolean"),
        ({"exempt": {"paths": ["health"]}}, ("q", "exempt", "paths", 0), "begins with a slash"),
        ({"exempt": {"users": [" "]}}, ("q", "exempt", "users", 0), "1 to 256 characters"),
        ({"client": "mac"}, ("q", "client"), "'address', 'browser' or 'user'"),
    ],
)
def test_faulty_setting_is_reported_with_its_path(license: dict[str, Any], where: tuple[str, ...], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault) as caught:
        Config.model_validate({"q": license})
    assert caught.value.errors()[0]["loc"] == where


def test_license_name_that_cannot_be_a_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="made of letters"):
        Config.model_validate({"a}b": {}})


def test_clock_set_to_off_never_ends_a_cal() -> None:
    license = Config.model_validate({"q": {"session": {"reclaimable_after": "off", "maximum": "off"}}}).licenses["q"]
    assert (license.session.reclaimable_after, license.session.maximum) == (None, None)


@pytest.mark.parametrize(
    ("license", "advice"),
    [
        ({"named": {"in_license": 2, "dynamic": True}}, "named: dynamic without dynamic_for"),
        ({"session": {"in_license": 2, "idle_timeout": "20m"}}, "session: reclaimable_after is longer"),
        ({"session": {"in_license": 2, "idle_timeout": "5m"}}, "session: minimum is longer"),
        ({"session": {"in_license": 2}, "enforce": False}, "enforce: nobody is denied"),
        ({}, "in_license: the license has no CALs at all"),
    ],
)
def test_unwise_setting_is_warned_of(license: dict[str, Any], advice: str) -> None:
    assert any(
        sentence.startswith(f"licenses.q.{advice}") for sentence in warnings(Config.model_validate({"q": license}))
    )


def test_wise_settings_cause_no_warning() -> None:
    wise = {"named": {"in_license": 2, "dynamic": True, "dynamic_for": ["g"]}, "session": {"in_license": 2}}
    assert warnings(Config.model_validate({"q": wise})) == []
