"""Monitors of the policy: entropy, distance from the sampler, what of a step is learned from."""

from journeyman.monitors.base import Past, Reading, Step, of_first
from journeyman.trajectory import StopReason


def sampler_kl(step: Step, past: Past) -> Reading:
    """Divergence of the learner from the sampler before it learns, in nats a token.

    Not covered: blocks with `recompute_logprobs` off, where the learner's values are not known.
    """
    return Reading(value=step.metrics.get("policy/sampler_kl_nats"))


def sampler_chi_square(step: Step, past: Past) -> Reading:
    """Chi-square of the learner against the sampler over whole attempts, which bounds how far a proxy misleads (#78, derived).

    The paper takes it against the reference policy; the policy that sampled is ours, as it is known at every step.
    """
    return Reading(value=step.metrics.get("policy/sampler_chi_square"))


def entropy_collapse(step: Step, past: Past) -> Reading:
    """Entropy of the learned tokens' distributions, as a share of that at the first step."""
    entropy = step.metrics.get("policy/entropy_nats")
    return Reading() if entropy is None else of_first(entropy, past)


def zero_variance_groups(step: Step, past: Past) -> Reading:
    """Share of the groups whose rewards are all equal: a comparison within the group learns nothing from them.

    Groups with fewer than two scored attempts are left out.
    """
    rewards = [[t.reward for t in group if t.reward is not None] for group in step.groups]
    compared = [group for group in rewards if len(group) > 1]
    return Reading(value=sum(min(group) == max(group) for group in compared) / len(compared) if compared else None)


def masked_share(step: Step, past: Past) -> Reading:
    """Share of learned tokens that the objective leaves out because sampler and learner differ too much."""
    return Reading(value=step.metrics.get("policy/rejected_fraction"))


def truncated_share(step: Step, past: Past) -> Reading:
    """Share of the attempts that ran into a limit of tokens."""
    reasons = [t.stop_reason is StopReason.MAX_TOKENS for t in step.trajectories]
    return Reading(value=sum(reasons) / len(reasons) if reasons else None)


def staleness(step: Step, past: Past) -> Reading:
    """Versions that the weights are ahead of the oldest ones that sampled a token of the step; replay is left out."""
    behind = [step.version - t.policy_version for t in step.trajectories if any(t.loss_mask)]
    return Reading(value=float(max(behind)) if behind else None)
