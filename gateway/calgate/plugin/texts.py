"""Texts that users read on pages, in their own language; and cells that administrators open in a spreadsheet."""

import re

# OWASP, "CSV Injection"; a spreadsheet in German divides cells at semicolons, and one in Japanese reads wide characters
_FORMULA = re.compile(r"(^|[;\t\r\n])(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20])")


def mark(text: str) -> str:
    """Marks a text for translation, which happens where it is shown. Import it as `_` (`make messages` finds that)."""
    return text


def spreadsheet_cell(value: object) -> object:
    """Returns a cell that no spreadsheet runs as a formula: users choose names of documents."""
    return _FORMULA.sub(r"\1'", value) if isinstance(value, str) else value
