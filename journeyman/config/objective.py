"""What the learner minimises: a part of `journeyman.training.objectives`, chosen by `type`, with its own options."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from journeyman.config.base import Config, above_low, only_with

Band = tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=1)]]
"""Bounds of a probability ratio; 1 is always within."""


class BaseObjective(Config):
    """What every objective has: what it asks of the learner besides log-probabilities and advantages."""

    whole_groups: ClassVar[bool] = False
    """Whether it compares the rows of a group: a minibatch has to hold groups undivided."""
    full_reference: ClassVar[bool] = False
    """Whether it needs the reference policy's whole distributions."""

    @property
    def reference(self) -> bool:
        """Whether it needs the reference policy's log-probabilities."""
        return False

    @property
    def surveyed(self) -> bool:
        """Whether it couples rows: the learner then looks at the whole batch before its first gradient."""
        return False

    @property
    def anchor(self) -> float:
        """Coefficient of the squared distance from the weights that the learner began with."""
        return 0.0


class KlPenalty(Config):
    """Keeps the policy near the weights that the stage began with."""

    coefficient: float = Field(gt=0)
    estimator: Literal["k1", "k2", "k3", "k3+"] = Field(
        default="k3", description="`k3+`: the value of k3 with the gradient of k2"
    )
    weighted: bool = Field(
        default=False, description="Times pi / pi_old: the gradient is then unbiased off-policy, too (DeepSeek-V3.2)"
    )


class ChiSquarePenalty(Config):
    """Keeps whole sequences near the reference policy (#78)."""

    coefficient: float = Field(gt=0)
    cap: float = Field(default=10.0, gt=0, description="Largest log-ratio of a sequence that counts (ours)")


class ClipCovariance(Config):
    """Takes the gradient from some of the tokens whose log-probability and advantage move together the most."""

    type: Literal["clip"] = "clip"
    share: float = Field(default=2e-4, gt=0, le=1, description="Of the batch's learned tokens; 0.02 in #12")
    low: float = Field(default=1.0, description="Tokens between `low` and `high` are drawn from")
    high: float = Field(default=5.0, description="40 in #12")

    _ordered = field_validator("high")(above_low)


class KlCovariance(Config):
    """Holds those tokens near the old policy."""

    type: Literal["kl"] = "kl"
    share: float = Field(default=2e-3, gt=0, le=1, description="Of the batch's learned tokens, from the top")
    coefficient: float = Field(default=1.0, gt=0)


class EntropyBounds(Config):
    """Keeps the policy's entropy between two bounds, in nats a token: a bonus below, a penalty above (ours)."""

    low: float = Field(default=0.0, ge=0)
    high: float | None = Field(default=None, gt=0, validate_default=True, description="Empty: however much")
    gain: float = Field(default=0.01, gt=0, description="Coefficient for each nat beyond a bound")

    @field_validator("high")
    @classmethod
    def _above_low(cls, high: float | None, info: ValidationInfo) -> float | None:
        low = info.data.get("low", 0.0)
        if high is None and low == 0:
            raise ValueError("one bound is needed: `low` above 0, or `high`")
        if high is not None and high <= low:
            raise ValueError("should be above `low`")
        return high


class Rejection(Config):
    """What the sampler and the learner see too differently is not learned from."""

    token: Band | None = Field(default=None, description="Bounds of a token's pi_old / pi_sampler")
    sequence: Band | None = Field(default=None, description="Bounds of its geometric mean over a row")
    veto: float | None = Field(default=None, gt=0, lt=1, description="A token below it takes its whole row out")


class TokenMean(Config):
    """All learned tokens of the batch weigh the same (DAPO)."""

    type: Literal["tokens"] = "tokens"


class SequenceMean(Config):
    """The mean over a row's tokens, then over rows (GRPO as published)."""

    type: Literal["sequences"] = "sequences"


class ConstantLength(Config):
    """The sum over a row's tokens by a constant, then the mean over rows (Dr. GRPO)."""

    type: Literal["constant"] = "constant"
    length: int = Field(ge=1, description="The constant: the most tokens of an answer; 64 in #125")


class WeightedMean(Config):
    """The weighted mean over a row's tokens, then over rows (#71)."""

    type: Literal["weighted"] = "weighted"
    precision: float = Field(
        default=2.0, gt=0, description="Weight of tokens that write an argument's value, against 1; 2 in others' code"
    )


