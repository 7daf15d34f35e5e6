"""A plugin that the core has never heard of, to the letter of the README: as good as those that come with it."""

import asyncio
import hashlib
import hmac
import re
from pathlib import Path

import pytest

from support.gateway_process import DocumentServer, calgate, cookie_of, curl, gateway, write_settings

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SIGN_ON = 'sign_on = { plugin = "signed", secret = "s3cret" }\n'


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's module and entry point, where Python finds installed packages."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    entry = re.search(r"^signed = \"(.*)\"$", README, re.MULTILINE)
    assert entry is not None
    site = tmp_path / "site"
    info = site / f"{entry[1]}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{entry[1]}.py").write_text(code, encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {entry[1]}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[calgate.plugins]\nsigned = {entry[1]}\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(site))


def write_with_it(folder: Path, upstream: int, sign_on: str = SIGN_ON) -> Path:
    file = write_settings(folder, upstream)
    file.write_text(re.sub(r"^sign_on = .*\n", sign_on, file.read_text(), flags=re.MULTILINE))
    return file


@pytest.mark.usefixtures("installed")
async def test_a_plugin_of_a_strangers_signs_users_on_and_owns_its_header(
    server: DocumentServer, tmp_path: Path
) -> None:
    async with gateway(write_with_it(tmp_path, server.port)) as gate:
        reply = await curl(f"{gate.url}/portal", "-H", "x-signed-user: boss", user="alice")
    assert reply.status == 200
    (value,) = server.seen[-1].values("X-Signed-User")
    said, _, proof = value.rpartition(" ")
    assert said.startswith("demo\\alice ")
    assert proof == hmac.new(b"s3cret", said.encode(), hashlib.sha256).hexdigest()
    assert "boss" not in str(server.seen[-1].fields)


@pytest.mark.usefixtures("installed")
async def test_what_is_not_the_persons_alone_is_asked_for_each_request(server: DocumentServer, tmp_path: Path) -> None:
    async with gateway(write_with_it(tmp_path, server.port)) as gate:
        cookie = await cookie_of(gate, "alice")
        times = set()
        for _ in range(2):
            assert (await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")).status == 200
            times.add(server.seen[-1].values("X-Signed-User")[0].split()[1])
            await asyncio.sleep(1.1)
        assert len(times) == 2


@pytest.mark.usefixtures("installed")
async def test_its_settings_are_checked_as_ours_are(server: DocumentServer, tmp_path: Path) -> None:
    file = write_with_it(tmp_path, server.port, 'sign_on = { plugin = "signed", secet = "s3cret" }\n')
    code, _, said = await calgate("run", "-c", str(file))
    assert code == 2
    assert "routes[1].sign_on.secet: unknown key; did you mean 'secret'?" in said
    assert "routes[1].sign_on.secret: is missing" in said


async def test_without_it_the_setting_is_a_fault_that_says_so(server: DocumentServer, tmp_path: Path) -> None:
    code, _, said = await calgate("run", "-c", str(write_with_it(tmp_path, server.port)))
    assert code == 2
    assert "no sign-on plugin 'signed' is installed" in said
