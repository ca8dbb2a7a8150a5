"""Curves over steps as inline SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, isfinite, log10

from journeyman.pages.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, compact, svg

TICKS = 5
"""About so many on an axis."""
FOOT = 24
"""Height below the axis."""
Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve, in pieces with gaps between them."""

    name: str
    style: str
    """CSS class."""
    pieces: tuple[tuple[Point, ...], ...]
    """Each in the order of x. Points that are not finite are left out."""
    bands: tuple[tuple[tuple[float, float, float], ...], ...] = ()
    """(x, low, high), drawn pale behind the curve."""


def line_chart(lines: Sequence[Line], *, title: str, below: str = "step") -> str:
    """An SVG picture, the axes as long as the values need; `below` names the x axis. Empty without a point."""
    points = [point for line in lines for piece in line.pieces for point in piece if isfinite(point[1])]
    ends = [(x, y) for line in lines for band in line.bands for x, *ys in band for y in ys if isfinite(y)]
    if not points:
        return ""
    xs, ys = zip(*points, *ends, strict=True)
    frame = _Frame(across=_span(min(xs), max(xs)), up=_span(min(ys), max(ys)))
    parts = [frame.axes(below)]
    for line in lines:
        parts += [frame.band(band, line.style) for band in line.bands]
    for line in lines:
        drawn = "".join(frame.piece([p for p in piece if isfinite(p[1])], line.style) for piece in line.pieces)
        parts.append(f"<g><title>{escape(line.name)}</title>{drawn}</g>")
    return svg(title, HEIGHT - BOTTOM + 2 * FOOT, parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Where values lie in the picture."""

    across: tuple[float, float, float]
    """(low, high, step of the ticks) of x."""
    up: tuple[float, float, float]

    def x(self, value: float) -> float:
        low, high, _ = self.across
        return LEFT + (WIDTH - LEFT - RIGHT - 6) * (value - low) / (high - low)

    def y(self, value: float) -> float:
        low, high, _ = self.up
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low))

    def axes(self, below: str) -> str:
        parts, bottom = [], HEIGHT - BOTTOM
        for place, value in enumerate(_ticks(self.up)):
            y, style = self.y(value), "grid" if place else "zero"
            parts.append(f'<line class="{style}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}">{compact(value)}</text>')
        for value in _ticks(self.across):
            parts.append(f'<text class="below" x="{self.x(value):.1f}" y="{bottom + 18}">{compact(value)}</text>')
        middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
        parts.append(f'<text class="below" x="{middle:.1f}" y="{bottom + 36}">{escape(below)}</text>')
        return "".join(parts)

    def piece(self, points: Sequence[Point], style: str) -> str:
        places = [f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points]
        if len(places) == 1:
            x, y = places[0].split()
            return f'<circle class="{style}" cx="{x}" cy="{y}" r="3"/>'
        return f'<path class="curve {style}" d="M{"L".join(places)}"/>' if places else ""

    def band(self, band: Sequence[tuple[float, float, float]], style: str) -> str:
        there = [(x, low, high) for x, low, high in band if isfinite(low) and isfinite(high)]
        upper = [f"{self.x(x):.1f} {self.y(high):.1f}" for x, _, high in there]
        lower = [f"{self.x(x):.1f} {self.y(low):.1f}" for x, low, _ in reversed(there)]
        return f'<path class="band {style}" d="M{"L".join(upper + lower)}Z"/>' if there else ""


def _span(low: float, high: float) -> tuple[float, float, float]:
    """Ends of an axis that are plain figures, and the step between its ticks: 1, 2 or 5 times a power of ten."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    least = (high - low) / TICKS
    power = 10.0 ** floor(log10(least))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))
    return step * floor(low / step + 1e-9), -step * floor(-high / step + 1e-9), step


def _ticks(span: tuple[float, float, float]) -> list[float]:
    low, high, step = span
    return [low + step * place for place in range(round((high - low) / step) + 1)]
