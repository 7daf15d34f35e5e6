"""The lab: started once a run; every test of this folder runs inside it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab as labs
from lab import Lab

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.domain)


@pytest.fixture(scope="session")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The running domain. A test that changes it puts it back."""
    reason = labs.missing()
    if reason:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    lab = labs.start(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.do("down")


@pytest.fixture(autouse=True)
def inside(domain: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Network, host names and winbindd's socket are the lab's while a test runs."""
    monkeypatch.setenv("KRB5_CONFIG", str(domain.folder / "krb5.conf"))
    with domain.entered():
        yield
