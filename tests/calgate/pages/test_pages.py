"""Pages and refusals: their messages, their forms, and what must never be in them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from calgate.dialect import DialectResponse
from calgate.pages import PageContext, Pages, headers, words_for
from calgate.pages.negotiation import prefers_page
from calgate.pages.render import check_pages
from calgate.pages.settings import PagesSection
from calgate.plugin.errors import Forbidden, Refusal, TooManySignIns, Unavailable
from calgate.plugin.licensing import NoCal, Pool
from support.page_samples import DOCUMENT, NOW, VIEWER, no_cal, refusals

PAGES = Pages(PagesSection(contact="help@corp.example"))
PROGRAM = replace(VIEWER, accept="application/json")


def page(refusal: Refusal, viewer: PageContext = VIEWER) -> str:
    return PAGES.refuse(refusal, viewer).body.decode()


@pytest.mark.parametrize("name", refusals())
def test_refusal_has_its_message_and_status_in_every_form_and_never_its_detail(name: str) -> None:
    refusal = refusals()[name]
    title = words_for(refusal).title
    for viewer in (VIEWER, PROGRAM):
        rendered = PAGES.refuse(refusal, viewer)
        assert rendered.status == refusal.status
        assert title in rendered.body.decode()
        assert "SECRET" not in rendered.body.decode()
        assert "7F3K-92QD" in rendered.body.decode()
        assert dict(rendered.headers)["Cache-Control"] == "no-store"


def test_every_kind_and_code_of_refusal_has_a_message_of_its_own() -> None:
    titles = [words_for(refusal).title + words_for(refusal).text for refusal in refusals().values()]
    assert len(set(titles)) == len(titles)
    kinds = {type(refusal) for refusal in refusals().values()}
    assert kinds == {kind for kind in _all_kinds(Refusal) if kind.__module__.startswith("calgate.plugin.")}, (
        "a kind has no message"
    )


def test_bug_is_shown_as_a_fault_of_the_gateway() -> None:
    class Bug(Refusal):
        status = 500

    assert "a fault of the gateway" in page(Bug("SECRET"))


def _all_kinds(kind: type[Refusal]) -> set[type[Refusal]]:
    return {kind for child in kind.__subclasses__() for kind in (child, *_all_kinds(child))}


def test_program_reads_a_denial_as_problem_json() -> None:
    rendered = PAGES.refuse(no_cal(), PROGRAM)
    assert dict(rendered.headers)["Content-Type"] == "application/problem+json"
    problem = json.loads(rendered.body)
    assert problem["code"] == "no-cal"
    assert problem["status"] == 403
    assert problem["document"] == DOCUMENT
    assert problem["contact"] == "bi-support@corp.example"
    assert problem["free_at"] == "2026-03-04T12:35:00Z"
    assert problem["pools"][2] == {
        "kind": "session",
        "limit": 6,
        "occupied": 6,
        "free_at": "2026-03-04T12:35:00Z",
        "note": "full",
    }
    assert problem["retry_after"] == 2100
    assert "place" not in problem


def test_program_in_the_queue_learns_its_place() -> None:
    problem = json.loads(PAGES.refuse(no_cal(place=3), PROGRAM).body)
    assert (problem["place"], problem["estimate"], problem["retry_after"]) == (3, "2026-03-04T12:25:00Z", 10)


def test_denial_page_shows_the_actual_reason_and_what_the_user_can_do() -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page(no_cal())))
    for fact in (
        "6 of 6 in use",
        "None is assigned to you.",
        "None is allocated to this document.",
        "When the next one can come free: 12:35 UTC.",
        "bi-support@corp.example",
        "CORP\\an.account",
    ):
        assert fact in text


def test_denial_for_another_reason_says_it_and_shows_no_pools() -> None:
    said = {"in-use-elsewhere": "another computer", "taken-over": "another computer", "no-cal-held": "has ended"}
    for code, words in said.items():
        refusal = no_cal(code=code)
        assert words in page(refusal)
        assert "Licenses in use" not in page(refusal)
        assert "Retry-After" not in dict(headers(refusal, NOW))
        assert json.loads(PAGES.refuse(refusal, PROGRAM).body)["code"] == code


def test_denial_on_a_public_route_says_the_reason_and_where_to_sign_in() -> None:
    said = {
        "cookie-needed": "Allow cookies for this site",
        "anonymous-full": "All licenses that visitors can use",
        "address-full": "Visitors at your network address",
        "none-for-anonymous": "kept for its users",
    }
    link = 'href="/qlikview">Sign in with an account'
    for code, words in said.items():
        refusal = NoCal("x", license="l", document="d", pools=(), code=code)
        assert words in page(refusal)
        assert link not in page(refusal), "no route of this host signs in"
        assert link in page(refusal, replace(VIEWER, sign_in_path="/qlikview"))
    assert link not in page(no_cal(), replace(VIEWER, sign_in_path="/qlikview")), "a signed-in user"


def test_pools_that_were_not_bought_are_not_shown() -> None:
    none = NoCal("x", license="l", document="d", pools=[Pool("session", 2, 2), Pool("usage", 0, 0)])
    assert "Session CALs" in page(none)
    assert "Usage CALs" not in page(none)


def test_page_names_the_rule_that_refuses() -> None:
    assert "sales documents: nobody else" in page(Forbidden("x", rule="sales documents: nobody else"))
    assert json.loads(PAGES.refuse(Forbidden("x", rule="r"), PROGRAM).body)["rule"] == "r"


def test_names_from_outside_are_shown_as_text() -> None:
    evil = "<script>alert(1)</script>"
    refusal = NoCal("x", license=evil, document=evil, pools=[Pool("session", 2, 2)], contact=f"{evil} http://x/")
    text = page(refusal, replace(VIEWER, user=evil, site=evil, reference=evil, path=f'/"><{evil}'))
    assert "<script>alert" not in text
    assert '"><' + evil not in text
    assert "<script>alert" not in page(Forbidden("x", rule=evil))


@pytest.mark.parametrize(
    "path", ["//evil.example/", "/\\evil.example", "http://evil.example/", "javascript:x", "/a\r", ""]
)
def test_links_stay_on_this_site(path: str) -> None:
    hrefs = re.findall(r'href="([^"]*)"', page(Forbidden("x"), replace(VIEWER, path=path)))
    ours = [href for href in hrefs if not href.startswith("mailto:help@corp.example?subject=")]
    assert set(ours) <= {"/", "mailto:help@corp.example", "data:,"}  # the last is the empty icon


def test_policy_of_a_page_allows_only_its_own_style_and_script() -> None:
    rendered = PAGES.refuse(no_cal(), VIEWER)
    policy = dict(rendered.headers)["Content-Security-Policy"]
    (nonce,) = set(re.findall(r"script-src 'nonce-([^']+)'", policy))
    text = rendered.body.decode()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert text.count(f'nonce="{nonce}"') == text.count("<style") + text.count("<script")
    assert " style=" not in text
    assert " onclick=" not in text
    assert nonce not in page(no_cal())


def test_pages_can_be_framed_by_this_site_and_by_configured_origins() -> None:
    rendered = Pages(PagesSection(), embed_in=["https://portal.example"]).refuse(no_cal(), VIEWER)
    assert "frame-ancestors 'self' https://portal.example" in dict(rendered.headers)["Content-Security-Policy"]


def test_call_of_the_dialects_client_is_refused_in_its_own_form() -> None:
    heard: list[str] = []

    def write(words: str) -> DialectResponse:
        heard.append(words)
        return DialectResponse("text/xml", b"<result/>")

    rendered = PAGES.refuse(no_cal(), replace(VIEWER, write=write))
    assert (rendered.status, rendered.body) == (403, b"<result/>")
    assert heard[0].startswith("No license is free for you. ")
    assert heard[0].endswith("When the next one can come free: 12:35 UTC. Reference 7F3K-92QD.")


@pytest.mark.parametrize(
    ("accept", "wants"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("text/html, application/json;q=0.5", True),
        ("application/problem+json, text/html;q=0.5", False),
        ("application/json", False),
        ("*/*", False),
        ("", False),
        ("text/html;q=0", False),
        ("text/html;q=nonsense", False),
        ("image/avif,image/webp,*/*;q=0.8", False),
    ],
)
def test_page_is_sent_to_a_client_that_prefers_one(accept: str, wants: bool) -> None:
    assert prefers_page(accept) is wants


@pytest.mark.parametrize(
    ("refusal", "wait"),
    [
        (TooManySignIns("x", retry_after=59.2), "60"),
        (Unavailable("x"), "10"),
        (no_cal(), "2100"),
        (no_cal(place=2), "10"),
        (NoCal("x", license="l", document="d", pools=[Pool("named", 1, 1)]), None),
        (Forbidden("x"), None),
    ],
)
def test_refusal_says_when_to_try_again_where_that_is_known(refusal: Refusal, wait: str | None) -> None:
    assert dict(headers(refusal, NOW)).get("Retry-After") == wait


def test_sign_out_page_has_a_button_that_posts_and_signed_out_does_not_challenge() -> None:
    button = PAGES.sign_out(VIEWER)
    assert button.status == 200
    assert b'<form method="post" action="/_calgate/sign-out">' in button.body
    assert button.body.count(b"<form") == 1
    assert PAGES.signed_out(VIEWER).status == 200


def test_denial_promises_no_free_cal_where_none_comes_free_by_itself() -> None:
    over = NoCal("x", license="l", document="d", pools=[Pool("session", 2, 3, None)])
    assert "can come free" not in page(over)
    problem = json.loads(PAGES.refuse(over, PROGRAM).body)
    assert (problem["free_at"], problem["pools"][0]["free_at"], "retry_after" in problem) == (None, None, False)


def test_place_in_the_queue_is_promised_only_by_the_page_that_keeps_it() -> None:
    heard: list[str] = []

    def write(words: str) -> DialectResponse:
        heard.append(words)
        return DialectResponse("text/xml", b"<result/>")

    refusal = no_cal(place=3)
    assert "keeps your place" in page(refusal)
    PAGES.refuse(refusal, replace(VIEWER, write=write))
    for text in (heard[0], json.loads(PAGES.refuse(refusal, PROGRAM).body)["detail"]):
        assert "This page" not in text
        assert "number 3 in the queue" in text


def test_sign_out_page_promises_no_more_than_happens() -> None:
    text = PAGES.sign_out(VIEWER).body.decode()
    assert "once its minimum time is over" in text
    assert "A CAL that is assigned to you stays yours" in text


# ---------------------------------------------------------------- an administrator's own templates


def test_template_in_the_folder_replaces_one_page_only(tmp_path: Path) -> None:
    (tmp_path / "denial.html").write_text("<h1>Full house: {{ refusal.document }}</h1>", encoding="utf-8")
    pages = Pages(PagesSection(templates=tmp_path))
    assert pages.refuse(no_cal(), VIEWER).body.decode() == f"<h1>Full house: {DOCUMENT}</h1>"
    assert b"You do not have access" in pages.refuse(Forbidden("x"), VIEWER).body


def test_template_can_extend_ours_and_restyle_every_page(tmp_path: Path) -> None:
    (tmp_path / "_style.css").write_text("body { color: red }", encoding="utf-8")
    (tmp_path / "problem.html").write_text(
        '{% extends "_base.html" %}{% block facts %}<p>Call 112</p>{% endblock %}', encoding="utf-8"
    )
    pages = Pages(PagesSection(templates=tmp_path))
    assert b"body { color: red }" in pages.signed_out(VIEWER).body
    assert b"Call 112" in pages.refuse(refusals()["bad-request"], VIEWER).body


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("denial.html", "<p>\n{% if %}</p>", "denial.html, line 2: "),
        ("denial.html", "<p>\n\n{{ refusal.documnt }}</p>", "denial.html, line 3: .*documnt"),
        ("waiting.html", "{% extends '_nothing.html' %}", "waiting.html, line 1: .*_nothing"),
        ("deniel.html", "", "deniel.html: there is no such page; there are denial.html"),
    ],
)
def test_broken_template_is_reported_with_its_line(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        check_pages(PagesSection(templates=tmp_path))


def test_missing_template_folder_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a folder"):
        check_pages(PagesSection(templates=tmp_path / "none"))
