"""The rules and examples in `deploy/prometheus/`, by Prometheus' own tools and by one that scrapes a gateway."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from calgate.telemetry.metrics import exposition
from support.gateway_process import DocumentServer, curl, document_server, gateway, write_settings
from support.ports import free_port

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES = FOLDER / "calgate.rules.yml"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[DocumentServer]:
    async with document_server() as running:
        yield running


@pytest.mark.parametrize(
    "words",
    [
        ("promtool", "check", "rules", "calgate.rules.yml"),
        ("promtool", "test", "rules", "calgate.test.yml"),
        ("promtool", "check", "config", "prometheus.yml"),
        ("amtool", "check-config", "alertmanager.yml"),
    ],
    ids=" ".join,
)
def test_prometheus_own_tools_accept_the_file(words: tuple[str, ...]) -> None:
    done = subprocess.run(words, cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("fires", [True, False], ids=["fires", "stays-quiet"])
def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(fires: bool) -> None:
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    cases = yaml.safe_load((FOLDER / "calgate.test.yml").read_text(encoding="utf-8"))["tests"]
    tried = [alert for case in cases for alert in case.get("alert_rule_test", ())]
    assert alerts == {alert["alertname"] for alert in tried if bool(alert["exp_alerts"]) is fires}


def rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())


def test_every_metric_that_a_rule_reads_is_exported() -> None:
    families = text_string_to_metric_families(exposition({}))
    exported = {family.name for family in families}
    named = {name for text in expressions() for name in re.findall(r"(?<!:)\bcalgate_\w+", text)}
    assert named
    assert {re.sub(r"_(total|bucket)$", "", name) for name in named} <= exported


@asynccontextmanager
async def prometheus(folder: Path, admin: int) -> AsyncIterator[str]:
    """A Prometheus with our rules, which scrapes every second; yields its address."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Debian's prometheus is not installed")
    text = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
    text = text.replace("15s", "1s").replace("127.0.0.1:9090", f"127.0.0.1:{admin}").partition("alerting:")[0]
    (folder / "prometheus.yml").write_text(text, encoding="utf-8")
    shutil.copy(RULES, folder)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(program, "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}"),
        *("--storage.tsdb.path=data", "--log.level=warn"),
        cwd=folder,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def _query(url: str, path: str) -> Any:
    reply = await curl(f"{url}/api/v1/{path}")
    return json.loads(reply.body)["data"] if reply.status == 200 else None


async def test_denied_user_fires_the_alert_in_a_prometheus_that_scrapes_two_workers(
    server: DocumentServer, tmp_path: Path
) -> None:
    admin = free_port()
    settings = write_settings(tmp_path, server.port, listen=f'workers = 2\nadmin = "127.0.0.1:{admin}"')
    async with gateway(settings) as gate, prometheus(tmp_path, admin) as url, asyncio.timeout(60):
        while not (await _query(url, "query?query=calgate_denials_total%7Breason%3D%22full%22%7D") or {}).get("result"):
            await asyncio.sleep(0.2)  # both workers' counters have been seen at 0
        for user, status in (("alice", 200), ("bob", 200), ("carol", 403)):
            assert (await curl(f"{gate.url}/docs/sales", user=user)).status == status
        while True:
            alerts = (await _query(url, "alerts") or {"alerts": []})["alerts"]
            firing = {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}
            if "CalgateUsersDenied" in firing:
                break
            await asyncio.sleep(0.2)
        rules = await _query(url, "rules")
        health = {rule["name"]: rule["health"] for group in rules["groups"] for rule in group["rules"]}
        assert set(health.values()) == {"ok"}, health
