"""The languages of pages: which one a reader gets, that no text is missing, and an administrator's own."""

import json
import re
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from calgate.pages import Pages
from calgate.pages.languages import ENGLISH, OURS, Language, Languages, read_catalogue
from calgate.pages.render import check_pages
from calgate.pages.settings import PagesSection
from calgate.plugin.sign_in_method import ShowPage
from support.page_samples import LANGUAGES as TAGS
from support.page_samples import NOW, VIEWER, every_page, no_cal, refusals
from support.translations import extract, missing

LANGUAGES = Languages()
PAGES = Pages(PagesSection(), timezone="Europe/Berlin")
FINNISH = """
msgid ""
msgstr "Content-Type: text/plain; charset=utf-8\\n"

msgid "You do not have access to this"
msgstr "Sinulla ei ole pääsyä tähän"
"""


def text_of(language: str, name: str = "no-cal") -> str:
    body = PAGES.refuse(refusals()[name], replace(VIEWER, accept_language=language)).body.decode()
    return re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<script.*?</script>|<[^>]+>", "", body, flags=re.DOTALL))


@pytest.mark.parametrize("tag", TAGS)
def test_language_has_every_text_and_none_that_is_gone(tag: str) -> None:
    catalogue = read_catalogue(OURS / f"{tag}.po")
    wanted = {message.id for message in extract() if message.id}
    assert {message.id for message in catalogue if message.id} == wanted, "make messages brings them up to date"
    assert missing(catalogue) == []


def test_languages_are_those_that_the_pages_promise() -> None:
    assert sorted(file.stem for file in OURS.glob("*.po")) == sorted(TAGS)


@pytest.mark.parametrize("tag", TAGS)
def test_page_in_another_language_has_no_english_sentence(tag: str) -> None:
    english = every_page()
    for name, page in every_page(tag).items():
        body = page.body.decode()
        assert f'<html lang="{tag}" dir="ltr">' in body
        for mark in ("h1", 'p class="lead"', 'button class="main" type="submit"'):
            texts = re.findall(f"<{mark}>(.*?)</", body, re.DOTALL)
            assert texts or mark.startswith("button"), name
            for text in texts:
                assert f"<{mark}>{text}</" not in english[name].body.decode(), (name, text)


def test_page_of_a_method_without_a_text_shows_none() -> None:
    """The translation of an empty text is the head of the catalogue."""
    body = PAGES.method_page(replace(VIEWER, accept_language="de"), "method", ShowPage("Title", "")).body
    assert b"Project-Id-Version" not in body


@pytest.mark.parametrize(
    ("header", "tag"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("DE-ch-1996", "de"),
        ("en;q=0.5, fr;q=0.7", "fr"),
        ("xx, ja;q=0.1", "ja"),
        ("en-US,en;q=0.9", "en-US"),
        ("en-GB,en;q=0.9", "en"),
        ("*", "en"),
        ("*, de;q=0.5", "en"),
        ("fi, *;q=0.1", "en"),
        ("de;q=0, fr;q=0.1", "fr"),
        ("de-CH, de;q=0, fr;q=0.1", "fr"),
        ("de;q=inf, fr;q=0.1", "fr"),
        ("de;q=2, fr;q=-1, es;q=0.1", "es"),
        ("zh-Hant-TW, zh;q=0.9", "en"),
        ("zh, ja;q=0.5", "ja"),
        ("*;q=0, de;q=0.1", "de"),
        (", ".join(["de-DE"] * 600), "de"),
        ("de;q=nonsense, fr;q=0.1", "fr"),
        ("de;q=nan, fr;q=0.1", "fr"),
        (";;;,,,=;q", "en"),
        ("x," * 20 + "de", "en"),
        ("x" * 1000 + ",de", "en"),
    ],
)
def test_reader_gets_the_language_that_they_prefer(header: str, tag: str) -> None:
    assert LANGUAGES.choose(header).tag == tag


