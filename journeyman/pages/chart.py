"""Charts as inline SVG, whose colours come from the page's style, and as SVG files, which bring it along."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from journeyman.pages.style import CHART, COLOURS

WIDTH, HEIGHT = 520, 290
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 22, 54
LINE = 11
"""Characters in a line of a group's name."""
TICKS = 5
CHARACTER = 8
"""Width of a character of a bin's name, in the picture's units."""
NAMES, ROW = 128, 26
"""Width of the names beside a row chart, and of the figures behind it; height of a row."""


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
    return svg(title, HEIGHT, parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Counts on top of each other, or one behind the other, under one name."""

    name: str
    counts: tuple[tuple[str, int], ...]
    """(CSS class, count); the class is also what a pointer is told."""

    @property
    def total(self) -> int:
        return sum(count for _, count in self.counts)


def histogram(columns: Sequence[Stack], *, title: str) -> str:
    """Counts by bin, as an SVG picture; bins that stand too close go without their name."""
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    top = TICKS * rounded_up(max((column.total for column in columns), default=0) / TICKS, least=1)
    parts = [_axis(top, width, height, "", 1)]
    slot = width / max(1, len(columns))
    apart = -(-max((len(column.name) for column in columns), default=1) * CHARACTER // slot)
    for number, column in enumerate(columns):
        left, y = LEFT + slot * number, TOP + height
        for style, count in column.counts:
            y -= height * count / top
            place = f'x="{left + 1:.1f}" y="{y:.1f}" width="{slot - 2:.1f}" height="{height * count / top:.1f}"'
            parts.append(_block(style, place, f"{column.name}: {count:,} {style}"))
        if number % max(1, apart) == 0:
            name = f'x="{left + slot / 2:.1f}" y="{HEIGHT - BOTTOM + 18}"'
            parts.append(f'<text class="name" {name}>{escape(column.name)}</text>')
    return svg(title, HEIGHT, parts)


def row_chart(rows: Sequence[Stack], *, title: str) -> str:
    """Counts by name, a line each, as an SVG picture; all lines have one scale."""
    width = WIDTH - 2 * NAMES - RIGHT
    most = max((row.total for row in rows), default=0) or 1
    parts = []
    for number, row in enumerate(rows):
        x, y = float(NAMES), TOP + ROW * number
        parts.append(f'<text class="tick" x="{NAMES - 8}" y="{y + 13}">{escape(shortened(row.name))}</text>')
        for style, count in row.counts:
            place = f'x="{x:.1f}" y="{y}" width="{width * count / most:.1f}" height="{ROW - 8}"'
            parts.append(_block(style, place, f"{row.name}: {count:,} {style}"))
            x += width * count / most
        label = " / ".join(f"{count:,}" for _, count in row.counts)
        parts.append(f'<text class="beside" x="{x + 6:.1f}" y="{y + 13}">{label}</text>')
    return svg(title, TOP + ROW * len(rows), parts)


def svg_file(picture: str, *, title: str, styles: Sequence[str] = ()) -> str:
    """A picture as a file that any viewer shows, with its title and the meaning of its colours (CSS classes) in it."""
    head, rest = picture.split(">", 1)
    keys = "".join(f'<tspan dx="8" style="fill: var(--{style})">■</tspan> {style}' for style in styles)
    caption = f'<text class="beside" x="8" y="13">{escape(title)}{keys}</text>'
    style = f"<style>{COLOURS}{CHART}{_GROUND}</style>"
    return f'{head} xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}">{style}{caption}{rest}'


_GROUND = "svg { background: var(--card); font-family: system-ui, sans-serif; }"


def rounded_up(value: float, *, least: float = 0.1) -> float:
    """The next of 0.1, 0.2, 0.5, 1, 2, 5, ... so that the axis has plain figures; `least` is the first of them."""
    step = 0.1
    while True:
        for factor in (1, 2, 5):
            if max(value, least) <= step * factor:
                return step * factor
        step *= 10


def shortened(name: str, most: int = 18) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def compact(value: float) -> str:
    """A figure of an axis: 1.2M rather than 1.2e+06."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if letter == 'k' else size):.3g}{letter}"
    return f"{value:.4g}"


def _block(style: str, place: str, told: str) -> str:
    return f'<rect class="{style}" {place}><title>{escape(told)}</title></rect>'


def svg(title: str, height: float, parts: Sequence[str]) -> str:
    """The picture around its parts, as wide as all of them."""
    name = escape(title)
    start = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{name}"><title>{name}</title>'
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
        figure = f"{compact(top * scale * tick / TICKS)}{unit}"
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
