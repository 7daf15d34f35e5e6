"""The data plane's README names tests and vectors: each must be there."""

import re
from pathlib import Path

from end_to_end.vectors import VECTORS

TESTS = Path(__file__).parents[2] / "end_to_end"
README = (Path(__file__).parents[3] / "gateway" / "calgate" / "http" / "README.md").read_text(encoding="utf-8")


def test_readme_names_only_tests_that_exist() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", README)
    assert len(named) > 50
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (TESTS / file).read_text("utf-8")]
    assert missing == []


def test_readme_names_only_vectors_that_exist() -> None:
    cells = re.findall(r"vectors? (\*.*?\*)(?= \||, `)", README)
    named = {name.replace("\\*", "*") for cell in cells for name in re.findall(r"\*((?:\\\*|[^*])+)\*", cell)} - {", "}
    assert len(named) > 50
    assert named <= {vector.name for vector in VECTORS}
