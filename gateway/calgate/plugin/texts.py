"""Texts that users read on pages, in their own language."""


def mark(text: str) -> str:
    """Marks a text for translation, which happens where it is shown. Import it as `_` (`make messages` finds that)."""
    return text
