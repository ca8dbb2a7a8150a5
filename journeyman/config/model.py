"""Which model is trained."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from journeyman.config.base import Config
from journeyman.config.checks import HubOrLocal, expand_home


class ScratchModel(Config):
    """A small Qwen3 built from config, with a byte-level BPE tokenizer trained on the spot."""

    type: Literal["scratch"] = "scratch"
    hidden_size: int = Field(default=128, ge=16, title="Hidden size")
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=2, ge=1)
    kv_heads: int = Field(default=1, ge=1)
    head_dim: int = Field(default=64, ge=8)
    feed_forward: int = Field(default=384, ge=16, title="Feed-forward size")
    vocabulary: int = Field(default=2048, ge=300, description="Most tokens the tokenizer may have")
    max_length: int = Field(default=512, ge=64, description="Longest trajectory in tokens")

    @field_validator("kv_heads")
    @classmethod
    def _heads_share_evenly(cls, kv_heads: int, info: ValidationInfo) -> int:
        heads = info.data.get("heads", kv_heads)
        if heads % kv_heads:
            raise ValueError(f"should divide the {heads} heads, is {kv_heads}")
        return kv_heads

    @field_validator("head_dim")
    @classmethod
    def _rotates_pairs(cls, head_dim: int) -> int:
        if head_dim % 2:
            raise ValueError(f"should be even, is {head_dim}")
        return head_dim


class PretrainedModel(Config):
    """A `transformers` causal LM with a chat template: a folder or a Hub name."""

    type: Literal["pretrained"] = "pretrained"
    path: Annotated[str, HubOrLocal(folder=True)] = Field(description="Folder or Hub name, such as Qwen/Qwen3-0.6B")
    revision: str | None = Field(default=None, description="Branch, tag or commit on the Hub")
    calls: Literal["auto", "hermes", "llama", "pythonic", "toolrl", "xml"] = Field(
        default="auto", description="How it writes tool calls; auto: as its chat template has it"
    )
    max_length: int = Field(default=4096, ge=64, description="Longest trajectory in tokens")

    _home = field_validator("path")(expand_home)


def _kind(value: Any) -> str | None:
    get = value.get if isinstance(value, dict) else lambda key: getattr(value, key, None)
    return get("type") or ("pretrained" if get("path") else None)


ModelConfig = Annotated[
    Annotated[ScratchModel, Tag("scratch")] | Annotated[PretrainedModel, Tag("pretrained")], Discriminator(_kind)
]