def test_reader_without_a_known_language_gets_the_sites() -> None:
    languages = Languages("sv")
    assert [languages.choose(header).tag for header in ("", "fi", "en")] == ["sv", "sv", "en"]
    assert [languages.choose(header).tag for header in ("sv;q=0", "sv;q=0, en;q=0")] == ["en", "sv"]


def test_response_says_that_it_depends_on_the_readers_language_and_json_stays_english() -> None:
    viewer = replace(VIEWER, accept_language="de")
    page = PAGES.refuse(no_cal(), viewer)
    assert dict(page.headers)["Vary"] == "Accept, Accept-Language"
    problem = json.loads(PAGES.refuse(no_cal(), replace(viewer, accept="application/json")).body)
    assert (problem["code"], problem["title"]) == ("no-cal", "No license is free for you")
    assert problem["detail"] == "All 46 licenses open to you are in use."


def test_number_chooses_the_plural_form() -> None:
    one, many = "The only license of this site is in use.", "All %(num)s licenses of this site are in use."
    polish = LANGUAGES.choose("pl")
    assert [polish.plural(one, many, number) for number in (1, 3, 5)] == [
        "Jedyna licencja tej witryny jest w użyciu.",
        "Wszystkie 3 licencje tej witryny są w użyciu.",
        "Wszystkie licencje tej witryny (5) są w użyciu.",
    ]
    assert ENGLISH.plural(one, many, 1) == one
    assert LANGUAGES.choose("ja").plural(one, many, 1) == "このサイトのライセンスはすべて使用中です (全 1 件)。"


@pytest.mark.parametrize(
    ("header", "zone", "words"),
    [
        ("en", "UTC", "12:00 UTC"),
        ("en-US", "America/New_York", "7:00 AM EST"),
        ("de", "Europe/Berlin", "13:00 MEZ"),
        ("fr", "Europe/Berlin", "13:00 UTC+01:00"),
        ("ja", "Asia/Tokyo", "21:00 JST"),
    ],
)
def test_time_is_written_as_the_language_does_with_the_sites_zone(header: str, zone: str, words: str) -> None:
    written = LANGUAGES.choose(header).time(NOW, NOW, ZoneInfo(zone))
    assert written.replace("\N{NARROW NO-BREAK SPACE}", " ") == words


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("en", "Saturday, 7 March 2026, 13:00 CET"),
        ("en-US", "Saturday, March 7, 2026, 1:00 PM GMT+01:00"),
        ("de", "Samstag, 7. März 2026, 13:00 MEZ"),
        ("fr", "samedi 7 mars 2026, 13:00 UTC+01:00"),
        ("es", "sábado, 7 de marzo de 2026, 13:00 CET"),
        ("it", "sabato 7 marzo 2026, 13:00 CET"),
        ("pt", "sábado, 7 de março de 2026, 13:00 CET"),
        ("nl", "zaterdag 7 maart 2026, 13:00 CET"),
        ("pl", "sobota, 7 marca 2026, 13:00 CET"),
        ("sv", "lördag 7 mars 2026 13:00 CET"),
        ("ja", "2026年3月7日土曜日 13:00 GMT+01:00"),
    ],
)
def test_time_on_another_day_has_its_day_as_the_language_writes_it(header: str, words: str) -> None:
    written = LANGUAGES.choose(header).time(NOW + 3 * 86400, NOW, ZoneInfo("Europe/Berlin"))
    assert written.replace("\N{NARROW NO-BREAK SPACE}", " ") == words


def test_today_is_that_of_the_sites_zone() -> None:
    german, late = LANGUAGES.choose("de"), NOW + 11.5 * 3600  # the next day in Berlin
    assert german.time(late, NOW, ZoneInfo("UTC")) == "23:30 UTC"
    assert german.time(late, NOW, ZoneInfo("Europe/Berlin")) == "Donnerstag, 5. März 2026, 00:30 MEZ"


def test_denial_is_a_sentence_about_this_persons_licenses() -> None:
    assert "All 46 licenses open to you are in use." in text_of("en")
    assert "Alle 46 Lizenzen, die für Sie infrage kommen, sind belegt." in text_of("de")
    assert "Nächste Lizenz voraussichtlich frei13:35 MEZ" in text_of("de")


