"""A Sampler on vLLM's asynchronous engine. Runs in the vLLM environment only: see `infra/vllm/install.sh`."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.config import ComputeConfig, VllmSampler
from journeyman.errors import ConfigError, InfrastructureError
from journeyman.messages import Image
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.rollout.vision import contracted
from journeyman.tools.pixels import decoded

if TYPE_CHECKING:
    import torch

ROWS_IN_CACHE = 256
"""On a CPU the KV cache has room for so many rows of full length, where memory allows."""
PREFILL_TOKENS = 8192
"""On a CPU: most tokens in one forward pass, where no single prompt is longer."""


def environment(compute: ComputeConfig) -> dict[str, str]:
    """The environment variables that a process needs before it imports vLLM."""
    return {
        "OMP_NUM_THREADS": str(compute.threads),
        "HF_HUB_OFFLINE": "1",  # models are folders
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # `score` asks for one token more than the longest row
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # binding would put every actor on the same cores
        # On a CPU the model then runs in the engine's process, not in one more: 390 MiB less. vLLM keeps them apart
        # for the sake of its thread binding, which is off.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # the actor's process has threads: no fork
    }


class VllmEngine:
    """vLLM behind the Sampler protocol, with the model of a folder in Hugging Face format.

    On a CPU the arithmetic is float32: bfloat16 log-probabilities are off by up to 0.1.
    """

    def __init__(self, model: Path, compute: ComputeConfig, max_length: int) -> None:
        assert isinstance(compute.sampler, VllmSampler)
        if not (model / "config.json").is_file():
            raise ConfigError("there is no model", place=str(model), remedy="give a folder in Hugging Face format")
        os.environ.update(environment(compute))
        from vllm import AsyncEngineArgs  # pyright: ignore[reportMissingImports]
        from vllm.v1.engine.async_llm import AsyncLLM  # pyright: ignore[reportMissingImports]

        arguments = _engine_arguments(model, compute, compute.sampler, max_length)
        self._engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        self._max_length = max_length
        self._shapes = _shapes(model)
        self._pad_id = _image_token(model)
        self._version = 0
        self._gate = _Gate()
        self._names = itertools.count()

    async def generate(self, request: SampleRequest) -> Completion:
        """Continue a prompt. `ValueError` when the request itself is wrong, `InfrastructureError` when vLLM failed."""
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]
        from vllm.sampling_params import RequestOutputKind  # pyright: ignore[reportMissingImports]

        parameters = SamplingParams(
            temperature=request.temperature,
            seed=request.seed % 2**63,
            max_tokens=self._limit(request),
            stop_token_ids=list(request.stop_ids),
            ignore_eos=True,  # the request's stop ids, not those of generation_config.json
            logprobs=0,  # of the sampled token alone
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        async with self._gate.shared():
            version = self._version
            output = (await self._run(request.prompt_ids, parameters, request.images)).outputs[0]
        return Completion(
            token_ids=tuple(output.token_ids),
            logprobs=tuple(output.logprobs.logprobs),
            stopped=output.finish_reason == "stop",
            policy_version=version,
            interrupted=output.finish_reason == "abort",
        )

    async def interrupt(self) -> None:
        """Give back every completion as far as it is."""
        await self._engine.pause_generation(mode="abort")
        await self._engine.resume_generation()

    async def load_weights(self, weights: "Mapping[str, torch.Tensor]", version: int) -> None:
        """Take new weights once the rows that are being sampled are done; those that wait are sampled with the new."""
        self._check(weights)
        async with self._gate.alone():
            await self._engine.pause_generation(mode="wait")
            try:
                with _WeightFile(weights) as path:
                    await self._engine.collective_rpc("load_learner_weights", args=(path,))
                if not await self._engine.reset_prefix_cache():
                    raise InfrastructureError("vLLM did not drop the cache of the old weights: rows are still in use")
            finally:
                await self._engine.resume_generation()
            self._version = version

    def _check(self, weights: "Mapping[str, torch.Tensor]") -> None:
        """Names and shapes: vLLM itself passes over what is missing. A tied head may come along with the embedding."""
        findings = {
            "missing": [name for name in self._shapes if name not in weights],
            "unexpected": [name for name in weights if name not in self._shapes and name != "lm_head.weight"],
            "of another shape": [
                name for name, shape in self._shapes.items() if name in weights and tuple(weights[name].shape) != shape
            ],
        }
        if any(findings.values()):
            listed = "; ".join(f"{title}: {', '.join(names[:4])}" for title, names in findings.items() if names)
            raise ValueError(f"these weights are not the model's: {listed}")

    async def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        async with self._gate.shared():
            return list(await asyncio.gather(*(self._score(row) for row in rows)))

    def _limit(self, request: SampleRequest) -> int:
        """Most tokens to sample. Raises `ValueError`."""
        prompt, room = len(request.prompt_ids), self._max_length - len(request.prompt_ids)
        if not prompt or request.max_new_tokens < 1 or request.temperature < 0:
            raise ValueError("a request needs a prompt, at least one new token and a temperature of 0 or more")
        if room < 1:
            raise ValueError(f"the prompt has {prompt} tokens; {self._max_length} is the most, completion included")
        return min(request.max_new_tokens, room)

    async def _score(self, row: Sequence[int]) -> list[float]:
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]
        from vllm.sampling_params import RequestOutputKind  # pyright: ignore[reportMissingImports]

        if len(row) < 2:
            return []
        if self._pad_id is not None and self._pad_id in row:
            raise ValueError("a row with an image in it can't be scored without the image")
        parameters = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            prompt_logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        return list((await self._run(row, parameters)).prompt_logprobs.logprobs)

    async def _run(self, prompt_ids: Sequence[int], parameters: Any, images: Sequence[Image] = ()) -> Any:
        """vLLM's final output for one request."""
        from vllm.exceptions import VLLMServerError  # pyright: ignore[reportMissingImports]

        prompt = self._prompt(prompt_ids, images)
        stream = self._engine.generate(prompt, parameters, f"request-{next(self._names)}")
        try:
            outputs = [output async for output in stream]
        except VLLMServerError as error:
            # vLLM's own classes do not unpickle where vLLM isn't installed.
            raise InfrastructureError(
                f"the vLLM engine failed: {type(error).__name__}; its log is that of the actor, in Ray's folder "
                f"(/tmp/ray/session_latest/logs/worker-*-{os.getpid()}.out)"
            ) from None
        if images and tuple(outputs[-1].prompt_token_ids) != tuple(prompt_ids):
            raise InfrastructureError("vLLM and the chat format disagree on how many tokens an image takes")
        return outputs[-1]

    def _prompt(self, prompt_ids: Sequence[int], images: Sequence[Image]) -> dict[str, Any]:
        """What vLLM is given: it repeats an image's placeholder itself. Raises `ValueError`."""
        if not images:
            return {"prompt_token_ids": list(prompt_ids)}
        if self._pad_id is None:
            raise ConfigError("this model takes no images", remedy="use a model that does: Qwen2.5-VL, say")
        short = contracted(prompt_ids, self._pad_id, len(images))
        return {"prompt_token_ids": short, "multi_modal_data": {"image": [decoded(image) for image in images]}}

    async def close(self) -> None:
        self._engine.shutdown()
        del self._engine  # its finalizer fails when it runs as late as the interpreter's end


