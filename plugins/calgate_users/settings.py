"""The plugin's section of the settings file."""

from pathlib import Path

from calgate.plugin import Section


class Config(Section):
    """`[users]`."""

    file: Path
