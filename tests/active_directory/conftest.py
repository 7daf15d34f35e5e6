"""Starts the lab once; every test of this folder runs in its namespaces."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import domain as labs
from support.domain import Lab, run

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.domain)


@pytest.fixture(scope="session")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Starts the domain. A test that changes the domain restores it."""
    reason = labs.missing()
    if reason:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    lab = labs.start(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.do("down")


@pytest.fixture
def rotate(domain: Lab, tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Gives the service account a new password, and replaces a keytab by one with the old and the new keys."""

    def change(keytab: Path, password: str = "Another-Passw0rd-2!") -> None:
        domain.samba_tool("user", "setpassword", "gateway", f"--newpassword={password}")
        fresh = tmp_path / "fresh.keytab"
        fresh.write_bytes(keytab.read_bytes())
        principal = f"--principal=HTTP/{labs.HOST}"
        run("samba-tool", "domain", "exportkeytab", str(fresh), "-s", str(domain.samba), principal)
        fresh.replace(keytab)

    yield change
    change(domain.keytab, labs.SERVICE_PASSWORD)


@pytest.fixture
def rc4_keytab(domain: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Makes the keytab of an account that supports only RC4, and lets the Kerberos library here accept RC4."""
    domain.samba_tool("user", "create", "old-service", labs.SERVICE_PASSWORD)
    domain.samba_tool("spn", "add", f"HTTP/{labs.OLD_HOST}", "old-service")
    attribute = "msDS-SupportedEncryptionTypes"
    change = f"dn: CN=old-service,CN=Users,{labs.BASE}\nchangetype: modify\nreplace: {attribute}\n{attribute}: 4\n"
    run("ldbmodify", "-H", str(domain.folder / "dc/private/sam.ldb"), stdin=change)
    settings, keytab = tmp_path / "rc4.conf", tmp_path / "rc4.keytab"
    text = (domain.folder / "krb5.conf").read_text()
    settings.write_text(text.replace("[libdefaults]", "[libdefaults]\n    allow_rc4 = true"))
    monkeypatch.setenv("KRB5_CONFIG", str(settings))
    words = ("exportkeytab", str(keytab), "-s", str(domain.samba), f"--principal=HTTP/{labs.OLD_HOST}")
    run("samba-tool", "domain", *words)
    yield keytab
    domain.samba_tool("user", "delete", "old-service")


@pytest.fixture(autouse=True)
def inside(domain: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs the test with the network, host names and winbindd socket of the lab."""
    monkeypatch.setenv("KRB5_CONFIG", str(domain.folder / "krb5.conf"))
    with domain.entered():
        yield
