"""`calgate cals …` as an administrator types it."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from calgate.contract import Services
from calgate.store import StoreSection, open_store
from calgate_cal import Config, commands
from people import People
from servers import Server


class Desk:
    """What the core gives a plugin's commands, for two licenses on one server."""

    def __init__(self, url: str, folder: Path, **licenses: Any) -> None:
        self._url = url
        self._folder = folder
        self._config = Config.model_validate(licenses)

    def read(self, _: Path) -> Config:
        return self._config

    @contextlib.asynccontextmanager
    async def open(self, file: Path) -> AsyncIterator[tuple[Config, Services]]:
        async with open_store(StoreSection(url=self._url), self._folder) as store:
            yield self.read(file), Services(store, self._folder, People())


Cals = Callable[..., Result]


@pytest.fixture
def cals(server: Server, tmp_path: Path) -> Cals:
    """Runs a command on a license with two Named CALs."""
    group = commands(Desk(server.url, tmp_path, demo={"named": {"in_license": 2}, "session": {"in_license": 2}}))
    return lambda *words: CliRunner().invoke(group, [*words, "-c", "calgate.toml"])


def test_assign_list_remove_and_undo(cals: Cals) -> None:
    assert cals("assign", "CORP\\alice").output == "CORP\\alice has a Named CAL now\n"
    listed = json.loads(cals("list", "--json").output)
    assert [(pool["kind"], pool["limit"], pool["free"]) for pool in listed["pools"]][:1] == [("named", 2, 1)]
    assert [(it["name"], it["kind"], it["state"]) for it in listed["holders"]] == [("CORP\\alice", "named", "held")]
    assert "CORP\\alice" in cals("list").output
    assert json.loads(cals("remove", "alice@corp", "--json").output)["quarantine"] is None
    assert json.loads(cals("list", "--json").output)["holders"] == []


def test_what_is_declined_is_one_line_and_exit_1(cals: Cals) -> None:
    result = cals("assign", "nobody")
    assert (result.exit_code, result.output) == (1, "Error: the directory knows nobody called nobody\n")


def test_a_license_that_is_not_in_the_file_is_named_with_those_that_are(cals: Cals) -> None:
    result = cals("list", "--license", "qlik")
    assert (result.exit_code, result.output) == (1, "Error: the file has no license qlik, but demo\n")


def test_with_several_licenses_one_must_be_named(server: Server, tmp_path: Path) -> None:
    group = commands(Desk(server.url, tmp_path, a={"named": {"in_license": 1}}, b={}))
    result = CliRunner().invoke(group, ["list", "-c", "calgate.toml"])
    assert (result.exit_code, result.output) == (
        *(1, "Error: the file has several licenses (a, b): say which with --license\n"),
    )
    assert CliRunner().invoke(group, ["list", "-c", "calgate.toml", "--license", "a"]).exit_code == 0


def test_a_store_that_is_away_is_one_line_and_exit_1(cals: Cals, server: Server) -> None:
    server.stop()
    result = cals("list")
    assert result.exit_code == 1
    assert result.output.startswith("Error: the store does not answer: ")
