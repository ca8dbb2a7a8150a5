"""The one list of metric names: `area/name`, the unit in the name, the same in every stage."""

METRICS: dict[str, str] = {
    "loss/total": "Objective minimised, token mean over the whole batch",
    "loss/gradient_norm": "Gradient norm before clipping",
    "optimizer/learning_rate": "AdamW's rate at this step",
    "policy/entropy_nats": "Mean entropy of the learner's distribution on learned tokens",
    "policy/entropy_coefficient": "Coefficient of the entropy bonus, as the bounds have moved it",
    "policy/importance_ratio_mean": "Learner over sampler probability, mean over learned tokens",
    "policy/importance_ratio_max": "The same, largest",
    "policy/clip_fraction": "Share of learned tokens whose gradient the clip removes",
    "policy/truncated_fraction": "Share of learned tokens whose importance weight is truncated",
    "policy/rejected_fraction": "Share of learned tokens that are left out because sampler and learner differ too much",
    "policy/sampler_kl_nats": "Divergence of learner and sampler before the step's first update, a token",
    "policy/sampler_chi_square": "Chi-square of the learner against the sampler before that, over whole attempts",
    "policy/covariance_fraction": "Share of learned tokens that Clip-Cov or KL-Cov acts on",
    "policy/reference_kl_nats": "Divergence from the reference policy as the objective estimates it",
    "policy/self_reward_error": "Squared error of the policy's own reward, classes balanced (LaSeR)",
    "policy/implicit_accuracy": "Share of rows or pairs whose log-ratio says what the reward says",
    "policy/version": "Version of the weights that sampled",
    "critic/loss": "Squared error of the value heads before the step's first update",
    "process/loss": "Loss of the process reward model",
    "process/accuracy": "Share of rows or pairs that the process reward model orders as their rewards do",
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
    "proposals/tried": "Proposed problems that were attempted after the step",
    "proposals/accepted": "Those of them that were taken into the curriculum",
    "proposals/added": "Proposed problems in the curriculum after the step",
    "proposals/pass_rate_mean": "Mean pass rate of those that were attempted",
    "replay/kept": "Trajectories in the buffer after the step",
    "replay/replayed": "Trajectories that the step learned from again",
    "replay/age_mean": "Steps since those were sampled",
    "replay/seeds": "Demonstrations that the step learned from",
    "replay/solutions": "Groups of the step that a known solution joined",
    "replay/solutions_kept": "Known solutions after the step",
    "replay/selected_fraction": "Share of the step's scored trajectories that were compared",
    "replay/reward_determination": "R^2 of verdicts against rewards among those",
    "monitor/value": "What a monitor watches, by monitor",
    "monitor/warnings": "Steps so far that lay beyond a threshold, by monitor",
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
    "data/lessons": "Lessons that are finished",
    "data/lessons_per_s": "Lessons finished a second, by this try",
    "data/accepted_fraction": "Share of the attempts and texts made that were taken",
    "data/requests": "Answers of teachers and writers, kept ones included",
    "data/cached_fraction": "Share of them that were kept from earlier",
    "data/request_tokens": "Tokens that they read and wrote",
    "data/cost": "What they cost by the endpoint's prices",
}


AREAS_OF_A_STEP = ("loss", "optimizer", "policy", "critic", "process", "rollout", "proposals", "replay", "monitor")
"""Areas of what a step of rl has measured when it is asked whether it was the last one."""


def of_a_step(name: str) -> bool:
    """Whether an rl block can end by a metric."""
    return known(name) and name.partition("/")[0] in AREAS_OF_A_STEP


def known(name: str) -> bool:
    """Whether a metric may be logged: in the list, or a listed name with a `/part` behind it (a family, a rule)."""
    return name in METRICS or name.rsplit("/", 1)[0] in METRICS
