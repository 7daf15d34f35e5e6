"""The settings file: TOML in, frozen sections out."""

from calgate.config.model import Core, Log, Route, Settings
from calgate.config.reader import parse, read

__all__ = ["Core", "Log", "Route", "Settings", "parse", "read"]
