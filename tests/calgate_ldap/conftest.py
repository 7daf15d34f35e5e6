"""A small directory, on any number of servers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from calgate_ldap import Config
from support.certificates import Authority
from support.ldap_data import BASE, objects
from support.ldap_server import LdapServer


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


Servers = Callable[..., LdapServer]


@pytest.fixture
def serve(authority: Authority) -> Iterator[Servers]:
    """Starts servers of the directory."""
    started: list[LdapServer] = []
    signed = authority.sign("localhost")

    def start(**how: Any) -> LdapServer:
        started.append(LdapServer(signed, how.pop("objects", None) or objects(), **how))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def configure(authority: Authority) -> Callable[..., Config]:
    def make(*servers: LdapServer, **more: Any) -> Config:
        settings: dict[str, Any] = {
            "servers": [server.url for server in servers],
            "ca": authority.file,
            "bind": {"user": "svc@corp.example", "password": "right"},
            "base": BASE,
        }
        return Config(**(settings | more))

    return make


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("wrong\n")
    return file
