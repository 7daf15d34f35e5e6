"""The lab: started once a run; every test of this folder runs inside it."""

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
    """The running domain. A test that changes it puts it back."""
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
    """Gives the service account a new password, and a keytab the new keys beside the old ones, in one stroke."""

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
    """Of an account that takes nothing but RC4, as was usual once; the library here is set to put up with it."""
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
    """Network, host names and winbindd's socket are the lab's while a test runs."""
    monkeypatch.setenv("KRB5_CONFIG", str(domain.folder / "krb5.conf"))
    with domain.entered():
        yield
