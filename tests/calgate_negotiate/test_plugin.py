"""The plugin's start, with settings that can and cannot be used."""

import contextlib
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

import calgate_negotiate
from calgate.plugin.checks import CheckContext
from calgate.plugin.errors import AuthenticationFailed
from calgate.plugin.services import Services
from calgate.store import StoreSection, open_store
from calgate_negotiate import Config
from calgate_negotiate.channel_binding import Mode
from calgate_negotiate.load_password_kerberos import open_domain
from calgate_negotiate.password_settings import Config as PasswordConfig
from calgate_users.directory import UsersDirectory
from support.certificates import Authority
from support.handshakes import PEER, ntlm_client, shake
from support.redis_servers import Server
from support.users_file import write


class NoStore:
    """For a plugin that fails before it needs one."""

    prefix = "test"

    def library(self, name: str, source: str) -> None:
        assert name.startswith("calgate_")
        assert source


def services(folder: Path) -> Services:
    return Services(store=NoStore(), state_dir=folder)  # type: ignore[arg-type]


async def test_plugin_signs_in_with_the_users_file(server: Server, tmp_path: Path) -> None:
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        lent = Services(store=store, state_dir=tmp_path, ntlm_verifier=UsersDirectory(write(tmp_path)))
        async with calgate_negotiate.start(Config(ntlm="users"), lent) as plugin:
            proven = await shake(plugin.begin(PEER), ntlm_client("DEMO\\alice"), "NTLM")
    assert proven.identity.name == "DEMO\\alice"


def test_section_without_a_mechanism_is_refused() -> None:
    with pytest.raises(ValidationError, match="no mechanism is on"):
        Config()


async def test_start_fails_if_ntlm_is_users_without_a_users_section(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs a \[users\] section"):
        async with calgate_negotiate.start(Config(ntlm="users"), services(tmp_path)):
            pass


def test_warning_recommends_a_keytab_if_only_ntlm_is_on() -> None:
    assert calgate_negotiate.warnings(Config(ntlm="users"))
    assert not calgate_negotiate.warnings(Config(keytab=Path("/x")))


async def test_start_names_the_missing_package_without_python_gssapi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "calgate_negotiate.kerberos", raising=False)
    monkeypatch.setitem(sys.modules, "gssapi", None)
    with pytest.raises(ValueError, match=r"pip install -r deploy/requirements-kerberos\.txt"):
        async with calgate_negotiate.start(Config(keytab=tmp_path / "k"), services(tmp_path)):
            pass


@pytest.mark.parametrize(
    ("mode", "has_tls", "has_certificate", "is_usable"),
    [
        ("require", False, False, False),
        ("require", True, False, True),
        ("require", False, True, True),
        ("allow", False, False, True),
    ],
)
async def test_required_channel_binding_needs_a_certificate_to_bind_to(
    server: Server, tmp_path: Path, mode: Mode, has_tls: bool, has_certificate: bool, is_usable: bool
) -> None:
    certificate = Authority(tmp_path).sign("bi.corp.example").certificate if has_certificate else None
    config = Config(ntlm="users", channel_binding=mode, binding_certificate=certificate)
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        lent = Services(store, tmp_path, has_tls=has_tls, ntlm_verifier=UsersDirectory(write(tmp_path)))
        found = [finding async for finding in calgate_negotiate.check(config, CheckContext(lent, (), has_tls=has_tls))]
        assert ("channel binding" in {finding.subject for finding in found if finding.level == "fail"}) != is_usable
        with contextlib.nullcontext() if is_usable else pytest.raises(ValueError, match="binding_certificate"):
            async with calgate_negotiate.start(config, lent):
                pass


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "cannot be read: No such file"), (b"", "no usable key"), (b"not a keytab", "no usable key")],
)
async def test_start_fails_with_an_unusable_keytab(tmp_path: Path, content: bytes | None, expected: str) -> None:
    pytest.importorskip("gssapi", reason="python-gssapi is not installed")
    keytab = tmp_path / "http.keytab"
    if content is not None:
        keytab.write_bytes(content)
    with pytest.raises(ValueError, match=r"negotiate\.keytab") as caught:
        async with calgate_negotiate.start(Config(keytab=keytab), services(tmp_path)):
            pass
    assert expected in str(caught.value)


@pytest.mark.parametrize(("own", "setting"), [(True, "password.keytab"), (False, "negotiate.keytab")])
def test_fault_of_the_password_forms_keytab_names_the_setting_that_it_comes_from(
    tmp_path: Path, own: bool, setting: str
) -> None:
    pytest.importorskip("gssapi", reason="python-gssapi is not installed")
    keytab = tmp_path / "http.keytab"
    form = PasswordConfig(keytab=keytab if own else None)
    with pytest.raises(ValueError, match=rf"^{setting}: \S+ cannot be read"):
        open_domain(keytab, form.realms, form.keytab_setting)


async def test_ntlm_has_a_code_of_its_own_if_only_kerberos_is_on() -> None:
    from calgate_negotiate.handshake import Mechanisms, NegotiateAuthenticator

    kerberos_only = NegotiateAuthenticator(Mechanisms())
    for wrapped in (False, True):
        with pytest.raises(AuthenticationFailed) as caught:
            await shake(kerberos_only.begin(PEER), ntlm_client("DEMO\\alice", spnego_wrapped=wrapped), "Negotiate")
        assert caught.value.code == "ntlm-off"