class PolicyGradient(BaseObjective):
    """The parts of the policy gradient."""

    clip_low: float = Field(default=0.2, gt=0)
    clip_high: float = Field(default=0.28, gt=0, description="Clip-higher (DAPO)")
    importance_cap: float = Field(default=2.0, gt=0, description="Truncation of learner-to-sampler importance weights")
    negative_scale: float = Field(
        default=0.2, ge=0, le=1, description="Factor on negative advantages; 0: only positive ones are learned from"
    )
    surrogate: Literal["clip", "cispo", "plain"] = Field(
        default="clip", description="`cispo`: the clipped ratio as a weight; `plain`: nothing is clipped"
    )
    dual_clip: float | None = Field(default=None, gt=1, description="Bound of the loss of a negative advantage")
    ratio: Literal["token", "turn", "sequence"] = Field(
        default="token", description="Over what pi / pi_old is a geometric mean"
    )
    ratio_gradient: Literal["mean", "token"] = Field(
        default="mean", description="`token`: each token has the whole ratio's gradient for itself (GSPO-token)"
    )
    normalisation: Annotated[TokenMean | SequenceMean | ConstantLength | WeightedMean, Field(discriminator="type")] = (
        Field(default_factory=TokenMean)
    )
    reject: Rejection | None = Field(default=None, title="Reject")
    overlong_filter: bool = Field(default=False, description="Rows that were cut off are not learned from")
    kl: KlPenalty | None = Field(default=None, title="Kl")
    chi_square: ChiSquarePenalty | None = Field(default=None, title="Chi Square")
    entropy: float = Field(default=0.0, ge=0, description="Coefficient of the entropy bonus")
    entropy_bounds: EntropyBounds | None = Field(
        default=None, title="Entropy Bounds", description="On top of `entropy`; empty: none"
    )
    covariance: Annotated[ClipCovariance | KlCovariance, Field(discriminator="type")] | None = None

    @field_validator("dual_clip")
    @classmethod
    def _clipped_only(cls, value: float | None, info: ValidationInfo) -> float | None:
        return only_with(cls, value, info, other="surrogate", is_in=("clip",))

    @field_validator("ratio_gradient")
    @classmethod
    def _of_a_mean(cls, value: str, info: ValidationInfo) -> str:
        return only_with(cls, value, info, other="ratio", is_in=("turn", "sequence"))

    @property
    def reference(self) -> bool:
        return self.kl is not None or self.chi_square is not None

    @property
    def surveyed(self) -> bool:
        return self.covariance is not None


class GrpoObjective(PolicyGradient):
    """Clipped policy gradient."""

    type: Literal["grpo"] = "grpo"


class R0Objective(PolicyGradient):
    """Rewards dominate; the policy is held by its weights and by what the base finds possible (#172)."""

    whole_groups: ClassVar[bool] = True

    type: Literal["r0"] = "r0"
    weight_anchor: float = Field(default=1e-4, ge=0, description="Of |theta - theta_0|^2 (ours)")
    validity: float = Field(default=0.1, ge=0, description="Of max(0, floor - mean log pi_0) (ours)")
    floor: float = Field(default=-5.0, description="Set it to the 5th percentile of the base's own samples")

    @property
    def reference(self) -> bool:
        return True

    @property
    def anchor(self) -> float:
        return self.weight_anchor


class LaserObjective(PolicyGradient):
    """Policy gradient, and the last token learns to tell the verifier's reward (#217)."""

    type: Literal["laser_self"] = "laser_self"
    beta: float = Field(default=0.1, gt=0)
    reference_logprob: float = Field(
        default=-23.0, description="Of the token, by the initial policy; -25 for OctoThinker"
    )
    token: int | None = Field(default=None, ge=0, description="Id of a token that no answer has; empty: padding")
    self_weight: float = Field(default=0.1, gt=0, description="Of the squared error")
    times_temperature: bool = Field(default=False, description="The log-probability is multiplied by it (their code)")


class NllObjective(BaseObjective):
    """Likelihood of rows with positive advantage."""

    type: Literal["nll"] = "nll"


class DistillObjective(BaseObjective):
    """Likelihood, and a divergence from the distributions of the reference: in sft a teacher, in rl the first policy."""

    full_reference: ClassVar[bool] = True

    type: Literal["distill"] = "distill"
    weight: float = Field(default=0.5, gt=0, le=1, description="Of the divergence; the likelihood has the rest")
    temperature: float = Field(default=1.0, gt=0, description="At which both distributions are compared")


