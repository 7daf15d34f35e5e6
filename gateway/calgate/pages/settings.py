"""`[pages]`: templates, languages and contact."""

from pathlib import Path

from calgate.plugin.settings import Section


class PagesSection(Section):
    """`[pages]`: how the gateway's own pages look."""

    templates: Path | None = None
    """A folder with templates of your own; calgate's are used for the pages that have none there."""
    contact: str = ""
    """The contact shown where a license names none: an address or a sentence."""
    language: str = "en"
    """The language of readers whose browser asks for none that the pages have, such as "de"."""
    languages: Path | None = None
    """A folder with texts of your own, one file for each language, such as "fi.po": they add a language, or replace
    single texts of ours."""
