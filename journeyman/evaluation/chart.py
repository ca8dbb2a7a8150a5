"""Bar charts with intervals as inline SVG; colours come from the page's style."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 520, 290
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 22, 54
LINE = 11
"""Characters in a line of a group's name."""
TICKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar; nothing is drawn for a value that isn't there."""

    value: float | None
    interval: tuple[float, float] | None
    label: str
    """The value as text, above the bar."""
    style: str
    """CSS class of the bar."""
    title: str
    """What a pointer is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BarGroup:
    """Bars side by side over one name."""

    name: str
    bars: tuple[Bar, ...]


def bar_chart(groups: Sequence[BarGroup], *, title: str, top: float, unit: str = "", scale: float = 1) -> str:
    """An SVG picture. The axis goes from 0 to `top`; its figures are multiplied by `scale` and end with `unit`."""
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    parts = [_axis(top, width, height, unit, scale)]
    slot = width / max(1, len(groups))
    for number, group in enumerate(groups):
        left = LEFT + slot * number
        thickness = min(44.0, slot * 0.72 / max(1, len(group.bars)))
        start = left + slot / 2 - thickness * len(group.bars) / 2
        for place, bar in enumerate(group.bars):
            parts.append(_bar(bar, start + place * thickness, thickness, height, top))
        parts.append(_name(group.name, left + slot / 2))
    name = escape(title)
    start = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}"><title>{name}</title>'
    return f"{start}{''.join(parts)}</svg>"


def _name(name: str, x: float) -> str:
    """The name below its group, broken behind hyphens, so that six groups find room."""
    lines: list[str] = []
    for part in re.findall("[^-]*-|[^-]+", name):
        if lines and len(lines[-1] + part) <= LINE:
            lines[-1] += part
        else:
            lines.append(part)
    spans = "".join(f'<tspan x="{x:.1f}" dy="{16 * bool(n)}">{escape(line)}</tspan>' for n, line in enumerate(lines))
    return f'<text class="name" y="{HEIGHT - BOTTOM + 18}">{spans}</text>'


def _axis(top: float, width: float, height: float, unit: str, scale: float) -> str:
    parts = []
    for tick in range(TICKS + 1):
        y = TOP + height * (1 - tick / TICKS)
        figure = f"{top * scale * tick / TICKS:.3g}{unit}"
        style = "grid" if tick else "zero"
        parts.append(f'<line class="{style}" x1="{LEFT}" x2="{LEFT + width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}">{escape(figure)}</text>')
    return "".join(parts)


def _bar(bar: Bar, x: float, thickness: float, height: float, top: float) -> str:
    middle = x + thickness / 2

    def y(value: float) -> float:
        return TOP + height * (1 - min(max(value / top, 0), 1))

    if bar.value is None:
        return f'<text class="value" x="{middle:.1f}" y="{TOP + height - 4:.1f}">-</text>'
    parts = [
        f'<rect class="{bar.style}" x="{x + 1:.1f}" y="{y(bar.value):.1f}" width="{thickness - 2:.1f}" '
        f'height="{TOP + height - y(bar.value):.1f}" rx="2"/>'
    ]
    highest = y(bar.value)
    if bar.interval is not None:
        low, high = y(bar.interval[0]), y(bar.interval[1])
        highest = min(highest, high)
        ends = f"M{middle - 4:.1f} {high:.1f}h8M{middle - 4:.1f} {low:.1f}h8M{middle:.1f} {high:.1f}V{low:.1f}"
        parts.append(f'<path class="whisker" d="{ends}"/>')
    parts.append(f'<text class="value" x="{middle:.1f}" y="{highest - 5:.1f}">{escape(bar.label)}</text>')
    return f"<g><title>{escape(bar.title)}</title>{''.join(parts)}</g>"
