"""The torch sampler: a `transformers` model in process, with continuous batching."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, PreTrainedModel

from journeyman.config import ComputeConfig, TorchSampler
from journeyman.errors import ConfigError, InfrastructureError
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.rollout.slot_decoder import SlotDecoder
from journeyman.rollout.step_model import ATTENTION
from journeyman.rollout.step_plan import Row

_SCORE_LOGITS = 1 << 25
"""Most logits that `score` computes at once."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """Someone who waits for a completion, or for new weights to be taken."""

    future: asyncio.Future
    row: Row | None = None
    weights: Mapping[str, torch.Tensor] | None = None
    version: int = 0


class TorchEngine:
    """Samples with a `transformers` causal LM. All calls come from one event loop at a time.

    Rows are decoded together, each at its own length; a finished one makes room for the next at once. A prompt that
    begins as another one did is computed from there on only. Models with sliding windows shorter than `max_length` are
    refused.
    """

    def __init__(self, model: Path, compute: ComputeConfig, max_length: int) -> None:
        if not (model / "config.json").is_file():
            raise ConfigError("there is no model", place=str(model), remedy="give a folder in Hugging Face format")
        torch.set_num_threads(compute.threads)
        self._model = _load(model, compute)
        _refuse_windows(self._model, model, max_length)
        self._vocabulary = self._model.config.get_text_config().vocab_size
        self._max_length = max_length
        slots = compute.sampler.slots if isinstance(compute.sampler, TorchSampler) else 1
        self._decoder = SlotDecoder(self._model, slots=slots, max_length=max_length)
        self._version = 0
        self._continuing: deque[_Waiter] = deque()
        self._fresh: deque[_Waiter] = deque()
        self._updates: deque[_Waiter] = deque()
        self._sampling: dict[Row, _Waiter] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._probe(model)

    @torch.inference_mode()
    def _probe(self, folder: Path) -> None:
        """Refuse a model whose forward pass does not hand the sampler's plan on to its attention function."""
        prompts = [tuple(number % self._vocabulary for number in range(start, start + 5)) for start in (0, 3)]
        requests = [SampleRequest(prompt_ids=prompt, max_new_tokens=3) for prompt in prompts]
        rows = [Row(request, limit=min(3, self._max_length - 5)) for request in requests]
        if self._max_length <= 5:
            return
        waiting, done = list(rows), []
        while len(done) < len(rows):
            waiting = self._decoder.admit(waiting)
            done += self._decoder.step()
        plain = self._score([row.request.prompt_ids + row.token_ids for row in rows])
        pairs = ((plain[n][-len(row.logprobs) :], row.logprobs) for n, row in enumerate(rows))
        worst = max(abs(a - b) for first, second in pairs for a, b in zip(first, second, strict=True))
        if worst > (1e-3 if self._model.dtype == torch.float32 else 0.5):
            raise ConfigError(
                f"the torch sampler can't run this kind of model: its log-probabilities are off by {worst:.2g}",
                place=str(folder),
                remedy="use compute.sampler.type: vllm",
            )
        self._decoder.forget()
        self._decoder.prompt_tokens = 0

    async def generate(self, request: SampleRequest) -> Completion:
        """Continue a prompt.

        Raises:
            ValueError: the request itself is wrong, a `ConfigError` where it has images; others are not affected.
            InfrastructureError: sampling failed, or the sampler was closed.
        """
        if request.images:
            raise ConfigError(
                "the torch sampler reads text only, and a prompt has images in it",
                place="compute.sampler.type",
                remedy="take compute.sampler.type=vllm and a model that takes images",
            )
        row = Row(request, limit=self._limit(request))
        waiter = _Waiter(asyncio.get_running_loop().create_future(), row=row)
        (self._continuing if self._decoder.prepare(row) else self._fresh).append(waiter)
        self._start()
        return await waiter.future

    async def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> None:
        """Take new weights as soon as the rows that are being sampled are done; waiting ones are sampled with these.

        Raises:
            ValueError: names or shapes are not the model's; then nothing has changed.
        """
        self._check(weights)
        waiter = _Waiter(asyncio.get_running_loop().create_future(), weights=weights, version=version)
        self._updates.append(waiter)
        self._start()
        await waiter.future

    async def interrupt(self) -> None:
        """Give back every completion as far as it is, those that have not begun too."""
        self._interrupt()

    @torch.inference_mode()
    def _interrupt(self) -> None:
        for row in self._decoder.interrupt():
            self._complete(row, self._sampling.pop(row).future, interrupted=True)
        for queue in (self._continuing, self._fresh):
            for waiter in queue:
                assert waiter.row is not None
                self._complete(waiter.row, waiter.future, interrupted=True)
            queue.clear()

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens computed so far: those that the cache did not hold."""
        return self._decoder.prompt_tokens

    async def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        """A plain forward pass without the cache."""
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        scores: list[list[float]] = [[] for _ in rows]
        while order:
            count = max(1, _SCORE_LOGITS // self._vocabulary // max(1, len(rows[order[-1]])))
            batch, order = order[-count:], order[:-count]
            for place, values in zip(batch, self._score([rows[place] for place in batch]), strict=True):
                scores[place] = values
        return scores

    async def close(self) -> None:
        """End; whoever still waits gets an `InfrastructureError`."""
        self._closed = True
        if self._task and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        self._fail("the sampler was closed")

    def _limit(self, request: SampleRequest) -> int:
        prompt, room = request.prompt_ids, self._max_length - len(request.prompt_ids)
        if not prompt or request.max_new_tokens < 1 or request.temperature < 0:
            raise ValueError("a request needs a prompt, at least one new token and a temperature of 0 or more")
        if room < 1:
            raise ValueError(f"the prompt has {len(prompt)} tokens; with its completion it may have {self._max_length}")
        if min(prompt) < 0 or max(prompt) >= self._vocabulary:
            raise ValueError(f"the prompt has ids outside the model's vocabulary of {self._vocabulary}")
        return min(request.max_new_tokens, room)

    def _start(self) -> None:
        """The loop runs while there is something to do, so that no task is left when an event loop ends."""
        if self._closed:
            self._fail("the sampler was closed")
        elif self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            self._fail("the sampler was stopped")
        elif error is not None:
            self._fail(f"sampling failed: {type(error).__name__}: {error}", error)

    def _fail(self, message: str, cause: BaseException | None = None) -> None:
        """Tell everyone who waits, and drop all rows."""
        waiters = (*self._sampling.values(), *self._continuing, *self._fresh, *self._updates)
        for queue in (self._sampling, self._continuing, self._fresh, self._updates):
            queue.clear()
        self._decoder.abandon()
        for waiter in waiters:
            if not waiter.future.done():
                error = InfrastructureError(message)
                error.__cause__ = cause
                waiter.future.set_exception(error)

    async def _run(self) -> None:
        while self._sampling or self._continuing or self._fresh or self._updates:
            self._drop_cancelled()
            if not self._updates:
                if not self._decoder.full:
                    self._admit()
            elif not self._sampling:
                self._update()
            if self._sampling:
                self._step()
            await asyncio.sleep(0)

    @torch.inference_mode()
    def _drop_cancelled(self) -> None:
        for waiter in [waiter for waiter in self._sampling.values() if waiter.future.done()]:
            assert waiter.row is not None
            del self._sampling[waiter.row]
            self._decoder.remove(waiter.row)

    @torch.inference_mode()
    def _admit(self) -> None:
        for queue in (self._continuing, self._fresh):
            waiters = {waiter.row: waiter for waiter in queue if waiter.row and not waiter.future.done()}
            left = self._decoder.admit(list(waiters))
            queue.clear()
            queue.extend(waiters.pop(row) for row in left)
            self._sampling.update(waiters)

    @torch.inference_mode()
    def _step(self) -> None:
        for row in self._decoder.step():
            self._complete(row, self._sampling.pop(row).future)

    def _complete(self, row: Row, future: asyncio.Future, *, interrupted: bool = False) -> None:
        if future.done():
            return
        completion = Completion(
            token_ids=row.token_ids,
            logprobs=row.logprobs,
            stopped=not interrupted and row.token_ids[-1] in row.request.stop_ids,
            policy_version=self._version,
            interrupted=interrupted,
        )
        future.set_result(completion)

    @torch.inference_mode()
    def _score(self, rows: list[Sequence[int]]) -> list[list[float]]:
        ids = [torch.tensor(row, dtype=torch.long) for row in rows]
        # Padding stands at the end, where attention to earlier tokens never sees it.
        tokens = pad_sequence(ids, batch_first=True).to(self._model.device)
        if tokens.shape[1] < 2:
            return [[] for _ in rows]
        logits = self._model(input_ids=tokens, use_cache=False).logits[:, :-1].float()
        logprobs = logits.log_softmax(-1).gather(2, tokens[:, 1:, None]).squeeze(2).tolist()
        return [values[: max(0, len(row) - 1)] for values, row in zip(logprobs, rows, strict=True)]

    def _check(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Names and shapes. Tied weights may come under any of their names, or under several with the same values."""
        own = self._model.state_dict()
        names: dict[int, list[str]] = {}
        for name, tensor in own.items():
            names.setdefault(tensor.data_ptr(), []).append(name)
        given = {pointer: [name for name in alike if name in weights] for pointer, alike in names.items()}
        shared = [name for name in weights if name in own and weights[name].shape == own[name].shape]
        findings = {
            "missing": [names[pointer][0] for pointer, found in given.items() if not found],
            "unexpected": [name for name in weights if name not in own],
            "of another shape": [name for name in weights if name in own and name not in shared],
            "tied, but not the same": [
                name
                for found in given.values()
                for name in found[1:]
                if {found[0], name} <= {*shared} and not torch.equal(weights[found[0]], weights[name])
            ],
        }
        if any(findings.values()):
            listed = "; ".join(f"{title}: {_some(found)}" for title, found in findings.items() if found)
            raise ValueError(f"these weights are not the model's: {listed}")

    @torch.inference_mode()
    def _update(self) -> None:
        waiter = self._updates.popleft()
        assert waiter.weights is not None
        if waiter.future.done():
            return
        own = self._model.state_dict()
        for name, tensor in waiter.weights.items():
            own[name].copy_(tensor)
        self._decoder.forget()
        self._version = waiter.version
        waiter.future.set_result(None)


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _load(folder: Path, compute: ComputeConfig) -> PreTrainedModel:
    name = compute.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("there is no CUDA device", place="compute.device", remedy="use device: auto or cpu")
    # On a CPU in float32: in bfloat16 log-probabilities are off by up to 0.1 from the learner's.
    dtype = torch.bfloat16 if name == "cuda" and compute.dtype != "float32" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=ATTENTION)
    model.eval().requires_grad_(False)
    torch.nn.Module.to(model, device=torch.device(name))
    return model


def _refuse_windows(model: PreTrainedModel, folder: Path, max_length: int) -> None:
    """Every row of the cache holds every position, so layers that see only some of them would see too many."""
    settings = model.config.get_text_config().to_dict()
    kinds = set(settings.get("layer_types") or ("full_attention", "sliding_attention"))
    window = settings.get("sliding_window") or max_length
    other = kinds - {"full_attention"} if window < max_length else kinds - {"full_attention", "sliding_attention"}
    if other:
        raise ConfigError(
            f"the torch sampler has no cache for layers of type {', '.join(sorted(other))}",
            place=str(folder),
            remedy="use compute.sampler.type: vllm, or a max_length of at most the layers' window",
        )
