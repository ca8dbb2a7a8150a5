"""The one list of metric names: `area/name`, the unit in the name, the same in every stage."""

METRICS: dict[str, str] = {
    "loss/total": "Objective minimised, token mean over the whole batch",
    "loss/gradient_norm": "Gradient norm before clipping",
    "optimizer/learning_rate": "AdamW's rate at this step",
    "policy/entropy_nats": "Mean entropy of the learner's distribution on learned tokens",
    "policy/importance_ratio_mean": "Learner over sampler probability, mean over learned tokens",
    "policy/importance_ratio_max": "The same, largest",
    "policy/clip_fraction": "Share of learned tokens whose gradient the clip removes",
    "policy/truncated_fraction": "Share of learned tokens whose importance weight is truncated",
    "policy/version": "Version of the weights that sampled",
    "sync/logprob_difference_max": "Largest difference sampler against learner on the probe batch after a weight sync",
    "rollout/reward_mean": "Mean reward of the step's scored trajectories",
    "rollout/accuracy": "Share of the step's trajectories that are correct",
    "rollout/calls_per_problem": "Tool calls a trajectory",
    "rollout/needless_calls_per_solved": "Calls beyond the shortest course, a solved trajectory",
    "rollout/length_tokens": "Mean trajectory length",
    "rollout/format_error_fraction": "Share that ended in a format error",
    "rollout/tool_error_fraction": "Share of calls whose observation is an error",
    "rollout/stop_fraction": "Share that ended for a reason, by reason: whose fault it is stands in `StopReason`",
    "rollout/score_mean": "Mean of the world's graded verdict on the step's scored trajectories",
    "rollout/call_cost_per_problem": "What the calls of a trajectory cost",
    "rollout/call_seconds_mean": "Seconds a call took",
    "rollout/unscored": "Trajectories that could not be scored",
    "rollout/groups_used_fraction": "Share of groups with unequal rewards",
    "time/rollout_s": "Seconds sampling",
    "time/learn_s": "Seconds learning",
    "time/sync_s": "Seconds syncing weights",
    "time/stage_s": "Seconds the stage took",
    "throughput/sampled_tokens_per_s": "Tokens sampled a second",
    "throughput/learned_tokens_per_s": "Tokens learned from a second",
    "dev/accuracy_sampled": "Dev set, temperature 1",
    "dev/accuracy_greedy": "Dev set, greedy",
    "eval/accuracy_sampled": "Held-out problems, temperature 1",
    "eval/accuracy_greedy": "Held-out problems, greedy",
    "eval/tool_calls_per_problem": "Held-out problems, sampled",
    "eval/needless_calls_per_solved": "Held-out problems, sampled",
    "data/rows_in": "Rows read",
    "data/rows_kept": "Rows kept",
    "data/rows_dropped": "Rows dropped",
    "data/tokens": "Tokens in the kept rows",
}


def known(name: str) -> bool:
    """Whether a metric may be logged: in the list, or a listed name with a `/part` behind it (a family, a rule)."""
    return name in METRICS or name.rsplit("/", 1)[0] in METRICS
