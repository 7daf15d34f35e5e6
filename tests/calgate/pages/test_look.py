"""How a site's pages look, and how people ask for access or a license."""

import re
from base64 import b64encode
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from pydantic import ValidationError

from calgate.pages import Pages
from calgate.pages.colors import contrast, read_color, variables
from calgate.pages.render import check_pages
from calgate.pages.settings import PagesSection
from calgate.plugin.errors import Forbidden, Refusal
from support.page_samples import VIEWER, no_cal, refusals

READER = replace(VIEWER, user="CORP\\alice", path="/docs/a?b=1&c=Zoë")


def page(settings: PagesSection, refusal: Refusal, language: str = "") -> str:
    return Pages(settings).refuse(refusal, replace(READER, accept_language=language)).body.decode()


def link_of(text: str, words: str) -> str:
    found = re.search(rf'<a[^>]* href="([^"]*)">{words}</a>', text)
    assert found is not None, words
    return unescape(found[1])


def test_name_logo_color_and_help_are_on_every_page(tmp_path: Path) -> None:
    logo = tmp_path / "logo.svg"
    logo.write_bytes(b"<svg/>")
    settings = PagesSection(company="Ada & Sons", logo=logo, color="#123456", help_link="https://help.example/bi?x=1")
    for refusal in refusals().values():
        text = page(settings, refusal)
        assert "Ada &amp; Sons" in text
        assert f'src="data:image/svg+xml;base64,{b64encode(b"<svg/>").decode()}"' in text
        assert "--accent: #123456" in text
        assert 'href="https://help.example/bi?x=1">' in text


def test_mail_for_access_has_the_address_the_user_and_the_reference() -> None:
    link = urlsplit(link_of(page(PagesSection(contact="bi@corp.example"), Forbidden("x")), "Ask for access"))
    assert (link.scheme, link.path) == ("mailto", "bi@corp.example")
    fields = parse_qs(link.query)
    assert fields["subject"] == ["Access to bi.corp.example/docs/a?b=1&c=Zoë"]
    assert fields["body"] == [
        "I need access to bi.corp.example/docs/a?b=1&c=Zoë.\r\n\r\nUser: CORP\\alice\r\nReference: 7F3K-92QD"
    ]
    german = urlsplit(link_of(page(PagesSection(contact="bi@corp.example"), Forbidden("x"), "de"), "Zugriff anfordern"))
    assert parse_qs(german.query)["body"][0].startswith("Ich brauche Zugriff auf bi.corp.example/")


def test_administrators_own_link_is_filled_in_and_cannot_be_broken_out_of() -> None:
    settings = PagesSection(
        ask_link="https://tickets.example/new?what={document}&who={user}&ref={reference}&at={address}"
    )
    reader = replace(READER, user='CORP\\"><a&x=1', path="/d?q={user}")
    text = Pages(settings).refuse(Forbidden("x"), reader).body.decode()
    fields = parse_qs(urlsplit(link_of(text, "Ask for access")).query)
    assert fields == {
        "what": ["/d?q={user}"],
        "who": ['CORP\\"><a&x=1'],
        "ref": ["7F3K-92QD"],
        "at": ["bi.corp.example/d?q={user}"],
    }
    denial = link_of(page(settings, no_cal()), "Ask for a license")
    assert "quarterly_revenue" in unquote(denial)


@pytest.mark.parametrize("contact", ["", "Ask Erika, extension 112", "bi@corp.example?bcc=evil@x", "a b@corp.example"])
def test_there_is_no_mail_without_one_plain_address(contact: str) -> None:
    assert "Ask for access" not in page(PagesSection(contact=contact), Forbidden("x"))


def test_only_what_somebody_can_grant_can_be_asked_for() -> None:
    settings = PagesSection(contact="bi@corp.example")
    asked = {name for name, refusal in refusals().items() if "?subject=" in page(settings, refusal)}
    assert asked == {"forbidden", "forbidden-by-none", "no-cal"}


@pytest.mark.parametrize("color", ["#0f6b5c", "#000000", "#7a5200", "#00008b", "#9c3324"])
def test_color_is_readable_in_light_and_in_dark(color: str) -> None:
    for written, card in zip(variables(color), ("#ffffff", "#1b2220"), strict=True):
        accent, on_accent = re.findall(r"accent: (#\w{6})", written)
        channels = {text: tuple(bytes.fromhex(text[1:])) for text in (accent, on_accent, card)}
        assert contrast(channels[accent], channels[card]) >= 4.5  # type: ignore[arg-type]
        assert contrast(channels[accent], channels[on_accent]) >= 4.5  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"color": "#ffcc00"}, "color: #ffcc00 has a contrast of 1.4 to the page, and text needs 4.5"),
        ({"color": "red"}, "color: a color is written like"),
        ({"logo": Path("/none/logo.png")}, "logo: /none/logo.png cannot be read: No such file"),
        ({"logo": Path("/none/logo.gif")}, "logo: /none/logo.gif is no PNG, SVG or WebP file"),
        ({"logo": Path("large.png")}, "is larger than 64 KB"),
    ],
)
def test_look_that_cannot_be_shown_is_a_fault_of_the_settings(
    tmp_path: Path, settings: dict[str, object], says: str
) -> None:
    if settings.get("logo") == Path("large.png"):
        settings = {"logo": tmp_path / "large.png"}
        (tmp_path / "large.png").write_bytes(b"x" * (64 * 1024 + 1))
    with pytest.raises(ValueError, match=re.escape(says)):
        check_pages(PagesSection.model_validate(settings))


PNG, WEBP = b"\x89PNG\r\n\x1a\n", b"RIFF\x00\x00\x00\x00WEBP"


@pytest.mark.parametrize(
    ("name", "content", "is_fit"),
    [
        ("logo.png", PNG, True),
        ("logo.PNG", PNG, True),
        ("logo.webp", WEBP, True),
        ("logo.svg", b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- made by -->\n<svg viewBox="0 0 2000 20"></svg>', True),
        ("logo.svg", b"<svg:svg/>", True),
        ("logo.png", b"", False),
        ("logo.png", b"\xff\xd8\xff\xe0 a JPEG", False),
        ("logo.webp", PNG, False),
        ("logo.svg", b"<html>Not found</html>", False),
    ],
)
def test_logo_is_the_picture_that_its_name_promises(tmp_path: Path, name: str, content: bytes, is_fit: bool) -> None:
    logo = tmp_path / name
    logo.write_bytes(content)
    if is_fit:
        assert "<img" in page(PagesSection(logo=logo), Forbidden("x"))
        return
    with pytest.raises(ValueError, match="picture, whatever its name"):
        check_pages(PagesSection(logo=logo))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"help_link": "javascript:alert(1)"}, 'a link begins with "https://"'),
        ({"ask_link": "data:text/html,x"}, 'a link begins with "https://"'),
        (
            {"ask_link": "https://t.example/{usr}"},
            'there is no field "usr"; there are address, document, user, reference',
        ),
    ],
)
def test_link_that_cannot_be_used_is_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)):
        PagesSection.model_validate(settings)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast(read_color("#6a6a6a"), (255, 255, 255)) == pytest.approx(5.4, abs=0.05)
