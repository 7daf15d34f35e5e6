"""Which dialect a route has, what it remembers, and which requests claim nothing."""

from typing import Any

import pytest
from multidict import CIMultiDict

from calgate.dialect import Use, choose, is_prefetch_or_embed
from calgate.plugin.errors import BadRequest, Forbidden

CALL = "/QvAJAXZfc/QvsViewClient.aspx"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"name": "qlickview"}, "there is no dialect 'qlickview'"),
        ({"name": "qlikview", "opens": "/x"}, "not both"),
        ({"name": None, "opens": "^/docs/(.*)"}, "which part is the document"),
        ({"name": None, "polls": "(?P<document>"}, "polls is not a regular expression"),
        ({"name": None, "uses": "docs/(?P<document>.*)"}, "must begin"),
        ({"name": "qlikview", "windows": False}, "QlikView runs on Windows"),
    ],
)
def test_unusable_dialect_setting_is_a_fault_of_the_file(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        choose(**settings)


def test_route_has_qlikview_or_patterns_or_no_dialect() -> None:
    qlikview, patterns = choose("qlikview"), choose(None, opens="/(?P<document>.+)")
    assert qlikview is not None
    assert patterns is not None
    assert qlikview.classify("GET", "/QvAJAXZfc/opendoc.htm?document=a.qvw") == Use("open", "a.qvw")
    assert patterns.classify("GET", "/a.qvw") == Use("open", "a.qvw")
    assert choose(None) is None


def test_remembered_target_is_read_again_with_another_body_method_or_encoding() -> None:
    dialect = choose("qlikview")
    assert dialect is not None
    target = f"{CALL}?view=Sales%2FQ1.qvw"
    assert dialect.classify("GET", target) == Use("poll", "sales/q1.qvw")
    assert dialect.classify("POST", target, b'<update mark="" view="Sales/Q1.qvw"/>') == Use("open", "sales/q1.qvw")
    assert dialect.classify("GET", target) == Use("poll", "sales/q1.qvw")
    with pytest.raises(BadRequest):
        dialect.classify("POST", target, b'<update view="HR.qvw"/>')
    with pytest.raises(BadRequest):
        dialect.classify("GET", target, content_type="text/xml; charset=utf-7")
    assert dialect.classify("GET", "/QvAJAXZfc/Authenticate.aspx") == Use("other")
    with pytest.raises(Forbidden):
        dialect.classify("POST", "/QvAJAXZfc/Authenticate.aspx")
    long = f"/QvAJAXZfc/opendoc.htm?document=a.qvw&x={'x' * 600}"
    assert dialect.classify("GET", long) == Use("open", "a.qvw")
    assert dialect.needs_body("GET", long) == 0
    assert dialect.needs_body("POST", target) > 0


@pytest.mark.parametrize(
    ("method", "headers", "never"),
    [
        ("GET", {}, False),
        ("POST", {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, False),
        ("GET", {"sec-fetch-site": "cross-site", "Sec-Fetch-Mode": "navigate"}, False),
        ("GET", {"sec-fetch-site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, True),
        ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, True),
        ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}, False),
        ("GET", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, False),
        ("GET", {"Sec-Purpose": "prefetch;prerender"}, True),
        ("GET", {"purpose": "prefetch"}, True),
        ("HEAD", {}, True),
        ("OPTIONS", {}, True),
    ],
)
def test_request_claims_nothing_when_no_user_wants_to_see_it(method: str, headers: dict[str, str], never: bool) -> None:
    assert is_prefetch_or_embed(method, CIMultiDict(headers)) is never
