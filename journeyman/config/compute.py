"""Where and how the heavy steps run: Ray, devices, the sampler's engine."""

from typing import Annotated, Literal

from pydantic import Field

from journeyman.config.base import Config


class TorchSampler(Config):
    """Batched decoding in process, with a static KV cache and continuous admission."""

    type: Literal["torch"] = "torch"
    slots: int = Field(default=128, ge=1, description="Rows decoded at once")


class VllmSampler(Config):
    """vLLM in an environment of its own (`make vllm`); the driver never imports it."""

    type: Literal["vllm"] = "vllm"
    python: str = Field(default=".venv-vllm/bin/python", description="Interpreter of the vLLM environment")
    gpu_memory_utilization: float = Field(default=0.5, gt=0, le=1)
    tensor_parallel: int = Field(default=1, ge=1)
    enforce_eager: bool = True


SamplerConfig = Annotated[TorchSampler | VllmSampler, Field(discriminator="type")]


class ComputeConfig(Config):
    """Resources. On a cluster, set `address` and the counts; nothing else changes."""

    address: str | None = Field(default=None, description="Ray cluster to join; empty: what is up, else a local one")
    samplers: int = Field(default=1, ge=1, description="Sampler actors")
    sampler_cpus: float = Field(default=1, ge=0)
    sampler_gpus: float = Field(default=0, ge=0)
    learner_cpus: float = Field(default=1, ge=0)
    learner_gpus: float = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1, description="CPU threads of each actor")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Arithmetic of the learner; auto is bfloat16 where the hardware multiplies it natively",
    )
    sampler: SamplerConfig = Field(default_factory=TorchSampler)
