"""The monitors of a stage: they look at each step, log what lies beyond a threshold, and pause or stop the stage."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.config.monitors import LEVELS, MonitorsConfig
from journeyman.monitors.attempts import (
    call_share,
    invented_results,
    length_of_wrong,
    repetition,
    reward_outcome_correlation,
    reward_without_outcome,
    tool_errors,
)
from journeyman.monitors.base import WINDOW, Monitor, Step
from journeyman.monitors.policy import (
    entropy_collapse,
    masked_share,
    sampler_chi_square,
    sampler_kl,
    staleness,
    truncated_share,
    zero_variance_groups,
)
from journeyman.trajectory import Trajectory

log = logging.getLogger(__name__)

MONITORS: dict[str, Monitor] = {
    "sampler_kl": sampler_kl,
    "sampler_chi_square": sampler_chi_square,
    "entropy_collapse": entropy_collapse,
    "zero_variance_groups": zero_variance_groups,
    "length_of_wrong": length_of_wrong,
    "repetition": repetition,
    "reward_without_outcome": reward_without_outcome,
    "reward_outcome_correlation": reward_outcome_correlation,
    "call_share": call_share,
    "tool_errors": tool_errors,
    "invented_results": invented_results,
    "masked_share": masked_share,
    "truncated_share": truncated_share,
    "staleness": staleness,
}


class Monitors:
    """A `journeyman.training.watch.Watch`: every monitor that has a threshold.

    A threshold counts as reached when `patience` steps in a row lie beyond it, those that say nothing left out. A step
    beyond `warn` is then counted, and logged where the step before was not. A pause comes when `pause` is reached from
    within: a run that goes on is not paused again before the value has been back.
    """

    def __init__(self, thresholds: MonitorsConfig) -> None:
        self._thresholds = {name: found for name in MONITORS if (found := getattr(thresholds, name)).watched}
        self._past: dict[str, list[list[float]]] = {name: [] for name in self._thresholds}
        self._recent: dict[str, list[str]] = {name: [] for name in self._thresholds}
        self._levels = dict.fromkeys(self._thresholds, "")
        self._warnings = dict.fromkeys(self._thresholds, 0)
        self._paused: list[str] = []
        self._stopped: list[str] = []

    @property
    def paused(self) -> str:
        return "; ".join(self._paused)

    @property
    def stopped(self) -> str:
        return "; ".join(self._stopped)

    def meet(self, supplies: Mapping[str, Any]) -> None:
        """What monitors may ask besides a step."""
        self._supplies = dict(supplies)

    def look(
        self, groups: Sequence[Sequence[Trajectory]], metrics: Mapping[str, float], *, step: int
    ) -> dict[str, float]:
        """The values, as `monitor/value/NAME`, and the steps so far beyond a threshold, as `monitor/warnings/NAME`."""
        self._paused = []
        shown = Step(groups=groups, metrics=metrics, version=step - 1)
        values = {name: value for name in self._thresholds if (value := self._read(name, shown)) is not None}
        for name, value in values.items():
            self._judge(name, value, step)
        return {
            **{f"monitor/value/{name}": value for name, value in values.items()},
            **{f"monitor/warnings/{name}": float(count) for name, count in self._warnings.items() if count},
        }

    def _read(self, name: str, step: Step) -> float | None:
        past = self._past[name]
        reading = MONITORS[name](step, past)
        if reading.noted:
            past.append(list(reading.noted))
            if len(past) > WINDOW:
                del past[1]  # the first stays
        return reading.value

    def _judge(self, name: str, value: float, step: int) -> None:
        thresholds, before = self._thresholds[name], self._levels[name]
        recent = self._recent[name] = [*self._recent[name], thresholds.level(value)][-thresholds.patience :]
        reached = min(recent, key=LEVELS.index) if len(recent) == thresholds.patience else ""
        level = self._levels[name] = reached
        if not level:
            return
        self._warnings[name] += 1
        why = f"{name} is {value:.4g} at step {step}, beyond its threshold `{level}: {getattr(thresholds, level):g}`"
        if level == "stop":
            self._stopped.append(why)
        if LEVELS.index(level) > LEVELS.index(before):
            log.warning("%s", why)
            if level == "pause":
                self._paused.append(why)

    def state_dict(self) -> dict[str, Any]:
        return {
            "past": {name: [list(noted) for noted in past] for name, past in self._past.items()},
            "recent": {name: list(recent) for name, recent in self._recent.items()},
            "levels": dict(self._levels),
            "warnings": dict(self._warnings),
            "stopped": list(self._stopped),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._past = {name: [list(noted) for noted in past] for name, past in state["past"].items()}
        self._recent = {name: list(recent) for name, recent in state["recent"].items()}
        self._levels, self._warnings = dict(state["levels"]), dict(state["warnings"])
        self._stopped = list(state["stopped"])