# ---------------------------------------------------------------- an administrator's own languages


def test_folder_adds_a_language_whose_missing_texts_are_english(tmp_path: Path) -> None:
    (tmp_path / "fi.po").write_text(FINNISH, encoding="utf-8")
    pages = Pages(PagesSection(languages=tmp_path, language="fi"))
    body = pages.refuse(refusals()["forbidden-by-none"], VIEWER).body.decode()
    assert '<html lang="fi"' in body
    assert "Sinulla ei ole pääsyä tähän" in body
    assert "No access rule allows you to open this." in body


@pytest.mark.parametrize(("tag", "asked", "kept"), [("de", "de", "Startseite"), ("pt-BR", "pt-br", "Página inicial")])
def test_folder_replaces_single_texts_and_keeps_ours(tmp_path: Path, tag: str, asked: str, kept: str) -> None:
    (tmp_path / f"{tag.replace('-', '_')}.po").write_text(FINNISH, encoding="utf-8")
    body = Pages(PagesSection(languages=tmp_path)).refuse(
        refusals()["forbidden"], replace(VIEWER, accept_language=asked)
    )
    assert "Sinulla ei ole pääsyä tähän" in body.body.decode()
    assert kept in body.body.decode()


def test_folder_can_replace_english_texts(tmp_path: Path) -> None:
    (tmp_path / "en.po").write_text(FINNISH, encoding="utf-8")
    for header in ("en", "en-US", ""):
        page = Pages(PagesSection(languages=tmp_path)).refuse(
            refusals()["forbidden"], replace(VIEWER, accept_language=header)
        )
        assert "Sinulla ei ole pääsyä tähän" in page.body.decode()


def test_language_written_from_right_to_left_says_so(tmp_path: Path) -> None:
    (tmp_path / "he.po").write_text(FINNISH, encoding="utf-8")
    body = Pages(PagesSection(languages=tmp_path, language="he")).refuse(refusals()["forbidden"], VIEWER).body
    assert b'<html lang="he" dir="rtl">' in body


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("fi.po", 'msgid "a"\nnonsense\n', "fi.po: cannot be read"),
        ("nonsense.po", FINNISH, '"nonsense" is no language'),
        ("fi.po", '\nmsgid "Reference %(reference)s."\nmsgstr "Viite %(refrence)s."\n', "fi.po, line 2: "),
    ],
)
def test_broken_file_is_a_fault_of_the_settings(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(says)):
        check_pages(PagesSection(languages=tmp_path))


def test_default_without_texts_and_missing_folder_are_faults_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='there are no texts in "fi"; there are de, en, '):
        check_pages(PagesSection(language="fi"))
    with pytest.raises(ValueError, match="is not a folder"):
        check_pages(PagesSection(languages=tmp_path / "none"))


def test_translation_is_text_on_the_page_and_in_its_script(tmp_path: Path) -> None:
    texts = {"Start page": "<b>Koti</b> & 'muu'", "A license is free now": "</script>'\\\"&"}
    entries = "".join(f'msgid "{text}"\nmsgstr {json.dumps(own)}\n\n' for text, own in texts.items())
    (tmp_path / "fi.po").write_text(f"{FINNISH}\n{entries}", encoding="utf-8")
    body = Pages(PagesSection(languages=tmp_path, language="fi")).refuse(no_cal(), VIEWER).body.decode()
    assert "&lt;b&gt;Koti&lt;/b&gt; &amp; &#39;muu&#39;" in body
    (written,) = re.findall(r"const words = (.*);", body)
    assert json.loads(written) == texts["A license is free now"]
    assert body.count("</script>") == 1


def test_value_of_a_text_is_never_markup() -> None:
    evil = "<script>alert(1)</script>"
    language: Language = LANGUAGES.choose("de")
    body = PAGES.refuse(refusals()["forbidden"], replace(VIEWER, user=evil, accept_language="de")).body.decode()
    assert "<script>alert" not in body
    assert language.text("Reference %(reference)s.", reference="%(x)s") == "Referenznummer %(x)s."
