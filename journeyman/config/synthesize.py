"""Stage synthesize: who teaches, how what it does becomes cold-start trajectories, and what that may cost."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from journeyman.config.base import Config
from journeyman.config.checks import Expressed, HubOrLocal, expand_home


class ScriptedTeacherConfig(Config):
    """An imperfect expert that knows each family's courses and its typical mistakes; unverified, as real logs are."""

    type: Literal["scripted"] = "scripted"
    mistakes: float = Field(default=0.5, ge=0, le=1, description="Share with one typical mistake")
    repeats: float = Field(default=0.5, ge=0, le=1, description="Share of the others that repeat a call needlessly")
    broken: float = Field(
        default=0.04, ge=0, le=1, description="Share with broken format, tool errors, duplicates or leaks"
    )


class AnnotationsTeacherConfig(Config):
    """The worked solutions of a data set's rows, or a family's gold courses: every call is really run."""

    type: Literal["annotations"] = "annotations"


class _Asked(Config):
    """What all models that are asked have in common."""

    temperature: float = Field(
        default=1.0, ge=0, description="Of attempts; where a strategy names one of its own, the two are multiplied"
    )
    max_turns: int = Field(default=8, ge=1, description="Longest attempt, in turns")
    max_tokens: int = Field(default=512, ge=1, description="Longest turn or text, in tokens")


class EndpointTeacherConfig(_Asked):
    """A model behind an OpenAI-compatible server."""

    type: Literal["endpoint"] = "endpoint"
    base_url: str = Field(description="Up to and including the version: http://localhost:8000/v1")
    model: str = Field(description="The server's name for it")
    key_variable: str = Field(default="OPENAI_API_KEY", description="Environment variable with the key; may be unset")
    timeout_s: float = Field(default=120, gt=0)
    tries: int = Field(default=6, ge=1, description="Requests before it gives up")
    price_per_million_input_tokens: float = Field(default=0, ge=0, description="In any currency; the budget's unit")
    price_per_million_output_tokens: float = Field(default=0, ge=0)


class ModelTeacherConfig(_Asked):
    """Another model, sampled by the stage's own samplers (by one in this process where it only writes)."""

    type: Literal["model"] = "model"
    path: Annotated[str, HubOrLocal(folder=True)] = Field(description="Folder or Hub name of the model")
    max_length: int = Field(default=4096, ge=64, description="Longest attempt in tokens")

    _home = field_validator("path")(expand_home)


class PolicyTeacherConfig(_Asked):
    """The pipeline's own pretrained model, before any training."""

    type: Literal["policy"] = "policy"
    path: str = Field(default="", description="Model folder in its place: a policy that was trained before")

    _home = field_validator("path")(expand_home)


TeacherConfig = Annotated[
    ScriptedTeacherConfig | AnnotationsTeacherConfig | EndpointTeacherConfig | ModelTeacherConfig | PolicyTeacherConfig,
    Field(discriminator="type"),
]
WriterConfig = Annotated[EndpointTeacherConfig | ModelTeacherConfig, Field(discriminator="type")]


class BudgetConfig(Config):
    """What a stage may spend in all, reruns of it included. Requests that are under way come on top."""

    requests: int | None = Field(default=None, ge=1, description="Requests that were answered; empty: no limit")
    tokens: int | None = Field(default=None, ge=1, description="Tokens, read and written; empty: no limit")
    cost: float | None = Field(default=None, gt=0, description="By the endpoint's prices; empty: no limit")


class SynthesizeConfig(Config):
    teacher: TeacherConfig = Field(
        default_factory=ScriptedTeacherConfig,
        description="Who makes the attempts; a word is short for a block with that type",
    )
    writer: WriterConfig | None = Field(
        default=None, description="The model that writes texts for strategies; empty: the teacher, where it can write"
    )
    strategies: list[Annotated[str, Expressed("journeyman.synthesis.strategies:VOCABULARY")]] = Field(
        default=["plain"],
        min_length=1,
        description="How attempts become demonstrations, one after another: `rejection(tries=4)`",
    )
    demonstrations: int = Field(default=2400, ge=1, description="Problems to demonstrate (rows to take, at most)")
    budget: BudgetConfig = BudgetConfig()
    concurrency: int = Field(default=16, ge=1, description="Most requests under way, and lessons worked on at once")
    requests_per_minute: float | None = Field(default=None, gt=0, description="Most requests; empty: no limit")
    cache: str = Field(
        default="",
        description="Folder where answers are kept by content; empty: `synthesis-cache` beside the artifacts",
    )

    @field_validator("teacher", mode="before")
    @classmethod
    def _a_word_is_a_type(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value
