"""The figures as a picture: bars on a logarithmic scale, written as SVG by hand.

Text is text, so that it can be read and searched.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import floor, log10
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Bar", "Panel", "svg"]

_WIDTH: Final = 860
_LABELS: Final = 250
_RIGHT: Final = 110
_BAR: Final = 20
_STEP: Final = 28
_HEAD: Final = 46
_OURS: Final = "#0b6e4f"
_THEIRS: Final = "#9aa5b1"
_INK: Final = "#1f2933"
_GRID: Final = "#e4e7eb"
_PAPER: Final = "#ffffff"


@dataclass(frozen=True)
class Bar:
    """value: nanoseconds, above zero."""

    label: str
    value: float
    ours: bool = False


@dataclass(frozen=True)
class Panel:
    """Bars on one scale."""

    title: str
    bars: Sequence[Bar]


def svg(panels: Sequence[Panel], note: str) -> str:
    """A picture of all panels, one below the other; `note` stands at the foot."""
    parts: list[str] = []
    top = 16
    for panel in panels:
        parts.append(_panel(panel, top))
        top += _HEAD + _STEP * len(panel.bars) + 26
    height = top + 22
    parts.append(
        f'<text x="16" y="{height - 14}" font-size="11" fill="#616e7c">{escape(note)}</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}"'
        f' height="{height}" font-family="Helvetica, Arial, sans-serif" role="img">\n<title>Times'
        f' per check, less is better</title>\n<rect width="{_WIDTH}" height="{height}"'
        f' fill="{_PAPER}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(panel: Panel, top: int) -> str:
    values = [bar.value for bar in panel.bars]
    low, high = floor(log10(min(values))), log10(max(values))
    scale = (_WIDTH - _LABELS - _RIGHT) / max(high - low, 0.1)
    body = top + _HEAD
    bottom = body + _STEP * len(panel.bars)
    lines = [
        (
            f'<text x="16" y="{top + 14}" font-size="15" font-weight="bold"'
            f' fill="{_INK}">{escape(panel.title)}</text>'
        )
    ]
    for power in range(low, floor(high) + 1):
        x = _LABELS + (power - low) * scale
        lines.append(
            f'<line x1="{x:.1f}" y1="{body - 6}" x2="{x:.1f}" y2="{bottom}" stroke="{_GRID}"/>'
        )
        lines.append(
            f'<text x="{x:.1f}" y="{body - 10}" font-size="10" fill="#616e7c"'
            f' text-anchor="middle">{_time(10.0**power)}</text>'
        )
    for place, bar in enumerate(panel.bars):
        y = body + place * _STEP
        width = max(2.0, (log10(bar.value) - low) * scale)
        weight = "bold" if bar.ours else "normal"
        colour = _OURS if bar.ours else _THEIRS
        middle = y + _BAR - 6
        lines.append(
            f'<text x="{_LABELS - 10}" y="{middle}" font-size="12" font-weight="{weight}"'
            f' fill="{_INK}" text-anchor="end">{escape(bar.label)}</text>'
        )
        lines.append(
            f'<rect x="{_LABELS}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2"'
            f' fill="{colour}"/>'
        )
        lines.append(
            f'<text x="{_LABELS + width + 6:.1f}" y="{middle}" font-size="12"'
            f' fill="{_INK}">{_time(bar.value)}</text>'
        )
    return "\n".join(lines)


def _time(nanoseconds: float) -> str:
    if nanoseconds >= 1e6:
        return f"{nanoseconds / 1e6:.3g} ms"
    if nanoseconds >= 1e3:
        return f"{nanoseconds / 1e3:.3g} µs"
    return f"{nanoseconds:.3g} ns"
