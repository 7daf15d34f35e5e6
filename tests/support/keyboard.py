"""The elements of a page that the keyboard reaches, for tests that press Tab."""

from collections.abc import Mapping
from typing import Any

# The element with the focus: its name, whether the focus is visible, and its index in the document; null: none has it
FOCUS = """() => {
  const one = document.activeElement;
  if (!one || one === document.body || one === document.documentElement) return null;
  const look = getComputedStyle(one), box = one.getBoundingClientRect();
  const label = one.getAttribute("aria-label") || one.labels?.[0]?.querySelector("span")?.innerText;
  return {
    name: (label || one.innerText || one.name || one.tagName).trim(),
    visible: look.outlineStyle !== "none" && parseFloat(look.outlineWidth) >= 2 && box.width > 0 && box.height > 0,
    index: [...document.querySelectorAll("*")].indexOf(one),
  };
}"""


def is_after(focus: Mapping[str, Any], last: Mapping[str, Any]) -> bool:
    """Returns whether an element follows another in the document, as a reader goes through it."""
    return bool(focus["index"] > last["index"])
