"""`[pages]`."""

from pathlib import Path

from calgate.plugin.settings import Section


class PagesSection(Section):
    """`[pages]`: how the gateway's own pages look."""

    templates: Path | None = None  # a folder; a template that is not in it is ours
    contact: str = ""  # whom to ask where a license names nobody: an address or a sentence
