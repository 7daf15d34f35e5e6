"""The Grafana dashboard, made from a table with one row for each panel.

python tests/deploy/dashboard.py      # writes deploy/grafana/calgate.json
"""

import json
from collections.abc import Sequence
from pathlib import Path

FILE = Path(__file__).parents[2] / "deploy" / "grafana" / "calgate.json"
EVERY = "$__rate_interval"
WAITS = f"sum by (license, le) (rate(calgate_queue_wait_seconds_bucket[{EVERY}]))"
REQUESTS = f'sum by (le) (rate(calgate_stage_seconds_bucket{{stage="whole"}}[{EVERY}]))'
LAG = f"sum by (instance, worker, le) (rate(calgate_loop_lag_seconds_bucket[{EVERY}]))"

# title, unit, and (expression, legend) of each line
PANELS: Sequence[tuple[str, str, Sequence[tuple[str, str]]]] = [
    (
        "CALs in use, in quarantine included",
        "short",
        [
            ("max by (license, kind) (calgate_cals_in_use)", "{{license}} {{kind}}"),
            ("max by (license, kind) (calgate_cals_anonymous) > 0", "{{license}} {{kind}} anonymous"),
            ("max by (license, kind) (calgate_cals_limit)", "limit {{license}} {{kind}}"),
        ],
    ),
    (
        "Claims denied, by reason",
        "short",
        [(f"sum by (license, reason) (increase(calgate_denials_total[{EVERY}]))", "{{license}} {{reason}}")],
    ),
    ("Users who wait for a CAL", "short", [("max by (license) (calgate_queue_waiting)", "{{license}}")]),
    (
        "Time in the queue until a CAL was granted, p50 and p95",
        "s",
        [
            (
                f"histogram_quantile({quantile}, {WAITS})",
                f"{{{{license}}}} {name}",
            )
            for quantile, name in ((0.5, "p50"), (0.95, "p95"))
        ],
    ),
    ("Responses by status", "reqps", [(f"sum by (status) (rate(calgate_requests_total[{EVERY}]))", "{{status}}")]),
    (
        "Time of a request, p50 and p99",
        "s",
        [
            (
                f"histogram_quantile({quantile}, {REQUESTS})",
                name,
            )
            for quantile, name in ((0.5, "p50"), (0.99, "p99"))
        ],
    ),
    ("Refusals by code", "reqps", [(f"sum by (code) (rate(calgate_refusals_total[{EVERY}]))", "{{code}}")]),
    (
        "Sign-ins by mechanism",
        "reqps",
        [(f"sum by (mechanism) (rate(calgate_sign_ins_total[{EVERY}]))", "{{mechanism}}")],
    ),
    (
        "Store and directory: what responds, and calls that failed",
        "short",
        [
            ("min by (instance, dependency) (calgate_dependency_up)", "{{instance}} {{dependency}} up"),
            (
                f'sum by (operation, outcome) (rate(calgate_store_calls_total{{outcome!="ok"}}[{EVERY}]))',
                "store {{operation}} {{outcome}}",
            ),
            (
                f'sum by (outcome) (rate(calgate_directory_calls_total{{outcome=~"unavailable|error"}}[{EVERY}]))',
                "directory {{outcome}}",
            ),
        ],
    ),
    (
        "Document servers: what responds, and failed requests",
        "short",
        [
            ("min by (instance, upstream) (calgate_upstream_up)", "{{instance}} {{upstream}} up"),
            (f"sum by (upstream) (rate(calgate_upstream_failures_total[{EVERY}]))", "{{upstream}} failures"),
        ],
    ),
    (
        "Connections to document servers, and requests that wait for one",
        "short",
        [
            ("sum by (upstream, state) (calgate_upstream_connections)", "{{upstream}} {{state}}"),
            ("sum by (upstream) (calgate_upstream_waiting)", "{{upstream}} waiting"),
        ],
    ),
    (
        "Lag of the event loop, p99 of each worker",
        "s",
        [
            (
                f"histogram_quantile(0.99, {LAG})",
                "{{instance}}/{{worker}}",
            )
        ],
    ),
    (
        "Connections, WebSockets, sessions",
        "short",
        [
            ("sum(calgate_connections)", "connections"),
            ("sum(calgate_websockets)", "WebSockets"),
            ("sum(calgate_sessions)", "sessions"),
        ],
    ),
    (
        "Time until a certificate expires",
        "s",
        [("min by (instance, file) (calgate_certificate_expiry_timestamp_seconds) - time()", "{{instance}} {{file}}")],
    ),
    (
        "Version and settings of each gateway",
        "short",
        [
            ("max by (instance, version) (calgate_build_info)", "{{instance}} {{version}}"),
            ("min by (instance) (calgate_config_last_reload_successful)", "{{instance}} settings loaded"),
        ],
    ),
]


def dashboard() -> str:
    """Returns the dashboard as Grafana imports it."""
    board = {
        "uid": "calgate",
        "title": "calgate",
        "tags": ["calgate"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}]},
        "panels": [_panel(number, *row) for number, row in enumerate(PANELS)],
    }
    return json.dumps(board, indent=2) + "\n"


def _panel(number: int, title: str, unit: str, lines: Sequence[tuple[str, str]]) -> dict[str, object]:
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number + 1,
        "title": title,
        "type": "timeseries",
        "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
        "datasource": source,
        "targets": [
            {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend, "datasource": source}
            for index, (expression, legend) in enumerate(lines)
        ],
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
    }


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(dashboard(), encoding="utf-8")
