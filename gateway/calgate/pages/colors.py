"""A site's own color: readable on the pages, in light and in dark. Contrast as WCAG 2.2 defines it (1.4.3)."""

import re

_ENOUGH = 4.5  # for text
_LIGHT_GROUND, _LIGHT_CARD, _DARK_CARD = (0xF3, 0xF4, 0xF1), (255, 255, 255), (0x1B, 0x22, 0x20)  # as in _style.css
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
Color = tuple[int, int, int]


def read_color(text: str) -> Color:
    """Reads a color such as "#0f6b5c". Raises ValueError if text in it would be hard to read."""
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ValueError(f'a color is written like "#0f6b5c", not {text!r}')
    color = (int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16))
    found = contrast(color, _LIGHT_GROUND)
    if found < _ENOUGH:
        raise ValueError(
            f"{text} has a contrast of {found:.1f} to the page, and text needs {_ENOUGH}; choose a darker color"
        )
    return color


def variables(text: str) -> tuple[str, str]:
    """Returns the style sheet's variables for the light and for the dark scheme."""
    color = read_color(text)
    bright = color
    while contrast(bright, _DARK_CARD) < _ENOUGH:
        bright = _mixed(bright, _WHITE, 0.1)
    return _written(color, _LIGHT_CARD, _WHITE), _written(bright, _DARK_CARD, _BLACK)


def contrast(one: Color, other: Color) -> float:
    """Returns the contrast of two colors, from 1 to 21."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _written(color: Color, card: Color, on_color: Color) -> str:
    tint = _mixed(card, color, 0.12)
    return f"--accent: {_hex(color)}; --on-accent: {_hex(on_color)}; --tint: {_hex(tint)}; --taken: {_hex(color)};"


def _luminance(color: Color) -> float:
    red, green, blue = (_linear(channel / 255) for channel in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)


def _mixed(one: Color, other: Color, share: float) -> Color:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
