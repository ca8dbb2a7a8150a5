"""Which model is trained."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from journeyman.config.base import Config


class ScratchModel(Config):
    """A small Qwen3 built from config, with a byte-level BPE tokenizer trained on the spot."""

    type: Literal["scratch"] = "scratch"
    hidden_size: int = Field(128, ge=16, title="Hidden size")
    layers: int = Field(4, ge=1)
    heads: int = Field(2, ge=1)
    kv_heads: int = Field(1, ge=1)
    head_dim: int = Field(64, ge=8)
    feed_forward: int = Field(384, ge=16, title="Feed-forward size")
    vocabulary: int = Field(2048, ge=300, description="Most tokens the tokenizer may have")
    max_length: int = Field(512, ge=64, description="Longest trajectory in tokens")


class PretrainedModel(Config):
    """A `transformers` causal LM with a chat template: a folder or a Hub name."""

    type: Literal["pretrained"] = "pretrained"
    path: str = Field(description="Folder or Hub name, such as Qwen/Qwen3-0.6B")
    revision: str | None = None
    max_length: int = Field(4096, ge=64, description="Longest trajectory in tokens")


def _kind(value: Any) -> str | None:
    get = value.get if isinstance(value, dict) else lambda key: getattr(value, key, None)
    return get("type") or ("pretrained" if get("path") else None)


ModelConfig = Annotated[
    Annotated[ScratchModel, Tag("scratch")] | Annotated[PretrainedModel, Tag("pretrained")], Discriminator(_kind)
]
