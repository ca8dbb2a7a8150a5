"""What a step's trajectories say: means over trajectories, not over turns."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from journeyman.trajectory import StopReason, Trajectory


def rollout_metrics(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Metrics by name; the reward's parts and the families' accuracies come with a `/part` behind the name."""
    scored = [t for t in trajectories if t.reward is not None]
    solved = [t for t in scored if t.correct]
    results = [r for t in trajectories for turn in t.turns for r in turn.results]
    parts: dict[str, list[float]] = defaultdict(list)
    for t in scored:
        parts["rollout/reward_mean"].append(t.reward or 0.0)
        parts["rollout/accuracy"].append(float(bool(t.correct)))
        parts[f"rollout/accuracy/{t.family}"].append(float(bool(t.correct)))
        for name, value in t.reward_parts.items():
            parts[f"rollout/reward_mean/{name}"].append(value)
    return {
        **{name: fmean(values) for name, values in parts.items()},
        "rollout/calls_per_problem": fmean(len(t.calls) for t in trajectories),
        "rollout/needless_calls_per_solved": fmean([t.needless_calls for t in solved]) if solved else 0.0,
        "rollout/length_tokens": fmean(len(t.token_ids) for t in trajectories),
        "rollout/format_error_fraction": fmean(t.stop_reason is StopReason.FORMAT_ERROR for t in trajectories),
        "rollout/tool_error_fraction": fmean([not r.ok for r in results]) if results else 0.0,
        "rollout/unscored": float(len(trajectories) - len(scored)),
    }
