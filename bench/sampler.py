"""How fast the torch sampler is, beside `transformers`' own `generate` on static batches, in one run.

Problems with several samples each, three turns: a turn's prompt is the one before, its completion and a tool's answer.
`python bench/sampler.py --help` has the options.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM, logging

from journeyman.config import ComputeConfig, TorchSampler
from journeyman.rollout.sampler import SampleRequest
from journeyman.rollout.torch_sampler import TorchEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What one simulated trajectory asks for."""

    prompt: tuple[int, ...]
    lengths: tuple[int, ...]
    """New tokens of each turn."""
    answers: tuple[tuple[int, ...], ...]
    """What the tool says after each turn."""


def workload(options: argparse.Namespace) -> list[Attempt]:
    """Attempts at problems, `options.group` at each; prompts share their first half, as with a system prompt."""
    draw = random.Random(options.seed)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(10, options.vocabulary) for _ in range(count))

    system, attempts = ids(options.prompt // 2), []
    while len(attempts) < options.requests:
        prompt = system + ids(options.prompt - len(system))
        for _ in range(min(options.group, options.requests - len(attempts))):
            lengths = tuple(draw.randint(8, 40) for _ in range(options.turns))
            answers = tuple(ids(draw.randint(8, 24)) for _ in range(options.turns))
            attempts.append(Attempt(prompt=prompt, lengths=lengths, answers=answers))
    return attempts


async def run_engine(engine: TorchEngine, attempts: Sequence[Attempt]) -> None:
    """All attempts at once, as the rollout loop does."""

    async def play(attempt: Attempt, seed: int) -> None:
        ids = attempt.prompt
        for length, answer in zip(attempt.lengths, attempt.answers, strict=True):
            request = SampleRequest(prompt_ids=ids, max_new_tokens=length, seed=seed)
            ids += (await engine.generate(request)).token_ids + answer

    await asyncio.gather(*(play(attempt, seed) for seed, attempt in enumerate(attempts)))


@torch.inference_mode()
def run_generate(model: Any, attempts: Sequence[Attempt], batch: int) -> None:
    """Turn by turn in static batches: each goes on until its longest row is done, and starts from the first token."""
    for start in range(0, len(attempts), batch):
        group = attempts[start : start + batch]
        rows = [attempt.prompt for attempt in group]
        for turn in range(len(group[0].lengths)):
            longest, most = max(map(len, rows)), max(attempt.lengths[turn] for attempt in group)
            tokens = torch.tensor([(0,) * (longest - len(row)) + row for row in rows], device=model.device)
            mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=model.device)
            out = model.generate(
                tokens, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=most, pad_token_id=0
            )
            new = out[:, longest:].tolist()
            rows = [
                row + tuple(ids[: attempt.lengths[turn]]) + attempt.answers[turn]
                for row, ids, attempt in zip(rows, new, group, strict=True)
            ]


def build(options: argparse.Namespace, folder: Path) -> None:
    """The quickstart's model, untrained and without a tokenizer."""
    config = Qwen3Config(
        vocab_size=options.vocabulary,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        intermediate_size=384,
        tie_word_embeddings=True,
        max_position_embeddings=options.max_length,
        eos_token_id=None,
        bos_token_id=None,
    )
    torch.manual_seed(options.seed)
    Qwen3ForCausalLM(config).save_pretrained(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """New tokens per second: of the clock, and of the process's own work, which a busy machine distorts less."""

    clock: float
    work: float


def measure(options: argparse.Namespace, model: Path) -> dict[str, Rate]:
    """Each way, `--repeat` times in turn, the best of each."""
    attempts = workload(options)
    tokens = sum(sum(attempt.lengths) for attempt in attempts)
    plain = Qwen3ForCausalLM.from_pretrained(model, attn_implementation="sdpa").eval()
    on_gpu = options.device != "cpu" and torch.cuda.is_available()
    torch.nn.Module.to(plain, device=torch.device("cuda" if on_gpu else "cpu"))
    ways: dict[str, Callable[[], None]] = {}
    for slots in options.slots:
        compute = ComputeConfig(threads=options.threads, device=options.device, sampler=TorchSampler(slots=slots))
        ways[f"torch sampler, {slots} slots"] = partial(
            run_afresh, TorchEngine(model, compute, options.max_length), attempts, dict(plain.state_dict())
        )
        if options.peer:
            ways[f"transformers generate, batch {slots}"] = partial(run_generate, plain, attempts, slots)
    best: dict[str, Rate] = {}
    for _ in range(options.repeat):
        for name, way in ways.items():
            started, worked = time.perf_counter(), time.process_time()
            way()
            found = Rate(clock=tokens / (time.perf_counter() - started), work=tokens / (time.process_time() - worked))
            old = best.get(name, found)
            best[name] = Rate(clock=max(old.clock, found.clock), work=max(old.work, found.work))
    return best


def run_afresh(engine: TorchEngine, attempts: Sequence[Attempt], weights: dict[str, torch.Tensor]) -> None:
    """With an empty cache: loading weights drops what was computed."""
    asyncio.run(engine.load_weights(weights, 0))
    asyncio.run(run_engine(engine, attempts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--requests", type=int, default=384, help="trajectories")
    parser.add_argument("--group", type=int, default=8, help="trajectories with the same prompt")
    parser.add_argument("--prompt", type=int, default=60, help="tokens of a first prompt")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--slots", type=int, nargs="+", default=[128, 192])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--device", default="cpu", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        build(options, Path(folder))
        rates = measure(options, Path(folder))
    print(f"{options.requests} trajectories of {options.turns} turns, {options.threads} thread(s)")
    print(f"{'':<34}{'tokens/s':>12}{'':>8}{'tokens/CPU s':>14}")
    slowest, laziest = min(rate.clock for rate in rates.values()), min(rate.work for rate in rates.values())
    for name, rate in rates.items():
        clock, work = rate.clock / slowest, rate.work / laziest
        print(f"{name:<34}{rate.clock:>12,.0f}{clock:>7.1f}x{rate.work:>14,.0f}{work:>7.1f}x")


if __name__ == "__main__":
    main()
