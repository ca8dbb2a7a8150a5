"""Our samplers as a model of lm-evaluation-harness: for its tasks that are text in, text or likelihood out.

The harness is no dependency: it is imported when a model is made. What it asks is plain text without tools, so worlds
with tools are not its field: those are benchmarks of our own.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from journeyman.config import ComputeConfig
from journeyman.errors import ConfigError
from journeyman.rollout.sampler import Sampler, SampleRequest
from journeyman.seeds import derive

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_NEW_TOKENS = 256
"""Where a task doesn't say how long an answer may be: the harness's own default."""


class Instance(Protocol):
    """What the harness asks: its `lm_eval.api.instance.Instance`."""

    @property
    def args(self) -> tuple: ...


class TextModel:
    """The three questions of the harness, put to a sampler. Answers come back in the order of the requests.

    Special tokens in a prompt are special: the harness renders chat templates itself. A prompt that is too long loses
    its beginning.

    Args:
        sampler: asked from an event loop of its own; `close` ends both.
        tokenizer: the model's.
        max_length: most tokens of prompt and answer.
        seed: of answers at a temperature above 0.
    """

    def __init__(
        self, sampler: Sampler, tokenizer: "PreTrainedTokenizerBase", *, max_length: int, seed: int = 0
    ) -> None:
        self._sampler, self.tokenizer, self._max_length, self._seed = sampler, tokenizer, max_length, seed
        self._runner = asyncio.Runner()

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template that prompts are rendered with; the harness keeps it with its results."""
        return str(self.tokenizer.chat_template or "") if chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        text = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        assert isinstance(text, str), "one conversation gives one text"
        return text

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Of each (context, options) the text up to the first of `until`, which is left out."""
        return self._runner.run(_all(self._generate(i, *request.args) for i, request in enumerate(requests)))

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Of each (context, continuation) the continuation's log-probability, and whether it is the greedy one."""
        pairs = [self._pair(*request.args) for request in requests]
        rows = self._runner.run(self._sampler.score([[*context, *ids] for context, ids in pairs]))
        sums = [sum(row[len(row) - len(ids) :]) if ids else 0.0 for row, (_, ids) in zip(rows, pairs, strict=True)]
        greedy = self._runner.run(_all(self._is_greedy(*pair) for pair in pairs))
        return list(zip(sums, greedy, strict=True))

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Of each (text,) the log-probability of all of it, each token once, window by window where it is long."""
        windows = [self._windows(self._encode(request.args[0])) for request in requests]
        scores = iter(self._runner.run(self._sampler.score([row for rows in windows for row, _ in rows])))
        return [sum(sum(next(scores)[-new:]) for _, new in rows) for rows in windows]

    def close(self) -> None:
        self._runner.run(self._sampler.close())
        self._runner.close()

    async def _generate(self, place: int, context: str, options: Mapping[str, Any]) -> str:
        until = options.get("until") or []
        until = [until] if isinstance(until, str) else list(until)
        most = min(int(options.get("max_gen_toks", MAX_NEW_TOKENS)), self._max_length - 1)
        prompt = self._encode(context)[-(self._max_length - most) :] or [self._first()]
        end = self.tokenizer.eos_token_id
        request = SampleRequest(
            prompt_ids=tuple(prompt),
            max_new_tokens=most,
            temperature=float(options.get("temperature", 0.0)) if options.get("do_sample") else 0.0,
            seed=derive(self._seed, "harness", place),
            stop_ids=(end,) if isinstance(end, int) else (),
        )
        made = await self._sampler.generate(request)
        text = str(self.tokenizer.decode(list(made.token_ids), skip_special_tokens=True))
        return text[: min((at for stop in until if stop and (at := text.find(stop)) >= 0), default=len(text))]

    async def _is_greedy(self, context: Sequence[int], ids: Sequence[int]) -> bool:
        if not ids:
            return True
        request = SampleRequest(prompt_ids=tuple(context), max_new_tokens=len(ids), temperature=0.0)
        return list((await self._sampler.generate(request)).token_ids) == list(ids)

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of both; space between them belongs to the continuation, as the harness has it."""
        kept = context.rstrip()
        before = self._encode(kept)
        whole = self._encode(context + continuation)
        ids = whole[len(before) :][-(self._max_length - 1) :]
        before = (before or [self._first()])[-(self._max_length - len(ids)) :]
        return before, ids

    def _windows(self, ids: Sequence[int]) -> list[tuple[list[int], int]]:
        """Rows, and how many tokens at the end of each are new; the last row goes back as far as it may."""
        row, step = [self._first(), *ids], self._max_length - 1
        ends = [*range(step, len(ids), step), len(ids)] if ids else []
        begins = [0, *ends]
        return [(row[max(0, end - step) : end + 1], end - begin) for begin, end in zip(begins, ends, strict=False)]

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _first(self) -> int:
        """What stands before a text without a context."""
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if isinstance(token, int):
                return token
        raise ConfigError("the tokenizer has no token to begin with", place="tokenizer", remedy="give it a bos token")


def harness_model(folder: Path, compute: ComputeConfig | None = None, *, max_length: int = 4096, seed: int = 0) -> Any:
    """A model folder as an `lm_eval.api.model.LM`, for `lm_eval.simple_evaluate(model=...)`.

    Raises `ConfigError` where the harness isn't installed.
    """
    try:
        from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise ConfigError(
            "lm-evaluation-harness is not installed", place="lm_eval", remedy="pip install lm_eval"
        ) from None
    from transformers import AutoTokenizer

    from journeyman.rollout.worker import build_sampler

    class SampledModel(TextModel, LM):
        """Ours first: the harness's base class has the rest."""

        def __init__(self) -> None:
            LM.__init__(self)
            sampler = build_sampler(folder, compute or ComputeConfig(), max_length)
            TextModel.__init__(self, sampler, AutoTokenizer.from_pretrained(folder), max_length=max_length, seed=seed)

    return SampledModel()


async def _all(asked: Any) -> list[Any]:
    return list(await asyncio.gather(*asked))
