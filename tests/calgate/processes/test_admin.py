"""The parent's own metrics."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from calgate.processes.admin import _expiry
from support.certificates import Authority


def test_certificates_of_the_listener_expire_when_their_files_say_and_unreadable_ones_are_left_out(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path, days=30)
    first, second = (SimpleNamespace(certificate=authority.sign(name).certificate) for name in ("a.test", "b.test"))
    missing = SimpleNamespace(certificate=tmp_path / "missing.pem")
    found = dict(_expiry(cast(Any, SimpleNamespace(tls=first, sni=[second, missing]))))
    assert list(found) == [str(first.certificate), str(second.certificate)]
    assert found[str(first.certificate)] - time.time() == pytest.approx(30 * 86400, abs=2 * 86400)
    assert dict(_expiry(cast(Any, SimpleNamespace(tls=None, sni=[])))) == {}