def _engine_arguments(model: Path, compute: ComputeConfig, sampler: VllmSampler, max_length: int) -> dict[str, Any]:
    from vllm.platforms import current_platform  # pyright: ignore[reportMissingImports]

    on_cpu = current_platform.is_cpu()
    if compute.device != "auto" and (compute.device == "cpu") != on_cpu:
        raise ConfigError(
            f"the vLLM environment is built for {'a CPU' if on_cpu else 'CUDA'}, the config asks for {compute.device}",
            place="compute.device",
            remedy="run infra/vllm/install.sh again with VLLM_VARIANT=cpu or VLLM_VARIANT=cuda",
        )
    arguments = {
        "model": str(model),
        "skip_tokenizer_init": _image_token(model) is None,  # the processors of images ask for it
        "dtype": "float32" if on_cpu else {"auto": "bfloat16"}.get(compute.dtype, compute.dtype),
        "max_model_len": max_length + 1,
        "tensor_parallel_size": sampler.tensor_parallel,
        "distributed_executor_backend": "mp" if sampler.tensor_parallel > 1 else "uni",
        "worker_extension_cls": "journeyman.rollout.vllm_worker.LearnerWeights",
        "logprobs_mode": "processed_logprobs",  # after the temperature: what was drawn from
        "enable_prefix_caching": True,
        "enforce_eager": sampler.enforce_eager,
        "generation_config": "vllm",  # no top-k or top-p out of the model's folder
        "disable_log_stats": True,
    }
    if not on_cpu:
        return arguments | {"gpu_memory_utilization": sampler.gpu_memory_utilization}
    return arguments | {
        "kv_cache_memory_bytes": _cache_bytes(model, max_length, sampler.gpu_memory_utilization),
        "max_num_seqs": ROWS_IN_CACHE,
        # A prompt in chunks makes vLLM rewind the request's seeded generator, which a CPU's cannot: the engine dies.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(PREFILL_TOKENS, max_length + 1),
    }


