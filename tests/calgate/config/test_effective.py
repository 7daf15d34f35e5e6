"""`calgate config show`: every setting in force, with its line or as a default, and no secret."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from calgate import config
from calgate.cli import main
from calgate.config.effective import Setting, effective_settings

FILE = """\
state_dir = "{folder}"

[listen]
bind = "127.0.0.1:8080"
drain = "45s"

[store]
url = "redis://calgate:VERY-SECRET@127.0.0.1:6379/0"

[negotiate]
ntlm = "users"

[users]
file = "{folder}/users.toml"

[licenses.bi.session]
in_license = 6
maximum = "10h"

[forward_auth]
secret = "VERY-SECRET"

[[access]]
name = "everybody"
everybody = true

[[routes]]
upstreams = ["http://127.0.0.1:1"]
license = "bi"
dialect = "qlikview"
sign_on = {{ headers = {{ QVUSER = "{{account}}" }} }}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "users.toml").write_text("", encoding="utf-8")
    file = tmp_path / "calgate.toml"
    file.write_text(FILE.format(folder=tmp_path), encoding="utf-8")
    return file


def shown(file: Path) -> dict[str, Setting]:
    found = effective_settings(config.read(file), file.read_text(encoding="utf-8"))
    return {setting.key: setting for setting in found}


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("listen.bind", '["127.0.0.1:8080"]', 4),
        ("listen.drain", '"45s"', 5),
        ("listen.workers", "1", None),
        ("negotiate.guard.account.failures", "4", None),
        ("session.lifetime", '"10h"', None),
        ("session.same_site", '"Lax"', None),
        ("licenses.bi.session.in_license", "6", 17),
        ("licenses.bi.session.maximum", '"10h"', 18),
        ("licenses.bi.session.minimum", '"15m"', None),
        ("licenses.bi.named.quarantine", '"7d"', None),
        ("access[1].everybody", "true", 25),
        ("routes[1].sign_on.plugin", '"headers"', None),
        ("routes[1].sign_on.headers", '{ QVUSER = "{account}" }', 31),
        ("routes[1].license", '"bi"', 29),
    ],
)
def test_setting_is_shown_as_the_file_writes_it_with_its_line(
    file: Path, key: str, value: str, line: int | None
) -> None:
    assert shown(file)[key] == Setting(key, value, line)


def test_secrets_are_masked_wherever_they_stand(file: Path) -> None:
    found = shown(file)
    assert found["store.url"].value == '"redis://calgate:(secret)@127.0.0.1:6379/0"'
    assert found["forward_auth.secret"].value == "(secret)"
    for words in (["show"], ["show", "--json"], ["show", "--changed"]):
        result = CliRunner().invoke(main, ["config", *words, "-c", str(file)])
        assert result.exit_code == 0
        assert "VERY-SECRET" not in result.output


def test_changed_shows_only_what_the_file_sets_and_json_has_every_column(file: Path) -> None:
    result = CliRunner().invoke(main, ["config", "show", "--changed", "--json", "-c", str(file)])
    rows = json.loads(result.output)
    assert {"key": "listen.drain", "value": '"45s"', "line": 5} in rows
    assert not [row for row in rows if row["line"] is None]
    text = CliRunner().invoke(main, ["config", "show", "-c", str(file)]).output
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("listen.drain")] == ["calgate.toml:5"]
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("listen.workers")] == ["default"]


def test_validate_reports_every_fault_and_exits_with_2(file: Path) -> None:
    assert CliRunner().invoke(main, ["config", "validate", "-c", str(file)]).exit_code == 0
    faulty = file.read_text(encoding="utf-8").replace('"45s"', '"soon"').replace('"redis:', '"rediss:')
    file.write_text(faulty.replace('dialect = "qlikview"', 'dialect = "qlickview"'), encoding="utf-8")
    result = CliRunner().invoke(main, ["config", "validate", "-c", str(file)])
    assert result.exit_code == 2
    assert "listen.drain" in result.output
    assert "routes[1]" in result.output
