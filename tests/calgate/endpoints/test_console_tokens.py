"""API tokens in the administrators' console: in which role one enters."""

from dataclasses import replace

import pytest

from calgate.authentication.token import Token
from calgate.endpoints.console import role_of_token
from calgate.plugin.errors import Forbidden

TOKEN = Token("key", "id", "CORP", "svc", "S-1-5-1", "root", 0.0, 1.0, frozenset(), ())


def test_token_without_a_role_does_not_enter_though_its_account_is_an_administrator() -> None:
    with pytest.raises(Forbidden, match="without --console"):
        role_of_token(TOKEN, "admin")


def test_token_enters_in_its_own_role_but_in_none_higher_than_its_account_has() -> None:
    assert role_of_token(replace(TOKEN, console="reader"), "admin") == "reader"
    assert role_of_token(replace(TOKEN, console="admin"), "helpdesk") == "helpdesk"
