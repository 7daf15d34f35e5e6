"""`[pages]`: templates and contact."""

from pathlib import Path

from calgate.plugin.settings import Section


class PagesSection(Section):
    """`[pages]`: how the gateway's own pages look."""

    templates: Path | None = None
    """A folder with templates of your own; calgate's are used for the pages that have none there."""
    contact: str = ""
    """The contact shown where a license names none: an address or a sentence."""
