"""The data plane's README names tests and vectors: each must be there."""

import re
from pathlib import Path

from end_to_end.vectors import VECTORS

TESTS = Path(__file__).parents[2] / "end_to_end"
README = (Path(__file__).parents[3] / "gateway" / "calgate" / "http" / "README.md").read_text(encoding="utf-8")


def test_every_test_that_the_data_planes_readme_names_is_there() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", README)
    assert len(named) > 50
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (TESTS / file).read_text("utf-8")]
    assert missing == []


def test_every_vector_that_the_data_planes_readme_names_is_there() -> None:
    cells = re.findall(r"vectors? (\*.*?\*)(?= \||, `)", README)
    named = {name.replace("\\*", "*") for cell in cells for name in re.findall(r"\*((?:\\\*|[^*])+)\*", cell)} - {", "}
    assert len(named) > 50
    assert named <= {vector.name for vector in VECTORS}
