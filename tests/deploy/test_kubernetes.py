"""The manifests in `deploy/kubernetes/`: valid by Kubernetes' own schemas, and consistent with each other.

No cluster runs them here; what a schema cannot see (an empty selector, a port that nothing listens on, too little time
to drain) is checked one by one.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from calgate import config
from support.certificates import Authority

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
SUPPORTED = ("1.29.0", "1.37.0")  # the oldest and the newest release that these manifests are meant for


def manifests() -> Iterator[dict[str, Any]]:
    """Every object that `kubectl apply -k` would create."""
    for name in yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]:
        yield from yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))


def manifest(kind: str, name: str = "calgate") -> Any:
    return next(one for one in manifests() if one["kind"] == kind and one["metadata"]["name"] == name)


def pod() -> Any:
    return manifest("Deployment")["spec"]["template"]


def settings() -> Any:
    return tomllib.loads((FOLDER / "calgate.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("version", SUPPORTED)
def test_every_manifest_is_valid_by_the_schema_of_a_supported_kubernetes(version: str) -> None:
    for one in manifests():
        kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        ("Deployment", "calgate", ("spec", "selector", "matchLabels")),
        ("Service", "calgate", ("spec", "selector")),
        ("Service", "calgate-admin", ("spec", "selector")),
        ("PodDisruptionBudget", "calgate", ("spec", "selector", "matchLabels")),
        ("NetworkPolicy", "calgate", ("spec", "podSelector", "matchLabels")),
    ],
)
def test_selector_names_the_pods_and_is_never_empty(kind: str, name: str, path: tuple[str, ...]) -> None:
    """An empty selector is valid everywhere, and selects every pod of the namespace."""
    selector = manifest(kind, name)
    for key in path:
        selector = selector[key]
    assert selector
    assert selector.items() <= pod()["metadata"]["labels"].items()


def test_container_ports_are_those_that_the_settings_listen_on() -> None:
    listen = settings()["listen"]
    ports = {port["name"]: port["containerPort"] for port in pod()["spec"]["containers"][0]["ports"]}
    assert ports == {"https": int(listen["bind"].rpartition(":")[2]), "admin": int(listen["admin"].rpartition(":")[2])}
    for service in (manifest("Service"), manifest("Service", "calgate-admin")):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports.keys()


def test_pod_has_time_for_the_pause_and_for_draining() -> None:
    container = pod()["spec"]["containers"][0]
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = int(settings()["listen"]["drain"].removesuffix("s"))
    killed_after = 5  # seconds that a worker has after its drain until the parent kills it
    assert pod()["spec"]["terminationGracePeriodSeconds"] >= pause + drain + killed_after


def test_secret_is_mounted_as_a_folder_so_that_renewed_files_arrive() -> None:
    mounts = [mount for mount in pod()["spec"]["containers"][0]["volumeMounts"] if mount["name"] == "secret"]
    assert [mount.get("subPath") for mount in mounts] == [None]
    used = {value for value in _files_in(settings()) if value.startswith("/etc/calgate/secret/")}
    listed = (FOLDER / "kustomization.yaml").read_text(encoding="utf-8")
    assert used
    assert all(f"--from-file={Path(file).name}" in listed for file in used)


def test_settings_of_the_pods_are_read_without_a_fault(tmp_path: Path) -> None:
    signed = Authority(tmp_path).sign("bi.corp.example")
    secrets = {"bi.pem": signed.certificate, "bi.key": signed.key}
    for name in ("http.keytab", "ad-ca.pem", "ldap.secret", "redis.secret"):
        (tmp_path / name).write_text("a placeholder that is only opened\n")
    for name, file in secrets.items():
        (tmp_path / name).write_bytes(file.read_bytes())
    file = tmp_path / "calgate.toml"
    text = (FOLDER / "calgate.toml").read_text(encoding="utf-8").replace("/etc/calgate/secret", str(tmp_path))
    file.write_text(text, encoding="utf-8")
    assert config.read(file).core.store.service == "calgate"


def _files_in(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _files_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _files_in(inner)
    elif isinstance(value, str):
        yield value
