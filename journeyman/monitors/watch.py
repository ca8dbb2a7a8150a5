"""The monitors of a stage: they look at each step, log what lies beyond a threshold, and pause or stop the stage."""

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from journeyman.config.monitors import LEVELS, MonitorsConfig
from journeyman.errors import InfrastructureError
from journeyman.monitors.artefacts import artefacts
from journeyman.monitors.asking import judge_false_positives, reward_hacks, style_drift
from journeyman.monitors.attempts import (
    call_share,
    invented_results,
    length_collapse,
    length_of_wrong,
    repetition,
    reward_outcome_correlation,
    reward_without_outcome,
    tool_errors,
    turn_weighting,
)
from journeyman.monitors.base import WINDOW, Monitor, Numbers, Step, verdict
from journeyman.monitors.cliff import flip_rate, tied_best
from journeyman.monitors.policy import (
    entropy_collapse,
    masked_share,
    sampler_chi_square,
    sampler_kl,
    staleness,
    truncated_share,
    zero_variance_groups,
)
from journeyman.monitors.proxy import over_optimisation, reward_distance, reward_hacking
from journeyman.monitors.reference import log_ratios, reference_chi_square, reference_kl
from journeyman.trajectory import Trajectory

log = logging.getLogger(__name__)

VERDICT = "correct"
"""The gold reward that nothing has to be scored again for."""

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
    "length_collapse": length_collapse,
    "turn_weighting": turn_weighting,
    "reward_distance": reward_distance,
    "reward_hacking": reward_hacking,
    "tied_best": tied_best,
    "flip_rate": flip_rate,
    "artefacts": artefacts,
    "reference_kl": reference_kl,
    "reference_chi_square": reference_chi_square,
    "over_optimisation": over_optimisation,
    "judge_false_positives": judge_false_positives,
    "style_drift": style_drift,
    "reward_hacks": reward_hacks,
}


class Monitors:
    """A `journeyman.training.watch.Watch`: every monitor that has a threshold, each at every so many steps.

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
        self._gold, self._supplies = thresholds.gold, dict[str, Any]()

    @property
    def paused(self) -> str:
        return "; ".join(self._paused)

    @property
    def stopped(self) -> str:
        return "; ".join(self._stopped)

    @property
    def warnings(self) -> dict[str, int]:
        return {name: count for name, count in self._warnings.items() if count}

    def meet(self, supplies: Mapping[str, Any]) -> None:
        """What monitors may ask besides a step: the keys of `Watch.meet`, and `writer`, a Judge that is the policy.

        Raises what building the gold reward raises, where the block has not what it needs.
        """
        self._supplies = dict(supplies)
        if self._gold != VERDICT:
            self._supplies["reward"]((), (), self._gold)

    def look(
        self, groups: Sequence[Sequence[Trajectory]], metrics: Mapping[str, float], *, step: int
    ) -> dict[str, float]:
        """The values, as `monitor/value/NAME`, and the steps so far beyond a threshold, as `monitor/warnings/NAME`."""
        self._paused = []
        shown = self._shown(groups, metrics, step)
        due = [name for name, thresholds in self._thresholds.items() if (step - 1) % thresholds.every == 0]
        values = {name: value for name in due if (value := self._read(name, shown)) is not None}
        for name, value in values.items():
            self._judge(name, value, step)
        return {
            **{f"monitor/value/{name}": value for name, value in values.items()},
            **{f"monitor/warnings/{name}": float(count) for name, count in self.warnings.items()},
        }

    def _shown(self, groups: Sequence[Sequence[Trajectory]], metrics: Mapping[str, float], step: int) -> Step:
        """With what costs something to have: had when first asked for, once a step."""
        learner = self._supplies.get("learner")
        sampled = [t for group in groups for t in group]
        return Step(
            groups=groups,
            metrics=metrics,
            version=step - 1,
            gold=cache(lambda: self._golden(groups)),
            log_ratios=cache(lambda: log_ratios(learner, sampled)) if learner else None,
            judge=self._supplies.get("judge"),
            writer=self._supplies.get("writer"),
        )

    def _golden(self, groups: Sequence[Sequence[Trajectory]]) -> Numbers:
        """The gold reward of the attempts; of problems that the block did not begin with it is not known."""
        if self._gold == VERDICT:
            return [[verdict(t) for t in group] for group in groups]
        problems = {problem.id: problem for problem in self._supplies["problems"]}
        known = [i for i, group in enumerate(groups) if group and group[0].problem_id in problems]
        scored = self._supplies["reward"](
            [groups[i] for i in known], [problems[groups[i][0].problem_id] for i in known], self._gold
        )
        found = dict(zip(known, scored, strict=True))
        return [[t.reward for t in found[i]] if i in found else [None] * len(group) for i, group in enumerate(groups)]

    def _read(self, name: str, step: Step) -> float | None:
        past = self._past[name]
        try:
            reading = MONITORS[name](step, past)
        except InfrastructureError as error:  # who watches doesn't end what is watched
            log.warning("%s could not look: %s", name, error)
            return None
        if reading.noted:
            past.append(list(reading.noted))
            if len(past) > WINDOW and not reading.kept:
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