def _image_token(model: Path) -> int | None:
    """The token that stands for an image's embeddings; None for a model that takes no images."""
    from transformers import AutoConfig

    # Families without images have no such field.
    return getattr(AutoConfig.from_pretrained(model), "image_token_id", None)


def _shapes(model: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights in a model folder; empty where they aren't kept as safetensors."""
    from safetensors import safe_open

    shapes = {}
    for path in sorted(model.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return shapes


def _cache_bytes(model: Path, max_length: int, share: float) -> int:
    """Size of a float32 KV cache on a CPU: enough rows, at most a share of the free memory. Raises `ConfigError`."""
    import psutil
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model).get_text_config()
    # Some architectures have it as a field of its own, others leave it to be derived.
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    _check_head_size(width)
    wanted = ROWS_IN_CACHE * max_length * config.num_hidden_layers * 2 * config.num_key_value_heads * width * 4
    return max(64 * 2**20, min(wanted, int(share * psutil.virtual_memory().available)))


def _check_head_size(width: int) -> None:
    """vLLM itself says so with the first request only, and the engine dies of it."""
    from vllm.v1.attention.backends import cpu_attn  # pyright: ignore[reportMissingImports]

    known = cpu_attn.CPUAttentionBackend.get_supported_head_sizes()
    if width not in known:
        raise ConfigError(
            f"vLLM on a CPU has no attention heads of size {width}",
            place="model.head_dim",
            remedy=f"take one of {', '.join(map(str, known))}, or compute.sampler.type=torch",
        )


class _Gate:
    """Lets any number of requests in at once, or one weight load alone."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._inside = 0
        self._closed = False

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._closed)
            self._inside += 1
        try:
            yield
        finally:
            async with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._closed)
            self._closed = True
            await self._changed.wait_for(lambda: self._inside == 0)
        try:
            yield
        finally:
            async with self._changed:
                self._closed = False
                self._changed.notify_all()


class _WeightFile:
    """Weights as a file that other processes of this machine can open.

    It lies in memory and has no name, so that nothing is left over however this process ends.
    """

    def __init__(self, weights: "Mapping[str, torch.Tensor]") -> None:
        self._weights = weights

    def __enter__(self) -> str:
        import torch

        self._file = os.memfd_create("journeyman-weights")
        with os.fdopen(self._file, "wb", closefd=False) as file:
            torch.save(dict(self._weights), file)
        return f"/proc/{os.getpid()}/fd/{self._file}"

    def __exit__(self, *error: object) -> None:
        os.close(self._file)
