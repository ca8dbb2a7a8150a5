"""What a step's trajectories say: means over trajectories, not over turns."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import fmean

from journeyman.trajectory import StopReason, Trajectory


def rollout_metrics(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Metrics by name; the reward's parts and the families' accuracies come with a `/part` behind the name."""
    scored = [t for t in trajectories if t.reward is not None]
    solved = [t for t in scored if t.correct]
    results = [r for t in trajectories for turn in t.turns for r in turn.results]
    reasons = Counter(t.stop_reason for t in trajectories)
    parts: dict[str, list[float]] = defaultdict(list)
    for t in scored:
        parts["rollout/reward_mean"].append(t.reward or 0.0)
        parts["rollout/accuracy"].append(float(bool(t.correct)))
        parts[f"rollout/accuracy/{t.family}"].append(float(bool(t.correct)))
        if t.score is not None:
            parts["rollout/score_mean"].append(t.score)
        for name, value in t.reward_parts.items():
            parts[f"rollout/reward_mean/{name}"].append(value)
    return {
        **{name: fmean(values) for name, values in parts.items()},
        "rollout/calls_per_problem": fmean(len(t.calls) for t in trajectories),
        "rollout/needless_calls_per_solved": fmean([t.needless_calls for t in solved]) if solved else 0.0,
        "rollout/length_tokens": fmean(len(t.token_ids) for t in trajectories),
        "rollout/format_error_fraction": fmean(t.stop_reason is StopReason.FORMAT_ERROR for t in trajectories),
        "rollout/tool_error_fraction": fmean([not r.ok for r in results]) if results else 0.0,
        "rollout/call_cost_per_problem": fmean(
            sum(r.cost for turn in t.turns for r in turn.results) for t in trajectories
        ),
        "rollout/call_seconds_mean": fmean([r.seconds for r in results]) if results else 0.0,
        **{f"rollout/stop_fraction/{reason}": count / len(trajectories) for reason, count in reasons.items()},
        "rollout/unscored": float(len(trajectories) - len(scored)),
    }
