"""The dashboard in `deploy/grafana/`: current, as Grafana reads it, with PromQL that parses and metrics that exist."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client.parser import text_string_to_metric_families

from calgate.telemetry.metrics import exposition
from deploy.dashboard import FILE, dashboard


def board() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return read


def expressions() -> list[str]:
    return [target["expr"] for panel in board()["panels"] for target in panel["targets"]]


def test_file_is_what_the_table_makes() -> None:
    assert FILE.read_text(encoding="utf-8") == dashboard(), "run: python tests/deploy/dashboard.py"


def test_grafanas_own_types_read_and_write_the_dashboard() -> None:
    read = Dashboard.from_json(board())
    written = json.loads(JSONEncoder(sort_keys=True).encode(read))
    assert [target["expr"] for panel in written["panels"] for target in panel["targets"]] == expressions()


def test_every_expression_is_promql(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": text.replace("$__rate_interval", "5m")}
        for number, text in enumerate(expressions())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dashboard_shows_every_metric_and_no_other() -> None:
    exported = {family.name for family in text_string_to_metric_families(exposition({}))}
    named = {name for text in expressions() for name in re.findall(r"calgate_\w+", text)}
    shown = {re.sub(r"_(total|bucket)$", "", name) for name in named}
    assert shown <= exported
    left_out = {
        "claims",
        "store_call_seconds",
        "directory_call_seconds",
        "config_last_reload_success_timestamp_seconds",
    }
    assert exported - shown == {f"calgate_{name}" for name in left_out}
