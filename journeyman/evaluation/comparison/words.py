"""Figures and verdicts of a comparison in plain words."""

from dataclasses import dataclass

from journeyman.evaluation.comparison.compare import Cell, Column
from journeyman.evaluation.statistics import Estimate

ABSENT = "–"
SURE = 0.05
"""Of the corrected p."""
LABELS = {
    "accuracy_sampled": "accuracy, sampled",
    "greedy": "accuracy, greedy",
    "needless_calls_per_solved": "needless calls a solved problem",
    "calls_per_attempt": "calls an attempt",
    "tokens_per_attempt": "tokens an attempt",
    "call_cost_per_attempt": "cost of calls an attempt",
    "call_seconds_per_attempt": "seconds in calls an attempt",
    "productivity": "right answers a call",
    "call_error_rate": "share of calls that fail",
    "invalid_call_rate": "share of calls that are invalid",
    "recovery_rate": "share right after a failed call",
    "abstention_rate": "share that abstains",
    "brier": "Brier score",
    "ece": "ECE",
}
HIGHER_IS_BETTER = ("accuracy", "greedy", "pass", "maj@", "cot_pass@", "productivity", "recovery")
LOWER_IS_BETTER = ("needless", "tokens", "call_cost", "call_seconds", "call_error", "invalid", "brier", "ece")
HEADLINES = ("accuracy_sampled", "greedy", "needless_calls_per_solved", "calls_per_attempt", "tokens_per_attempt")


def headlines(column: Column) -> list[str]:
    """The measures that a verdict is given on: of pass@k and pass^k the largest k."""
    chances = {name[:5]: name for name in column.cells if name[:5] in ("pass@", "pass^")}
    wanted = [*HEADLINES[:2], *chances.values(), *HEADLINES[2:]]
    return [name for name in wanted if name in column.cells and not name.endswith(("@1", "^1"))]


def label(name: str) -> str:
    return LABELS.get(name, name.replace("_", " "))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a measure has changed."""

    size: str
    """The difference, with its sign."""
    style: str
    """CSS class: better, worse, none, or empty where neither is better."""
    text: str


def verdict(name: str, cell: Cell) -> Verdict:
    """What a difference says."""
    paired = cell.found.paired
    if paired is None or cell.p is None:
        return Verdict(size=ABSENT, style="none", text="nothing to compare: no problem that both have a value on")
    if unchanged(paired):
        return Verdict(size="0", style="none", text="the same on every problem")
    size, around = signed(paired.value), f"[{signed(paired.low)}, {signed(paired.high)}], {p_value(cell.p)}"
    agreeing, seeds = cell.agreeing or (0, 0)
    if cell.p >= SURE:
        return Verdict(size=size, style="none", text=f"no difference that the data can show: {size} {around}")
    way = "higher" if paired.value > 0 else "lower"
    told = f"{way} by {number(abs(paired.value))} {around}"
    if agreeing < seeds:
        return Verdict(size=size, style="none", text=f"{told}, but on {agreeing} of {seeds} seeds only: not settled")
    on = f", on {agreeing} of {seeds} seeds" if seeds else ""
    return Verdict(size=size, style=_style(name, paired.value), text=told + on)


def unchanged(paired: Estimate) -> bool:
    """Whether there is no difference on any problem."""
    return paired.low == paired.value == paired.high == 0


def _style(name: str, difference: float) -> str:
    if name.startswith(HIGHER_IS_BETTER):
        return "better" if difference > 0 else "worse"
    if name.startswith(LOWER_IS_BETTER):
        return "better" if difference < 0 else "worse"
    return ""


def number(value: float) -> str:
    """Three decimals below 10, fewer above."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def signed(value: float) -> str:
    shown = number(abs(value))
    return shown if not float(shown.replace(",", "")) else f"{'+' if value > 0 else '−'}{shown}"


def with_interval(found: Estimate) -> str:
    return f"{number(found.value)} [{number(found.low)}, {number(found.high)}]"


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def duration(seconds: float) -> str:
    """1 h 02 min, 3 min 20 s, 12 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, part = divmod(minutes, 60)
    if hours:
        return f"{hours} h {part:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
