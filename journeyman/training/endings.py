"""When an rl block ends before its steps are done."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from journeyman.config.rl import EndsConfig


class Endings:
    """Counts what a block has spent and follows what it gains. Its state goes into the stage's checkpoints."""

    def __init__(self, config: EndsConfig) -> None:
        self._config = config
        self._tokens, self._seconds = 0, 0.0
        self._values: dict[str, list[float]] = {one.metric: [] for one in (config.target, config.plateau) if one}
        self.reason = ""
        """Why the last step was the last one; empty where it wasn't."""

    def look(self, metrics: Mapping[str, float], *, tokens: int, seconds: float) -> None:
        """Take note of a step: its metrics, and what it has cost."""
        self._tokens += tokens
        self._seconds += seconds
        for name, values in self._values.items():
            if name in metrics:
                values.append(metrics[name])
        self.reason = self.reason or self._spent() or self._reached() or self._still()

    def _spent(self) -> str:
        tokens, seconds = self._config.tokens, self._config.seconds
        if tokens is not None and self._tokens >= tokens:
            return f"{self._tokens} of {tokens} tokens are sampled"
        if seconds is not None and self._seconds >= seconds:
            return f"{self._seconds:.0f} of {seconds:g} seconds are over"
        return ""

    def _reached(self) -> str:
        target = self._config.target
        if target is None or len(values := self._values[target.metric][-target.steps :]) < target.steps:
            return ""
        mean = fmean(values)
        return f"{target.metric} is {mean:.4g}, above {target.above:g}" if mean > target.above else ""

    def _still(self) -> str:
        plateau = self._config.plateau
        if plateau is None or len(values := self._values[plateau.metric][-2 * plateau.steps :]) < 2 * plateau.steps:
            return ""
        gain = fmean(values[plateau.steps :]) - fmean(values[: plateau.steps])
        if gain > plateau.gain:
            return ""
        return f"{plateau.metric} gained {gain:.4g} in {plateau.steps} steps, not more than {plateau.gain:g}"

    def state_dict(self) -> dict[str, Any]:
        values = {name: list(found) for name, found in self._values.items()}
        return {"tokens": self._tokens, "seconds": self._seconds, "values": values, "reason": self.reason}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._tokens, self._seconds, self.reason = state["tokens"], state["seconds"], state["reason"]
        self._values = {name: list(state["values"][name]) for name in self._values}
