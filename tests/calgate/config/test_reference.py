"""The reference of all settings: made from the models, complete, and right for editors."""

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from calgate.config.reference import Table, schema, tables
from calgate.config.reference_pages import man_page, markdown, pages

ROOT = Path(__file__).parents[3]
EXAMPLE = tomllib.loads((ROOT / "deploy" / "calgate.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return schema()


@pytest.fixture(scope="module")
def by_path() -> dict[str, Table]:
    return {table.path: table for table in tables()}


def test_example_of_the_product_is_valid_by_the_schema(document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(document)
    jsonschema.validate(EXAMPLE, document, jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    "fault",
    [
        {"listen": {**EXAMPLE["listen"], "drain": 20}},
        {"listen": {**EXAMPLE["listen"], "workers": 0}},
        {"listen": {**EXAMPLE["listen"], "binds": "0.0.0.0:443"}},
        {"session": {"same_site": "lax"}},
        {"negotiate": {"ntlm": "on"}},
        {"licenses": {"q": {"session": {"in_license": "six"}}}},
        {"routes": [{"upstreams": ["http://a"], "sign_on": {"headers": {}, "encodings": "utf-8"}}]},
    ],
    ids=str,
)
def test_planted_fault_is_found_by_the_schema(document: dict[str, Any], fault: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(EXAMPLE | fault, document, jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("path", "key", "kind", "default"),
    [
        ("", "state_dir", "file", "required"),
        ("listen", "workers", "number, 1 to 64", "1"),
        ("session", "lifetime", "duration", '"10h"'),
        ("log", "format", '"json" or "console"', '"json"'),
        ("tracing", "sample", "number, 0 to 1", "1"),
        ("routes[]", "upstreams", "list of text", "required"),
        ("routes[].health", "every", "duration", '"10s"'),
        ("forward_auth", "secret", 'text, { file = "…" } or { env = "…" }', "required"),
        ("licenses.NAME.named", "quarantine", "duration", '"7d"'),
        ("routes[].sign_on", "encoding", '"utf-8" or "latin-1" or "percent"', '"utf-8"'),
    ],
)
def test_setting_has_its_kind_and_default_as_the_file_writes_them(
    by_path: dict[str, Table], path: str, key: str, kind: str, default: str
) -> None:
    entry = next(entry for entry in by_path[path].entries if entry.key == key)
    assert (entry.kind, entry.default) == (kind, default)


def test_pages_hold_every_setting(by_path: dict[str, Table]) -> None:
    found = list(by_path.values())
    page, manual = markdown(found), man_page(found)
    for table in found:
        for entry in table.entries:
            assert f"| `{entry.key}` |" in page
            assert f".B {entry.key.replace('-', chr(92) + '-')}" in manual
    assert json.dumps(page)  # no lone surrogates or bytes


def test_pages_in_the_repository_are_current_and_every_setting_has_a_text(by_path: dict[str, Table]) -> None:
    folder = ROOT / "deploy" / "reference"
    files = [file for file in folder.iterdir() if file.is_file()]
    assert {file.name: file.read_text(encoding="utf-8") for file in files} == pages(), "make reference"
    assert [
        f"{table.path}.{entry.key}" for table in by_path.values() for entry in table.entries if not entry.text
    ] == []
