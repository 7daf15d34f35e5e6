"""The charset of a Content-Type header: one reading, or a refusal."""

import pytest

from calgate.dialect.content_type import charset_of
from calgate.plugin.errors import BadRequest


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        ("", ""),
        ("text/plain", ""),
        ("text/plain;charset=UTF-8", "utf-8"),
        ('text/xml ; CharSet="utf-8" ;', "utf-8"),
        ("text/xml; boundary=x; charset=us-ascii", "us-ascii"),
        ("text/xml; xcharset=utf-7", ""),
        ('text/xml; a="b\\"c"', ""),
    ],
)
def test_charset_is_the_parameter_of_that_name(content_type: str, charset: str) -> None:
    assert charset_of(content_type) == charset


def test_charset_is_not_taken_from_a_parameter_whose_name_ends_with_it() -> None:
    assert charset_of("text/xml; xcharset=utf-8; charset=utf-7") == "utf-7"


@pytest.mark.parametrize(
    "content_type",
    [
        "text/xml; charset=utf-8; charset=utf-7",
        "text/xml; charset=utf-8; Charset=utf-8",
        "text/xml; charset=",
        'text/xml; charset=""',
        'text/xml; a="; charset=utf-7"',
        'text/xml; a=" charset=utf-7"; charset=utf-8',
        "text/xml; charset =utf-7",
        "text/xml; charset= utf-7",
        "text/xml charset=utf-7",
        "text/xml, text/xml; charset=utf-7",
        'text/xml; charset="utf-7',
        "text/xml; c\u00ad\u00adharset=utf-7",
        "text",
        "; charset=utf-7",
    ],
)
def test_header_is_refused_when_the_net_framework_could_read_another_charset(content_type: str) -> None:
    with pytest.raises(BadRequest):
        charset_of(content_type)
