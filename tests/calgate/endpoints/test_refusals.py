"""Refusals as responses: their challenges, and when the connection must end."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from calgate.endpoints.refusals import InternalError, RefusalResponses
from calgate.http.headers import RequestHeaders
from calgate.http.request import Request
from calgate.http.response import Response
from calgate.pages import Pages
from calgate.pages.settings import PagesSection
from calgate.plugin.errors import BadRequest, Forbidden, MethodRefused, Refusal, SignInNeeded

RESPONSES = RefusalResponses(Pages(PagesSection()), ("GET", "POST"))


def raw(error: Exception | None = None) -> Any:
    return SimpleNamespace(raw_headers=(), content=SimpleNamespace(exception=lambda: error))


def request(*, awaits_continue: bool = False) -> Request:
    headers = RequestHeaders(by_name={b"accept": b"text/html"})
    values: Any = (raw(), None, "GET", "/x", SimpleNamespace(path="/x"), headers, "bi", "https", "::1", False)
    made = Request(*values)
    made.awaits_continue = awaits_continue
    made.sign_in_headers = [(b"Set-Cookie", b"calgate=new")]
    return made


def refuse(refusal: Refusal, made: Request | None, *challenges: str, error: Exception | None = None) -> Response:
    reference = made.reference if made is not None else "7F3K-92QD"
    return RESPONSES.refuse(cast(Any, raw(error)), made, refusal, reference, challenges, None)


def test_challenges_and_the_new_session_go_with_the_refusal() -> None:
    response = refuse(SignInNeeded("x"), request(), "Negotiate", "NTLM")
    assert [value for name, value in response.headers if name == b"WWW-Authenticate"] == [b"Negotiate", b"NTLM"]
    assert (b"Set-Cookie", b"calgate=new") in response.headers
    assert response.keep_alive


def test_refused_method_is_told_which_are_allowed() -> None:
    assert (b"Allow", b"GET, POST") in refuse(MethodRefused("x"), request()).headers


def test_page_for_an_unreadable_request_has_the_reference_of_the_log() -> None:
    response = refuse(BadRequest("x"), None)
    assert b"7F3K-92QD" in response.body
    assert not response.keep_alive


@pytest.mark.parametrize(("awaits_continue", "error"), [(True, None), (False, ConnectionResetError("broken body"))])
def test_connection_ends_where_the_next_request_cannot_be_found(awaits_continue: bool, error: Exception | None) -> None:
    assert refuse(Forbidden("x"), request()).keep_alive
    assert not refuse(Forbidden("x"), request(awaits_continue=awaits_continue), error=error).keep_alive


def test_bug_is_a_500_that_hides_its_detail() -> None:
    response = refuse(InternalError("SECRET"), request())
    assert response.status == 500
    assert b"SECRET" not in response.body
