"""Which role a person has in the console, while groups come and go in the directory."""

import pytest

from calgate.endpoints.console import ConsoleRoles
from calgate.endpoints.settings import ConsoleSection
from calgate.plugin.errors import Unavailable
from calgate.plugin.identity import Person

SECTION = ConsoleSection.model_validate(
    {
        "bind": "127.0.0.1:8443",
        "admins": ["CORP\\CAL Admins"],
        "helpdesk": ["CORP\\Desk"],
        "readers": ["CORP\\Leads"],
        "networks": ["10.0.0.0/8"],
    }
)
FOUND = {"CORP\\CAL Admins": "S-1", "CORP\\Desk": "S-2", "CORP\\Leads": "S-3"}


def member(*groups: str) -> Person:
    return Person("S-9", "CORP", "ann", "Ann", frozenset(groups))


def test_member_of_several_groups_has_the_highest_role() -> None:
    roles = ConsoleRoles(SECTION)
    roles.regroup(FOUND)
    assert roles.role_of(member("S-3", "S-2")) == "helpdesk"
    assert roles.role_of(member("S-3", "S-1")) == "admin"
    assert roles.role_of(member("S-4")) is None


@pytest.mark.parametrize("gone", FOUND)
def test_group_that_vanishes_shuts_the_console_to_everybody_until_it_is_back(gone: str) -> None:
    """It might be the one that keeps somebody at a lower role, or that a name now means somebody else."""
    roles = ConsoleRoles(SECTION)
    with pytest.raises(Unavailable, match="not resolved yet"):
        roles.role_of(member("S-1"))
    roles.regroup(FOUND)
    assert roles.role_of(member("S-1")) == "admin"
    for found in (FOUND | {gone: None}, {name: key for name, key in FOUND.items() if name != gone}):
        roles.regroup(found)
        with pytest.raises(Unavailable, match="no directory has the group"):
            roles.role_of(member("S-1"))
    roles.regroup(FOUND)
    assert roles.role_of(member("S-1")) == "admin"