class SuperHfObjective(BaseObjective):
    """Likelihood of the best rows, with a divergence from the initial policy (#154)."""

    full_reference: ClassVar[bool] = True

    type: Literal["superhf"] = "superhf"
    kl: float = Field(default=0.35, ge=0, description="Coefficient; 0.23 for LLaMA")
    kl_reduction: Literal["mean", "sum"] = Field(default="mean", description="Over rows; `sum` is their code")


class RoverObjective(BaseObjective):
    """Regression to the value of the uniform policy (#177)."""

    type: Literal["rover"] = "rover"


class FlowObjective(BaseObjective):
    """Traces in proportion to their exponentiated reward (#174)."""

    type: Literal["flow"] = "flow"
    beta: float = Field(default=5.0, gt=0, description="Inverse temperature of the rewards (ours)")
    rewards: Literal["outcome", "turns"] = Field(
        default="outcome", description="`turns`: what the credit put on a turn's tokens"
    )
    to_reference: bool = Field(default=False, description="In proportion to pi_ref times that")
    head_rate: float = Field(default=1e-3, gt=0, description="Learning rate of the head of flows (ours)")

    @property
    def reference(self) -> bool:
        return self.to_reference


class RowObjective(BaseObjective):
    """A loss of the rows' summed log-probabilities."""

    @property
    def surveyed(self) -> bool:
        return True


class PacsObjective(RowObjective):
    """The verdict is predicted from what a row gained on its group (#158)."""

    whole_groups: ClassVar[bool] = True

    type: Literal["pacs"] = "pacs"
    beta: float = Field(default=1.0, gt=0)


class ReferredObjective(RowObjective):
    """A loss of the rows' log-ratios to the reference policy."""

    @property
    def reference(self) -> bool:
        return True


class DpoObjective(ReferredObjective):
    """Pairs of a group, the better before the worse (arXiv 2305.18290)."""

    whole_groups: ClassVar[bool] = True

    type: Literal["dpo"] = "dpo"
    beta: float = Field(default=0.1, gt=0)
    average: bool = Field(default=False, description="Log-ratios by token instead of by row (Tulu 3, #186; beta 5)")


class IpoObjective(ReferredObjective):
    """Pairs of a group, a fixed margin apart (arXiv 2310.12036)."""

    whole_groups: ClassVar[bool] = True

    type: Literal["ipo"] = "ipo"
    beta: float = Field(default=0.1, gt=0)
    average: bool = Field(default=False, description="Log-ratios by token instead of by row (the authors' experiments)")


class KtoObjective(ReferredObjective):
    """Good and bad rows without pairs (arXiv 2402.01306)."""

    type: Literal["kto"] = "kto"
    beta: float = Field(default=0.1, gt=0)
    desirable: float = Field(default=1.0, gt=0, description="Weight of good rows")
    undesirable: float = Field(default=1.0, gt=0, description="Weight of bad rows")


class RegressionObjective(ReferredObjective):
    """The log-ratio to the last policy is regressed to the advantage (WebRL, #223)."""

    type: Literal["regression"] = "regression"
    beta: float = Field(default=1.0, gt=0)
    sure_beta: float = Field(
        default=5.0, gt=0, description="In its place where the last policy is sure of the row, or not of a bad one"
    )
    sure: tuple[float, float] = Field(
        default=(0.8, 0.9),
        description="Geometric mean probability from which a row of advantage 0 or more, and below which another one, "
        "has `sure_beta`",
    )
    positive_only: bool = Field(default=False, description="Rows of positive advantage alone (the authors' release)")


class ImplicitRewardObjective(ReferredObjective):
    """The log-ratio to the reference tells the verdict (#83, #49)."""

    type: Literal["implicit_reward"] = "implicit_reward"
    beta: float = Field(default=0.05, gt=0)


ObjectiveConfig = Annotated[
    GrpoObjective
    | NllObjective
    | DistillObjective
    | SuperHfObjective
    | PacsObjective
    | RoverObjective
    | FlowObjective
    | LaserObjective
    | R0Objective
    | DpoObjective
    | IpoObjective
    | KtoObjective
    | RegressionObjective
    | ImplicitRewardObjective,
    Field(discriminator="type"),
]
