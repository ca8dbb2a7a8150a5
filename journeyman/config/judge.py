"""Who judges and who encodes for rewards that ask: the `judge` and `encoder` blocks of an rl stage."""

from typing import Annotated, Literal

from pydantic import Field

from journeyman.config.base import Config


class EndpointJudge(Config):
    """A model behind an OpenAI-compatible server."""

    type: Literal["endpoint"] = "endpoint"
    base_url: str = Field(description="Up to and including the version: http://localhost:8000/v1")
    model: str = Field(description="The server's name for it")
    key_variable: str = Field(default="OPENAI_API_KEY", description="Environment variable with the key; may be unset")
    concurrency: int = Field(default=16, ge=1, description="Most requests under way")
    max_tokens: int = Field(default=512, ge=1, description="Longest answer, in tokens")
    tries: int = Field(default=6, ge=1, description="Requests before it gives up")
    timeout_s: float = Field(default=120, gt=0)
    cache: str = Field(
        default="", description="Folder where answers are kept by content; empty: while the stage is unfinished"
    )


class SamplerJudge(Config):
    """The policy itself, as it is in that step."""

    type: Literal["sampler"] = "sampler"
    max_tokens: int = Field(default=128, ge=1, description="Longest answer, in tokens")


class ModelJudge(Config):
    """Another model, in this process."""

    type: Literal["model"] = "model"
    path: str = Field(description="Model folder in Hugging Face format")
    concurrency: int = Field(default=16, ge=1, description="Most requests under way")
    max_tokens: int = Field(default=128, ge=1, description="Longest answer, in tokens")
    max_length: int = Field(default=4096, ge=64, description="Most tokens of question and answer")
    cache: str = Field(
        default="", description="Folder where answers are kept by content; empty: while the stage is unfinished"
    )


class HashedEncoding(Config):
    """Character n-grams, hashed: needs no model."""

    type: Literal["hashed"] = "hashed"
    dimensions: int = Field(default=1024, ge=16)
    shortest: int = Field(default=3, ge=1, description="Characters of the shortest n-gram")
    longest: int = Field(default=5, ge=1, description="Characters of the longest n-gram")


class ModelEncoding(Config):
    """The mean of a model's last layer."""

    type: Literal["model"] = "model"
    path: str = Field(description="Model folder in Hugging Face format")


JudgeConfig = Annotated[EndpointJudge | SamplerJudge | ModelJudge, Field(discriminator="type")]
EncoderConfig = Annotated[HashedEncoding | ModelEncoding, Field(discriminator="type")]
