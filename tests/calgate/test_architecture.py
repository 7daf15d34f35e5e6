"""The architecture's rules, each with a planted violation that lint-imports must report."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]
PLUGINS = [
    "calgate_negotiate",
    "calgate_ldap",
    "calgate_users",
    "calgate_cal",
    "calgate_headers",
    "calgate_delegation",
    "calgate_assertion",
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code, in which a test may break what it likes."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("gateway", "plugins"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint(folder: Path) -> tuple[int, str]:
    """What lint-imports says about the code in a folder."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{folder}/gateway:{folder}/plugins"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "planted", "contract"),
    [
        ("gateway/calgate/http/target.py", "import calgate.pipeline", "The core's layers"),
        ("gateway/calgate/plugin/errors.py", "import calgate.telemetry.log", "The core's layers"),
        ("gateway/calgate/licensing/leases.py", "import calgate.access.rules", "access and licensing do not know"),
        ("gateway/calgate/access/rules.py", "import calgate.licensing.leases", "access and licensing do not know"),
        ("plugins/calgate_cal/allocator.py", "import calgate.access.rules", "access and licensing do not know"),
        ("gateway/calgate/access/rules.py", "import calgate_cal.terms", "access and licensing do not know"),
        ("gateway/calgate/access/rules.py", "from calgate.plugin.licensing import Lease", "Access is pure"),
        ("gateway/calgate/access/rules.py", "import calgate.http.request", "Access is pure"),
        ("plugins/calgate_ldap/pool.py", "import calgate.telemetry.log", "nothing of the core but calgate.plugin"),
        ("plugins/calgate_headers/template.py", "import calgate.paths", "nothing of the core but calgate.plugin"),
        ("plugins/calgate_users/edit.py", "from calgate.plugin.errors import Refusal", "from calgate.plugin itself"),
        ("gateway/calgate/app.py", "import calgate_headers", "by entry point, never by name"),
        ("plugins/calgate_users/edit.py", "import calgate_negotiate.der", "Plugins do not know each other"),
        ("gateway/calgate/http/settings.py", "import calgate.http.tls", "Each settings.py is a leaf"),
        ("gateway/calgate/endpoints/settings.py", "import calgate.http.address", "Each settings.py is a leaf"),
    ],
)
def test_planted_import_is_reported_by_the_contract_that_forbids_it(
    copy: Path, file: str, planted: str, contract: str
) -> None:
    planted_in = copy / file
    text = planted_in.read_text(encoding="utf-8")
    planted_in.write_text(f"{text}\n{planted}\n", encoding="utf-8")
    try:
        code, said = lint(copy)
    finally:
        planted_in.write_text(text, encoding="utf-8")
    assert code != 0
    assert any(contract in line and "BROKEN" in line for line in said.splitlines()), said


def test_package_that_no_layer_names_is_reported(copy: Path) -> None:
    extra = copy / "gateway" / "calgate" / "extra.py"
    extra.write_text('"""A module that the layers do not name."""\n', encoding="utf-8")
    try:
        code, said = lint(copy)
    finally:
        extra.unlink()
    assert code != 0
    assert "calgate.extra" in said


def test_contract_about_plugins_names_every_package_of_the_core() -> None:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (contract,) = [one for one in linter["contracts"] if "nothing of the core but" in one["name"]]
    folder = ROOT / "gateway" / "calgate"
    parts = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {f"calgate.{part}" for part in parts - {"__init__", "plugin"}} == set(contract["forbidden_modules"])


def circles(graph: grimp.ImportGraph) -> Iterator[set[str]]:
    """The strongly connected sets of more than one module (Tarjan)."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []

    def visit(module: str) -> Iterator[set[str]]:
        numbers[module] = lowest[module] = len(numbers)
        path.append(module)
        for imported in graph.find_modules_directly_imported_by(module):
            if imported not in numbers:
                yield from visit(imported)
                lowest[module] = min(lowest[module], lowest[imported])
            elif imported in path:
                lowest[module] = min(lowest[module], numbers[imported])
        if lowest[module] == numbers[module]:
            circle = set(path[path.index(module) :])
            del path[path.index(module) :]
            if len(circle) > 1:
                yield circle

    for module in sorted(graph.modules):
        if module not in numbers:
            yield from visit(module)


def test_no_modules_import_each_other_not_even_for_type_checking() -> None:
    graph = grimp.build_graph("calgate", *PLUGINS, exclude_type_checking_imports=False, cache_dir=None)
    assert list(circles(graph)) == []
    graph.add_import(importer="calgate.http.target", imported="calgate.pipeline")
    assert list(circles(graph)), "a planted circle is found"


def test_settings_are_read_without_loading_the_pipeline() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, calgate.config; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    core = {name for name in loaded if name.startswith("calgate.")}
    assert "calgate.config.reader" in core
    unwanted = (
        "pipeline",
        "handler",
        "app",
        "licensing",
        "authentication.sign_in",
        "upstream.connection",
        "http.server",
    )
    assert not core & {f"calgate.{name}" for name in unwanted}
    assert not [name for name in loaded if name.partition(".")[0] in {"aiohttp", *PLUGINS}]
