"""Addresses to listen on: what is bound, and what is refused and left alone."""

import socket
from pathlib import Path

import pytest

from calgate.commands.check_listen import addresses
from calgate.http.settings import Listen, read_address
from calgate.plugin.errors import ConfigError
from calgate.processes.sockets import bind


async def test_file_at_a_unix_socket_path_is_kept_and_reported_by_check_as_by_run(tmp_path: Path) -> None:
    """A connection to an ordinary file is refused, as to the socket of a process that has ended."""
    file = tmp_path / "calgate.toml"
    file.write_text("precious", encoding="utf-8")
    for path in (file, tmp_path / "link"):
        if path != file:
            path.symlink_to(file)
        with pytest.raises(
            ConfigError, match=r"listen\.bind: cannot listen on unix:.*a file is there that is no socket"
        ):
            bind(read_address(f"unix:{path}"), "listen.bind")
        (finding,) = [one async for one in addresses(Listen.model_validate({"bind": f"unix:{path}"}))]
        assert (finding.level, finding.remedy) == ("fail", "remove it if nobody needs it, or write another path")
    assert file.read_text(encoding="utf-8") == "precious"


def test_socket_that_a_process_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "calgate.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with bind(read_address(f"unix:{path}"), "listen.bind"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "::1",
            "::1:443",
            "[::1",
            "[::1]",
            "[::1:443",
            "x]:443",
            "[bi.corp.example]:443",
            "bi:",
            "bi:443x",
            "bi:65536",
        ),
        *("bi:\u0664\u0664\u0663", "b\0i:443", "unix:/run/a\0b", "unix:/run/a\nb", "unix:run/a", "http://bi:443"),
        "unix:/" + "x" * 107,
    ],
)
def test_address_that_no_system_can_listen_on_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"an address is written like|a unix socket has at most 107 bytes"):
        read_address(text)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":443", "0.0.0.0", 443),
        ("[::1]:8443", "::1", 8443),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
        ("bi_1:0", "bi_1", 0),
    ],
)
def test_address_is_read_as_it_is_written(text: str, host: str, port: int) -> None:
    address = read_address(text)
    assert (address.host, address.port, address.path) == (host, port, "")
