"""Plugins of strangers, installed into a folder for PYTHONPATH."""

from collections.abc import Mapping
from pathlib import Path


def install(site: Path, entries: Mapping[str, str], modules: Mapping[str, str]) -> Path:
    """Installs modules by name and code, and plugins by section and module; returns the folder."""
    info = site / "strangers-1.0.dist-info"
    info.mkdir(parents=True)
    for name, code in modules.items():
        (site / f"{name}.py").write_text(code, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1.0\n", encoding="utf-8")
    points = "".join(f"{section} = {module}\n" for section, module in entries.items())
    (info / "entry_points.txt").write_text(f"[calgate.plugins]\n{points}", encoding="utf-8")
    return site
