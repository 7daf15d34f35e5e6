"""The plugin's section of the settings file."""

from pathlib import Path

from calgate.plugin import Section


class Config(Section):
    """`[users]`: users, groups and NT hashes in a file, for demonstrations and small sites."""

    file: Path
    """The users file. `calgate users add` creates it; only its owner may read it (mode 0600)."""
