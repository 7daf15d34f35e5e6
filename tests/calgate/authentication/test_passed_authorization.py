"""Which Authorization headers a route with `authorization = "pass"` forwards."""

import base64

import pytest

from calgate.authentication.passed_authorization import is_applications


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "value", ["Bearer abc", "bearer  abc", "Digest username=x, realm=y", basic("app:secret"), "ApiKey 1"]
)
def test_credentials_of_the_application_are_forwarded(value: str) -> None:
    assert is_applications(value.encode(), {"negotiate", "ntlm"})


@pytest.mark.parametrize(
    "value",
    [
        "Negotiate YII=",
        "NEGOTIATE YII=",
        "NTLM TlRM",
        "Kerberos YII=",
        "Bearer calgate_abc",
        "bearer CALGATE_abc",
        "Token token=calgate_abc",
        basic("x:calgate_abc"),
        basic("calgate_abc:"),
        "Basic not-base-64!",
        "Bearer",
        "Negotiate\tYII= x",
        "NTLM\tTlRM x",
        "Bearer\tcalgate_abc x",
        "Negotiate\x0bYII= x",
        "\xa0Negotiate YII=",
        "Negotiate, YII=",
        "CredSSP TlRM",
        "Bearer \tcalgate_abc",
        "",
    ],
)
def test_credentials_of_users_and_tokens_of_ours_are_not_forwarded(value: str) -> None:
    assert not is_applications(value.encode("latin-1"), set())


def test_scheme_that_users_sign_in_by_is_not_forwarded() -> None:
    assert not is_applications(basic("alice:secret").encode(), {"basic"})
    assert not is_applications(b"Bearer of-a-strangers-authenticator", {"bearer"})
