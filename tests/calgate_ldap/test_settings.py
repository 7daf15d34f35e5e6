"""The `[ldap]` section."""

from typing import Any

import pytest
from pydantic import ValidationError

from calgate_ldap import Config

BIND = {"user": "svc", "password": "x"}


def read(**more: Any) -> Config:
    settings: dict[str, Any] = {"servers": ["ldaps://dc1"], "bind": BIND, "base": "DC=x"}
    return Config(**(settings | more))


def test_server_has_its_default_port() -> None:
    found = read(servers=["ldaps://dc1.corp.example", "ldap://dc2", "ldaps://[::1]:3269"]).servers
    assert [(one.host, one.port, one.tls_first) for one in found] == [
        ("dc1.corp.example", 636, True),
        ("dc2", 389, False),
        ("::1", 3269, True),
    ]


@pytest.mark.parametrize(
    "server", ["dc1", "http://dc1", "ldaps://", "ldaps://dc1/DC=x", "ldaps://u:p@dc1", "ldaps://dc1:x", 7]
)
def test_malformed_server_is_refused_with_an_example(server: object) -> None:
    with pytest.raises(ValidationError, match="a server is written like ldaps://"):
        read(servers=[server])


@pytest.mark.parametrize(
    "more", [{"servers": []}, {"base": ""}, {"bind": {"user": "", "password": "x"}}, {"cafile": "x"}]
)
def test_missing_or_unknown_key_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read(**more)


def test_password_is_not_in_printed_settings() -> None:
    assert "hunter" not in repr(read(bind={"user": "svc", "password": "hunter2"}))
