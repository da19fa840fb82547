"""A figure as SVG inside a page: small, without ids that clash, in the page's light or dark colours."""

from __future__ import annotations

import re
from html import escape

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from scaling.reporting.figures import style

_HEX = re.compile(r"#[0-9a-f]{6}\b")

#: Attributes that hold coordinates, of which two decimals of a point are kept.
_DRAWN = re.compile(r' (d|x|y|points|transform)="[^"]*"')
_DIGITS = re.compile(r"(\d+\.\d{2})\d+")


def inline_svg(figure: Figure, name: str, says: str) -> str:
    """The figure as an <svg> element that a screen reader reads as `says`."""
    text = style.encode(figure, "svg").decode()
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = _DRAWN.sub(lambda found: _DIGITS.sub(r"\1", found[0]), svg)
    svg = re.sub(r' (width|height)="[^"]*pt"', "", svg, count=2)
    svg = _HEX.sub(lambda found: _both(found[0]), svg)
    inches = figure.get_figwidth()
    # Least width on a phone, and a page of paper for a figure of many panels.
    width = f"max-width: {7.5 * inches:.3g}rem; --least: {4.6 * inches:.3g}rem"
    if figure.get_figheight() > 0.85 * inches:
        width += "; --paper-height: 16cm"
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(says)}" style="{width}"', 1).strip()


def _both(colour: str) -> str:
    """A colour of the light style as one that follows the page's theme."""
    for name in ("ink", "soft", "rule", "paper"):
        if colour == style.ink(name):
            return f"var(--{name})"
    if colour in style.SERIES["light"]:
        return f"light-dark({colour}, {style.SERIES['dark'][style.SERIES['light'].index(colour)]})"
    position = _ON_RAMP.get(_near(colour))
    if position is None:
        return colour
    with style.dark():
        return f"light-dark({colour}, {style.ramp(position)})"


def _near(colour: str) -> tuple[int, ...]:
    return tuple(round(63 * part) for part in to_rgb(colour))


_ON_RAMP = {_near(style.ramp(i / 400)): i / 400 for i in range(401)}
