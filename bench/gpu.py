"""Does training and sampling on a GPU give what the CPU gives, and how fast is it?

One command, no network, nothing but torch, transformers and pydantic: `python bench/gpu.py`. Supervised steps, one step
of reinforcement learning and the torch sampler run with the same small model on both devices; then a larger model shows
tokens per second and the share of the machine's own matmul peak. Without a GPU the CPU's side runs alone. The exit code
is 1 when the two disagree.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, logging

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that the project need not be installed

from journeyman.config import ComputeConfig, GrpoObjective, NllObjective, OptimizerConfig, TorchSampler
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.rollout.torch_sampler import TorchEngine
from journeyman.training.handle import LearnerSpec, Row
from journeyman.training.learner import Learner
from journeyman.training.sync import TOLERANCE

Device = Literal["cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]

SMALL = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 2, "num_key_value_heads": 1}
"""The quickstart's model: with a feed-forward size of 384 and 2,048 tokens 0.9 million parameters."""
LARGE = {"hidden_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 4}
"""A quarter of a billion parameters."""

FLOAT32_TOLERANCE = 1e-3
"""Of log-probabilities and losses, in nats; differences of rounding alone are about 1e-5."""
BFLOAT16_TOLERANCE = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A comparison and how it came out."""

    name: str
    found: str
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What a device does in a second."""

    name: str
    device: Device
    precision: Precision
    tokens_per_s: float
    share: float
    """Of the matmul peak that was measured on the device in this precision."""


def build(folder: Path, shape: dict[str, Any], *, feed_forward: int, vocabulary: int) -> Path:
    """An untrained model and a tokenizer of numbered words."""
    config = Qwen3Config(
        **shape,
        head_dim=64,
        intermediate_size=feed_forward,
        vocab_size=vocabulary,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=None,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    words = Tokenizer(WordLevel({f"w{number}": number for number in range(vocabulary)}, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(folder)
    return folder


def lessons(count: int, length: int, seed: int) -> list[Row]:
    """Rows that can be learned: arithmetic progressions modulo 97."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        start, stride, own = draw.randrange(97), draw.randrange(1, 7), draw.randrange(length // 2, length + 1)
        ids = tuple((start + stride * place) % 97 for place in range(own))
        rows.append(Row(token_ids=ids, mask=(0, *(1,) * (own - 1))))
    return rows


def learner(folder: Path, device: Device, precision: Precision, steps: int) -> Learner:
    spec = LearnerSpec(
        model=folder,
        optimizer=OptimizerConfig(type="adamw", learning_rate=2e-3, warmup_steps=2),
        total_steps=steps,
        microbatch_tokens=16384,
        seed=0,
    )
    return Learner(spec, ComputeConfig(device=device, dtype=precision, threads=torch.get_num_threads()))


def engine(folder: Path, device: Device, precision: Precision, slots: int = 128) -> TorchEngine:
    threads = torch.get_num_threads()
    compute = ComputeConfig(device=device, dtype=precision, threads=threads, sampler=TorchSampler(slots=slots))
    return TorchEngine(folder, compute, 1024)


def sample(sampler: TorchEngine, requests: Sequence[SampleRequest]) -> list[Completion]:
    async def run() -> list[Completion]:
        return list(await asyncio.gather(*(sampler.generate(request) for request in requests)))

    return asyncio.run(run())


def requests_for(count: int, prompt: int, new: int, vocabulary: int) -> list[SampleRequest]:
    draw = random.Random(1)
    prompts = [tuple(draw.randrange(vocabulary) for _ in range(prompt)) for _ in range(count)]
    return [SampleRequest(prompt_ids=ids, max_new_tokens=new, seed=seed) for seed, ids in enumerate(prompts)]


def worst(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> float:
    """Largest difference of two tables."""
    pairs = zip(first, second, strict=True)
    return max(abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True))


def supervised(folder: Path, device: Device, precision: Precision, steps: int) -> tuple[list[float], Learner]:
    """Losses of a few supervised steps, and the learner after them."""
    own, objective = learner(folder, device, precision, steps), NllObjective()
    return [own.step(lessons(32, 96, seed), objective)["loss/total"] for seed in range(steps)], own


def experience(request: SampleRequest, done: Completion, advantage: float) -> Row:
    """A completion as the learner is given it."""
    before, count = len(request.prompt_ids), len(done.token_ids)
    return Row(
        token_ids=request.prompt_ids + done.token_ids,
        mask=(0,) * before + (1,) * count,
        logprobs=(0.0,) * before + done.logprobs,
        advantages=(0.0,) * before + (advantage,) * count,
    )


def policy_step(
    folder: Path, device: Device, precision: Precision, rows: Sequence[Row]
) -> tuple[float, float, list[list[float]]]:
    """Loss and gradient norm of one step of policy gradient, and scores after it."""
    own = learner(folder, device, precision, 1)
    metrics = own.step(rows, GrpoObjective())
    return metrics["loss/total"], metrics["loss/gradient_norm"], own.score([row.token_ids for row in rows[:8]])


def check_cpu(folder: Path, steps: int) -> list[Check]:
    """What must hold on a CPU alone."""
    losses, own = supervised(folder, "cpu", "float32", steps)
    sampler = engine(folder, "cpu", "float32")
    asyncio.run(sampler.load_weights(own.weights(), 1))
    asked = requests_for(48, 20, 24, 97)
    done = sample(sampler, asked)
    plain = own.score([request.prompt_ids + found.token_ids for request, found in zip(asked, done, strict=True)])
    gap = worst([row[19:] for row in plain], [found.logprobs for found in done])
    fell = losses[-1] < losses[0] - 1
    return [
        Check(name="cpu: SFT loss falls", found=f"{losses[0]:.3f} -> {losses[-1]:.3f}", passed=fell),
        Check(name="cpu: sampler and learner agree", found=f"{gap:.1e} nats", passed=gap < FLOAT32_TOLERANCE),
    ]


def check_gpu(folder: Path, device: Device, precision: Precision, steps: int) -> list[Check]:
    """The same work on a CPU in float32 and on `device` in `precision`."""
    most = FLOAT32_TOLERANCE if precision == "float32" else BFLOAT16_TOLERANCE
    losses, _ = supervised(folder, "cpu", "float32", steps)
    others, own = supervised(folder, device, precision, steps)
    early = worst([losses[: steps // 4]], [others[: steps // 4]])
    sampler, on_cpu = engine(folder, device, precision), engine(folder, "cpu", "float32")
    asked = requests_for(48, 20, 24, 2048)
    done, done_on_cpu = sample(sampler, asked), sample(on_cpu, asked)
    same = sum(a.token_ids == b.token_ids for a, b in zip(done, done_on_cpu, strict=True))
    rows = [experience(*pair, 1.0 if n % 2 else -1.0) for n, pair in enumerate(zip(asked, done, strict=True))]
    ids = [row.token_ids for row in rows]
    drawn = worst([row[19:] for row in asyncio.run(on_cpu.score(ids))], [found.logprobs for found in done])
    loss, norm, scores = policy_step(folder, "cpu", "float32", rows)
    other_loss, other_norm, other_scores = policy_step(folder, device, precision, rows)
    moved, ratio = worst(scores, other_scores), other_norm / norm
    asyncio.run(sampler.load_weights(own.weights(), 1))
    # Of what it samples then: what it would hardly ever sample, bfloat16 is off by far more.
    again = sample(sampler, asked)
    exact = own.score(
        [request.prompt_ids + found.token_ids for request, found in zip(asked, again, strict=True)], exact=True
    )
    synced = worst([row[19:] for row in exact], [found.logprobs for found in again])
    fell = others[-1] < others[0] - 1
    checks = [
        ("SFT loss falls", f"{others[0]:.3f} -> {others[-1]:.3f}", fell),
        (f"SFT losses, first {steps // 4} steps", f"{early:.1e} nats", early < most),
        ("sampled log-probabilities", f"{drawn:.1e} nats", drawn < most),
        # Rounding decides a draw now and then, in bfloat16 often.
        ("same completions", f"{same} of {len(asked)}", precision == "bfloat16" or same > len(asked) // 2),
        ("RL step, loss", f"{abs(loss - other_loss):.1e}", abs(loss - other_loss) < most),
        ("RL step, gradient norm", f"{ratio:.4f} of the CPU's", abs(ratio - 1) < most),
        ("RL step, scores after it", f"{moved:.1e} nats", moved < most),
        ("sampler after a weight sync", f"{synced:.1e} nats", synced < TOLERANCE[precision]),
    ]
    return [Check(name=f"{device} {precision}: {name}", found=found, passed=passed) for name, found, passed in checks]


def seconds(work: Callable[[], object], repeat: int) -> float:
    """Best of a few, after one that warms up."""
    times = []
    for _ in range(repeat + 1):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def matmul_peak(device: Device, precision: Precision) -> float:
    """Operations per second of a large square product."""
    size = 8192 if device == "cuda" else 1536
    left, right = (torch.randn(size, size, device=device, dtype=getattr(torch, precision)) for _ in range(2))
    return 2 * size**3 / seconds(lambda: left @ right, 10)


def speeds(folder: Path, device: Device, precision: Precision, *, rows: int, length: int) -> list[Speed]:
    """Tokens per second of training and of sampling."""
    peak = matmul_peak(device, precision)
    own = learner(folder, device, precision, 10)
    batch = [row for row in lessons(4 * rows, length, 3) if len(row.token_ids) > 0.9 * length][:rows]
    tokens, parameters = sum(len(row.token_ids) for row in batch), sum(p.numel() for p in own.weights().values())
    rate = tokens / seconds(lambda: own.step(batch, NllObjective()), 3)
    share = 6 * parameters * rate / peak
    train = Speed(name="SFT step", device=device, precision=precision, tokens_per_s=rate, share=share)
    if device == "cpu" and precision != "float32":
        return [train]  # the sampler computes in float32 on a CPU
    sampler, asked = engine(folder, device, precision, slots=rows), requests_for(2 * rows, 64, 64, 2048)
    weights = own.weights()

    def round_trip() -> None:
        asyncio.run(sampler.load_weights(weights, 0))  # so that no prompt is in the cache
        sample(sampler, asked)

    rate = sum(request.max_new_tokens for request in asked) / seconds(round_trip, 2)
    share = 2 * parameters * 2 * rate / peak  # one prompt token for each new one
    name = f"sampler, {rows} slots"
    return [train, Speed(name=name, device=device, precision=precision, tokens_per_s=rate, share=share)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=24, help="supervised steps")
    parser.add_argument("--against", choices=["cpu", "cuda"], default="cuda", help="cpu: compare a CPU with itself")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    found = options.against == "cpu" or torch.cuda.is_available()
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "none: the CPU's side only"
    print(f"torch {torch.__version__}, {options.threads} CPU threads, GPU: {name}")
    with tempfile.TemporaryDirectory() as place:
        small = build(Path(place, "small"), SMALL, feed_forward=384, vocabulary=2048)
        checks, rates = check_cpu(small, options.steps), speeds(small, "cpu", "float32", rows=64, length=192)
        if found:
            checks += check_gpu(small, options.against, "float32", options.steps)
            checks += check_gpu(small, options.against, "bfloat16", options.steps)
        if found and options.against == "cuda":
            large = build(Path(place, "large"), LARGE, feed_forward=3072, vocabulary=32768)
            rates += speeds(small, "cuda", "float32", rows=256, length=192)
            rates += speeds(large, "cuda", "bfloat16", rows=256, length=512)
    for check in checks:
        print(f"{'ok  ' if check.passed else 'FAIL'} {check.name:<48}{check.found:>24}")
    for speed in rates:
        where = f"{speed.device} {speed.precision}"
        print(f"{speed.name:<24}{where:<16}{speed.tokens_per_s:>14,.0f} tokens/s{speed.share:>10.1%} of matmul peak")
    return 0 if all(check.passed for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
