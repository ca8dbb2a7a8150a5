"""Stage evaluate: every policy of the ladder on the held-out problems."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from journeyman.config.base import Config
from journeyman.config.limits import AttemptLimits

Share = Annotated[float, Field(ge=0, le=1)]


class BeamConfig(Config):
    """Beam search over turns (#209), by the likelihood of what the policy wrote."""

    width: int = Field(default=2, ge=1, description="Attempts that are kept after each turn")
    continuations: int = Field(default=2, ge=1, description="In how many ways each of them goes on")
    criterion: Literal["mean", "min", "last"] = Field(
        default="mean", description="Log-probability a token: of all turns, of the least likely turn, of the last one"
    )


class RefinementConfig(Config):
    """Self-refinement (#209): the policy sees its answer again and looks for an error."""

    rounds: int = Field(default=3, ge=1, description="At most; 3 in #209")


class StrategiesConfig(Config):
    """Strategies of inference held against each other at equal tokens: see `journeyman catalog --kind inference`."""

    score: Literal["likelihood", "confidence", "shortest"] = Field(
        default="likelihood",
        description="Of an attempt, for best-of-n and weighted votes: mean log-probability a token, the confidence "
        "that it states, or minus its tokens",
    )
    budgets: list[Annotated[int, Field(ge=1)]] = Field(
        default=[], description="Tokens a problem, on average; empty: what k samples take, for each k of `evaluate.k`"
    )
    beam: BeamConfig | None = Field(default=None, title="Beam", description="Empty: no search")
    refinement: RefinementConfig | None = Field(default=None, title="Refinement", description="Empty: none")


class NoiseConfig(Config):
    """Shares of calls that meet an error or a spoilt result."""

    failures: Share = Field(default=0.1, description="Fail without being made; trying again may help")
    timeouts: Share = Field(default=0.0, description="Are made, and their result is lost")
    empty: Share = Field(default=0.0, description="Give a result without a word in it")
    truncated: Share = Field(default=0.1, description="Give the first half of their result")
    wrong: Share = Field(default=0.0, description="Give other digits, or their words in another order")

    @field_validator("wrong")
    @classmethod
    def _fits(cls, wrong: float, info: ValidationInfo) -> float:
        if sum(info.data.values()) + wrong > 1 + 1e-9:
            raise ValueError("shares of calls add up to at most 1")
        return wrong


class RobustnessConfig(Config):
    """The held-out problems again under harder conditions, each held against the problems as they are."""

    samples: int = Field(default=1, ge=1, description="Attempts a problem under each condition")
    paraphrases: list[str] = Field(
        default=["Please help me with this. {question}", "{question} Think before you answer.", "Question: {question}"],
        description="Other ways to ask, with {question} in them; a problem's own `data.paraphrases` go before (#214)",
    )
    noise: NoiseConfig | None = Field(default=NoiseConfig(), title="Noise", description="Empty: none")
    attack: Share = Field(
        default=1.0,
        description="Share of results with a planted order behind them (#100), and in the control with as "
        "many words that ask for nothing; 0: neither",
    )
    renamed_tools: bool = Field(
        default=True, description="Tools under names that say nothing: only their descriptions do"
    )

    @field_validator("paraphrases")
    @classmethod
    def _ask(cls, paraphrases: list[str]) -> list[str]:
        if silent := [text for text in paraphrases if "{question}" not in text]:
            raise ValueError(f"each needs {{question}} in it; {silent[0]!r} has none")
        return paraphrases


class EvaluateConfig(AttemptLimits):
    samples: int = Field(default=4, ge=1, description="Samples a problem at temperature 1")
    k: list[Annotated[int, Field(ge=1)]] = Field(
        default=[1, 4],
        description="k of pass@k, pass^k, maj@k and CoT-pass@k; those above the samples are left out",
    )
    temperature: float = Field(default=1.0, gt=0)
    bootstrap: int = Field(default=1000, ge=100, description="Resamples of problems for the 95 % intervals")
    difficulty: str = Field(
        default="min_calls",
        pattern=r"^(min_calls|data\.[\w.]+)$",
        description="What the report's table by difficulty goes by: min_calls, or data.KEY of the problems",
    )
    strategies: StrategiesConfig | None = Field(
        default=None, title="Strategies", description="Strategies of inference at equal tokens; empty: not compared"
    )
    robustness: RobustnessConfig | None = Field(
        default=None, title="Robustness", description="Paraphrases, noise, planted orders, renamed tools; empty: none"
    )

    @model_validator(mode="after")
    def _can_be_searched(self) -> "EvaluateConfig":
        if self.program and self.strategies and self.strategies.beam:
            raise ValueError("strategies.beam: an agent from outside can't be forked; leave out beam, or program")
        return self
