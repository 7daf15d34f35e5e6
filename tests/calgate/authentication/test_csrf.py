"""Which requests of another site's pages may be carried out, and which may sign in."""

import pytest

from calgate.authentication import csrf
from calgate.http.headers import RequestHeaders
from calgate.plugin.errors import CrossSite

OWN = ("https://bi.corp.example",)
EMBED = frozenset({"https://portal.corp.example"})


def headers(**values: str) -> RequestHeaders:
    return RequestHeaders(by_name={name.replace("_", "-").encode(): value.encode() for name, value in values.items()})


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://bi.corp.example", "https://bi.corp.example.x"]
)
@pytest.mark.parametrize(("method", "websocket"), [("POST", False), ("DELETE", False), ("GET", True)])
def test_foreign_origin_is_refused_for_unsafe_methods_and_websockets(origin: str, method: str, websocket: bool) -> None:
    with pytest.raises(CrossSite):
        csrf.demand_own_site(method, headers(origin=origin), OWN, EMBED, websocket=websocket)


@pytest.mark.parametrize(
    ("method", "origin"),
    [("GET", "https://evil.example"), ("POST", OWN[0]), ("POST", "https://portal.corp.example"), ("POST", "")],
)
def test_own_and_embedding_origins_and_safe_methods_pass(method: str, origin: str) -> None:
    given = headers(origin=origin) if origin else headers()
    csrf.demand_own_site(method, given, OWN, EMBED, websocket=False)


def test_null_origin_passes_for_a_page_of_this_site_alone() -> None:
    own = headers(origin="null", sec_fetch_site="same-origin")
    csrf.demand_own_site("POST", own, OWN, EMBED, websocket=False)
    with pytest.raises(CrossSite):
        csrf.demand_own_site("GET", own, OWN, EMBED, websocket=True)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    ("mode", "destination", "method", "may"),
    [
        ("navigate", "document", "GET", True),
        ("navigate", "document", "POST", False),
        ("navigate", "iframe", "GET", False),
        ("no-cors", "image", "GET", False),
        ("cors", "empty", "GET", False),
        ("websocket", "websocket", "GET", False),
    ],
)
def test_only_a_navigation_from_another_site_may_sign_in(
    site: str, mode: str, destination: str, method: str, may: bool
) -> None:
    given = headers(sec_fetch_site=site, sec_fetch_mode=mode, sec_fetch_dest=destination)
    if may:
        csrf.demand_may_sign_in(method, given, EMBED)
    else:
        with pytest.raises(CrossSite):
            csrf.demand_may_sign_in(method, given, EMBED)


@pytest.mark.parametrize(
    ("referer", "may"), [("https://portal.corp.example/x", True), ("https://evil.example/", False)]
)
def test_frame_may_sign_in_on_a_page_of_an_embedding_origin(referer: str, may: bool) -> None:
    given = headers(sec_fetch_site="cross-site", sec_fetch_mode="navigate", sec_fetch_dest="iframe", referer=referer)
    if may:
        csrf.demand_may_sign_in("GET", given, EMBED)
    else:
        with pytest.raises(CrossSite):
            csrf.demand_may_sign_in("GET", given, EMBED)


@pytest.mark.parametrize("site", ["", "same-origin", "none"])
def test_request_of_a_program_or_of_this_site_may_sign_in(site: str) -> None:
    csrf.demand_may_sign_in("POST", headers(sec_fetch_site=site) if site else headers(), frozenset())
