"""Reading request targets: one reading, or a refusal."""

import pytest

from calgate.http.target import Parameters, read_target, refuse_windows_alias, to_origin_form, windows_alias
from calgate.plugin.errors import BadRequest


@pytest.mark.parametrize(
    ("raw", "path", "query"),
    [
        ("/", "/", ""),
        ("/docs/plan.pdf?page=1&x=%2F", "/docs/plan.pdf", "page=1&x=%2F"),
        ("/a%20b/%C3%A9", "/a b/é", ""),
        ("/a?b?c", "/a", "b?c"),
        ("/.well-known/x", "/.well-known/x", ""),
        ("/%E5%A3%B2%E4%B8%8A%E3%80%80%E8%A1%A8/a%C2%A0b", "/売上\u3000表/a\u00a0b", ""),
    ],
)
def test_target_is_split_and_its_path_decoded(raw: str, path: str, query: str) -> None:
    target = read_target(raw)
    assert (target.path, target.query) == (path, query)


@pytest.mark.parametrize(
    "raw",
    [
        *("/a%2fb", "/a%5Cb", "/a\\b", "//a", "/a//b", "/a/../b", "/a/./b", "/%2e%2e/b", "/a;b", "/a%3Bb"),
        *("/a%252fb", "/a%4", "/a%zz", "/a%00b", "/a%0Ab", "/a%E2%80%8Bb", "/a%E2%80%AEb", "/a%ff", "/a#b", "/a b"),
        *("/a?b#c", "/a?b c", "", "a"),
    ],
)
def test_target_that_servers_read_differently_is_refused(raw: str) -> None:
    with pytest.raises(BadRequest):
        read_target(raw)


def test_long_target_is_read_like_a_short_one() -> None:
    assert read_target("/" + "a" * 60_000 + "?b").query == "b"


ALIASES = (
    *("secret.pdf.", "secret.pdf...", "admin.", "secret.pdf ", "secret.pdf. ", "secret.pdf .", " ", "..."),
    *("secret.pdf::$DATA", "secret.pdf:a", "docs:$I30:$INDEX_ALLOCATION", "c:x", "pub?", "secre?.pdf", "secr*"),
    *('secret"pdf', "secr<", ">ecret.pdf", "a|b"),
    *("SECRET~1.PDF", "secret~1", "PL1A2B~1.QVW", "AB~1.HTM", "PLAN2~10.QVW", "~1.TXT", "A~1", "A~999999"),
    *("NUL", "con", "Aux.pdf", "nul.tar.gz", "com1.qvw", "LPT9", "COM\u00b2.txt", "con .pdf", "CONIN$"),
)


@pytest.mark.parametrize("name", ALIASES)
def test_path_is_refused_for_windows_where_a_name_opens_another_file(name: str) -> None:
    assert windows_alias(name)
    escaped = "".join(f"%{byte:02X}" for byte in name.encode())
    for raw in (f"/docs/{escaped}", f"/{escaped}/x", f"/docs/{escaped}?a=b"):
        with pytest.raises(BadRequest, match="Windows"):
            refuse_windows_alias(read_target(raw))


@pytest.mark.parametrize(
    "name",
    [
        *("secret.pdf", ".htaccess", "a.b.c", "Report~2 final.qvw", "Quarterly~2.qvw", "plan~2.xlsx", "~user", "a~b"),
        *("SECRET~1234567", "a b", "a&b", "a'b", "50$", "{x}", "a,b=c", "\u3000a", "(1).pdf", "SECRET~1.PDF.bak"),
        *("console", "com", "com10", "nullify.pdf", "a.con", "auxiliary", "lpt", "prn-list"),
    ],
)
def test_ordinary_name_is_no_windows_alias(name: str) -> None:
    assert windows_alias(name) == ""


def test_plain_and_escaped_spelling_of_an_alias_are_both_noticed() -> None:
    assert read_target("/docs/SECRET~1.PDF").windows_alias
    assert read_target("/docs/SECRET%7E1.PDF").windows_alias
    assert not read_target("/docs/secret.pdf?x=SECRET~1.PDF").windows_alias


@pytest.mark.parametrize(
    ("raw", "result"),
    [("/a", "/a"), ("http://g/a", "/a"), ("HTTPS://G/a?b", "/a?b"), ("http://g", "/"), ("http://g?b", "/?b")],
)
def test_absolute_form_of_this_host_becomes_a_path(raw: str, result: str) -> None:
    assert to_origin_form(raw, "g") == result


@pytest.mark.parametrize("raw", ["http://h/a", "g:80", "*", "ftp://g/a", "http://a@g/"])
def test_target_of_another_host_or_form_is_refused(raw: str) -> None:
    with pytest.raises(BadRequest):
        to_origin_form(raw, "g")


def test_parameters_have_names_in_any_case_and_one_value() -> None:
    parameters = Parameters("Name=a%20b&x=%u00e9&y")
    assert "name" in parameters
    assert parameters.one("name") == "a b"
    assert parameters.one("x") == "é"
    assert parameters.one("y") == ""
    assert parameters.one("z") is None
    assert not parameters.repeated


@pytest.mark.parametrize("query", ["a=1&A=2", "a=1&%61=2", "a=1+2", "a=%4", "a=%ff"])
def test_parameter_with_two_readings_is_refused(query: str) -> None:
    with pytest.raises(BadRequest):
        Parameters(query).one("a")
