"""Files that nobody would write: the reader names faults, and never ends by another exception."""

import copy
import datetime
import math
import random
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from calgate import config
from calgate.config.reader import _Reader
from calgate.plugin.errors import ConfigError
from support.gateway_process import write_settings

MUTATIONS = 2000
MORE = """
[log]
format = "console"
[pages]
contact = "help"
[forward_auth]
secret = "x"
[[access]]
name = "by day"
hours = ["mon-fri 08:00-18:00"]
networks = ["10.0.0.0/8"]
documents = ["Sales/**"]
paths = ["/a/**"]
users = ["DEMO\\\\alice"]
[[routes]]
host = "other.example"
path = "/x"
upstreams = ["https://other.example"]
health = { path = "/", every = "1s" }
sign_on = { plugin = "headers", headers = { X-User = "{account}" } }
[licenses.second]
named = { in_license = 2, dynamic = true, dynamic_for = ["DEMO\\\\x"] }
session = { in_license = 5, reserve = [{ group = "x", cals = 1 }], max = [{ user = "DEMO\\\\x", cals = 1 }] }
exempt = { users = ["DEMO\\\\x"], paths = ["/h"] }
"""
VALUES: list[Any] = [
    *(
        "",
        "x",
        "\0",
        "\ud7ff",
        "/",
        "[",
        "{",
        "{account!r:>999999999}",
        "%",
        "*" * 200,
        "**/**",
        "5m",
        "-1s",
        "\\",
        "::",
    ),
    *(
        "http://[",
        "http://x:99999",
        "unix:/\0",
        "mon-fri 08:00-18:00",
        "(?P<document>",
        "(" * 500,
        "Europe/Berlin/../x",
    ),
    *(0, -1, 1, 2**63, 10**400, True, False, 0.0, math.inf, math.nan, -math.inf, 1e308),
    *([], {}, [[]], [{}], [""], ["x", 1], {"": ""}, {"a": {"b": {}}}, {"file": "/nowhere"}, {"env": "NOT_THERE"}),
    *(datetime.date(2026, 1, 1), datetime.time(1), datetime.datetime(2026, 1, 1), [[[[[[[[]]]]]]]]),
    *({"file": "\0"}, {"file": 1}, {"plugin": "ldap"}, {"plugin": []}, {"plugin": "nobody"}, {"headers": []}),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_settings(tmp_path, 1, more=MORE)


def spots(value: Any) -> list[tuple[Any, Any]]:
    """Every key or index with the table or list that it is in."""
    items = (
        list(value.items() if isinstance(value, dict) else enumerate(value)) if isinstance(value, dict | list) else []
    )
    return [spot for key, inner in items for spot in [(value, key), *spots(inner)]]


def mutate(table: dict[str, Any], dice: random.Random) -> None:
    owner, key = dice.choice(spots(table))
    match dice.randrange(4):
        case 0 if isinstance(owner, dict):
            owner[dice.choice(["plugin", "license", "negotiate", "ldap", "headers", "x", "", "\0"])] = owner[key]
        case 1 if isinstance(owner, dict):
            del owner[key]
        case 2 if isinstance(owner, dict):
            owner[dice.choice(["named", "sni", "tls", "tracing", "cluster", "sign_on"])] = dice.choice(VALUES)
        case _:
            owner[key] = copy.deepcopy(dice.choice(VALUES))


def faults_of(read: Callable[[], object]) -> Sequence[str]:
    """The faults that a reader finds; any exception but ConfigError goes through."""
    try:
        read()
    except ConfigError as error:
        return error.faults
    return ()


def test_mutated_settings_have_faults_and_raise_nothing_else(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    faulty = 0
    for number in range(MUTATIONS):
        table, dice = tomllib.loads(text), random.Random(number)
        for _ in range(dice.randint(1, 3)):
            mutate(table, dice)
        faults = faults_of(lambda: _Reader(file, text).read(table))  # noqa: B023 - called at once
        faulty += bool(faults)
        assert all(fault.startswith(str(file)) for fault in faults)
    assert MUTATIONS / 2 < faulty < MUTATIONS, "most mutations are faults, and not all"


def test_mutated_text_has_faults_and_raises_nothing_else(file: Path) -> None:
    data = file.read_bytes()
    for number in range(MUTATIONS):
        dice = random.Random(number)
        at, length = dice.randrange(len(data)), dice.randrange(12)
        file.write_bytes(data[:at] + dice.randbytes(dice.randrange(4)) + data[at + length :])
        assert all(fault.startswith(str(file)) for fault in faults_of(lambda: config.read(file)))


@pytest.mark.parametrize("value", ["[" * 5000 + "]" * 5000, "9" * 5000, "{a=" * 3000 + "1" + "}" * 3000])
def test_value_that_python_cannot_read_is_a_fault(file: Path, value: str) -> None:
    file.write_text(f"x = {value}\n{file.read_text(encoding='utf-8')}", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not TOML"):
        config.read(file)
