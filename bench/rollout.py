"""How good the agent loop is: against lock-step, against other generators, its own overhead, and its memory.

`python bench/rollout.py` runs all four parts and prints one JSON object; `--part NAME` runs one. Everything that is
compared runs in one go on the same model and job; throughput is per CPU-second, which a busy machine distorts less.
TRL comes with `pip install -e '.[dev]'`; `--vllm .venv-vllm/bin/python` has vLLM compared, too.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM, logging

from journeyman.config import ComputeConfig, TorchSampler, VllmSampler
from journeyman.environments import ENVIRONMENTS, environment
from journeyman.environments.base import Environment
from journeyman.messages import ParsedTurn, ToolCall
from journeyman.problem import Problem, problem_id
from journeyman.rollout.chat import ChatFormat
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.tools.base import CallContext, FunctionTool
from journeyman.training.tokenizer import train_tokenizer
from journeyman.trajectory import Trajectory

MAX_LENGTH = 1024
CALL = ToolCall(name="oracle", arguments={"question": "and now?"})
ANSWER = "the oracle says nothing that helps, but it says so at some length"


class Oracle(FunctionTool):
    """A tool that takes its time and always says the same."""

    name = "oracle"

    def __init__(self, latency: Callable[[random.Random], float]) -> None:
        self._latency = latency

    async def run(self, question: str, context: CallContext) -> str:
        """Ask the oracle."""
        seconds = self._latency(random.Random(context.seed))
        if seconds:
            await asyncio.sleep(seconds)
        return ANSWER


class Delphi(Environment):
    """One tool; no answer is right."""

    name = "delphi"

    def __init__(self) -> None:
        self.latency: Callable[[random.Random], float] = lambda _: 0.0
        self._tools = {"oracle": Oracle(lambda rng: self.latency(rng))}

    def tools(self) -> Mapping[str, Any]:
        return self._tools

    def verify(self, problem: Problem, answer: str) -> bool:
        return False


class Asking(ChatFormat):
    """Reads a call into every turn: an untrained model asks for none by itself."""

    def parse(self, text: str, specs: Sequence[Mapping[str, Any]] = ()) -> ParsedTurn:
        return ParsedTurn(calls=(CALL,), text=text)


class Ended:
    """A sampler whose completions all count as ended: turns then have the length that was asked for."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler
        self.tokens = 0

    async def generate(self, request: SampleRequest) -> Completion:
        made = await self._sampler.generate(request)
        self.tokens += len(made.token_ids)
        return replace(made, stopped=True)


class Instant:
    """A sampler that costs nothing, after a wait where it is given one."""

    def __init__(self, ids: Sequence[int], seconds: float = 0.0) -> None:
        self._completion = Completion(token_ids=tuple(ids), logprobs=(-0.1,) * len(ids), stopped=True, policy_version=0)
        self._seconds = seconds

    async def generate(self, request: SampleRequest) -> Completion:
        await asyncio.sleep(self._seconds)
        return self._completion


def build(folder: Path) -> ChatFormat:
    """An untrained Qwen3 of 3.5 million parameters with a small tokenizer."""
    # TRL trains with templates that it knows only; all ways use the same.
    template = (resources.files("trl") / "chat_templates" / "qwen3.jinja").read_text(encoding="utf-8")
    specs = [tool.spec() for tool in environment("delphi").tools().values()]
    texts = [ANSWER, *(problem(number).question for number in range(400)), template, json.dumps(specs)]
    tokenizer = train_tokenizer(texts * 3, specs, [], vocabulary=2048, max_length=MAX_LENGTH)
    tokenizer.chat_template = template
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        intermediate_size=768,
        tie_word_embeddings=True,
        max_position_embeddings=MAX_LENGTH,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Asking(tokenizer)


def problem(number: int) -> Problem:
    question = f"What is {number} times {number + 7}, and what does the oracle say about it?"
    return Problem(id=problem_id("delphi", question), family="delphi", question=question, answer="-", tools=("oracle",))


def jobs(options: argparse.Namespace) -> list[RolloutJob]:
    return [
        RolloutJob(
            problem=problem(number),
            sample=sample,
            seed=number * 1000 + sample,
            max_turns=options.turns,
            max_new_tokens=options.new_tokens // options.turns,
        )
        for number in range(options.problems)
        for sample in range(options.group)
    ]


async def free_running(agent: Agent, asked: Sequence[RolloutJob]) -> None:
    await asyncio.gather(*(agent.attempt(job) for job in asked))


async def lock_step(agent: Agent, asked: Sequence[RolloutJob]) -> None:
    """All attempts take a turn, then all take the next: the slowest tool of a turn holds up everyone."""
    attempts = [await agent.start(job) for job in asked]
    while going := [attempt for attempt in attempts if attempt.stop_reason is None]:
        await asyncio.gather(*(agent.step(attempt) for attempt in going))
    await asyncio.gather(*(attempt.finish() for attempt in attempts))


LATENCIES: dict[str, Callable[[random.Random], float]] = {
    "none": lambda rng: 0.0,
    "light: uniform 50 to 150 ms": lambda rng: rng.uniform(0.05, 0.15),
    "heavy-tailed: Pareto(1.2) from 50 ms, 10 s at most": lambda rng: min(10.0, 0.05 * rng.paretovariate(1.2)),
}


def latency(options: argparse.Namespace) -> dict[str, Any]:
    """Clock seconds of both ways, in turn, the best of each: by tool latency."""
    found: dict[str, Any] = {}
    options = argparse.Namespace(**{**vars(options), "turns": 2 * options.turns})  # as many tokens in more turns
    with tempfile.TemporaryDirectory() as folder:
        chat = build(Path(folder))
        for name, draw in LATENCIES.items():
            environment("delphi").latency = draw  # type: ignore[attr-defined]
            seconds: dict[str, list[float]] = {"asynchronous": [], "lock-step": []}
            for _ in range(options.repeat):
                for way, drive in (("asynchronous", free_running), ("lock-step", lock_step)):
                    seconds[way].append(asyncio.run(_timed_engine(Path(folder), chat, jobs(options), drive)))
            best = {way: min(values) for way, values in seconds.items()}
            found[name] = {
                **{f"{way}_s": round(value, 2) for way, value in best.items()},
                "ratio": round(best["lock-step"] / best["asynchronous"], 2),
            }
        environment("delphi").latency = LATENCIES["none"]  # type: ignore[attr-defined]
    return found


async def _timed_engine(
    folder: Path, chat: ChatFormat, asked: Sequence[RolloutJob], drive: Callable[..., Awaitable[None]]
) -> float:
    from journeyman.rollout.torch_sampler import TorchEngine

    engine = TorchEngine(folder, compute(), MAX_LENGTH)
    started = time.perf_counter()
    await drive(Agent(Ended(engine), chat, MAX_LENGTH), asked)  # type: ignore[arg-type]
    seconds = time.perf_counter() - started
    await engine.close()
    return seconds


def compute() -> ComputeConfig:
    return ComputeConfig(device="cpu", dtype="float32", threads=1, sampler=TorchSampler(slots=128))


def cpu_seconds() -> float:
    """Of this process and of the children that it waited for."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def throughput(options: argparse.Namespace) -> dict[str, Any]:
    """Generated tokens per CPU-second on one thread: each way `repeat` times in turn, the best of each."""
    torch.set_num_threads(1)
    ways = {"torch sampler": _sample, "transformers generate": _generate, "TRL's GRPO tool loop": _trl}
    with tempfile.TemporaryDirectory() as folder:
        chat = build(Path(folder))
        rates: dict[str, list[float]] = {}
        for _ in range(options.repeat):
            for name, way in ways.items():
                run = way(Path(folder), chat, options)
                started = cpu_seconds()
                tokens = run()
                rates.setdefault(name, []).append(tokens / (cpu_seconds() - started))
        if options.vllm:
            rates["vLLM"] = [_vllm(options, Path(folder))]
    best = {name: max(values) for name, values in rates.items()}
    specs = [tool.spec() for tool in environment("delphi").tools().values()]
    return {
        "prompt_tokens": len(chat.prompt(problem(0).question, specs)),
        "tokens_per_cpu_s": {name: round(rate) for name, rate in best.items()},
        "spread": {name: round(max(values) / min(values), 2) for name, values in rates.items()},
        "torch_sampler_over": {
            name: round(best["torch sampler"] / rate, 1) for name, rate in best.items() if name != "torch sampler"
        },
    }


def _sample(folder: Path, chat: ChatFormat, options: argparse.Namespace) -> Callable[[], int]:
    from journeyman.rollout.torch_sampler import TorchEngine

    engine = TorchEngine(folder, compute(), MAX_LENGTH)

    def run() -> int:
        counted = Ended(engine)
        asyncio.run(free_running(Agent(counted, chat, MAX_LENGTH), jobs(options)))  # type: ignore[arg-type]
        return counted.tokens

    return run


def _generate(folder: Path, chat: ChatFormat, options: argparse.Namespace) -> Callable[[], int]:
    """Turn by turn in one static batch; every turn starts from the first token, as `generate` has no cache to hand on."""
    model = Qwen3ForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()
    specs, seen = [tool.spec() for tool in environment("delphi").tools().values()], chat.observation([ANSWER])

    @torch.inference_mode()
    def run() -> int:
        rows = [chat.prompt(job.problem.question, specs) for job in jobs(options)]
        tokens = 0
        for _ in range(options.turns):
            longest = max(map(len, rows))
            ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
            mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
            out = model.generate(  # type: ignore[operator]
                ids,
                attention_mask=mask,
                do_sample=True,
                top_k=0,
                max_new_tokens=options.new_tokens // options.turns,
                eos_token_id=chat.end_id,
                pad_token_id=chat.end_id,
            )
            made = [_up_to_end(row, chat.end_id) for row in out[:, longest:].tolist()]
            tokens += sum(map(len, made))
            rows = [[*row, *new, *seen] for row, new in zip(rows, made, strict=True)]
        return tokens

    return run


def _up_to_end(row: list[int], end: int) -> list[int]:
    return row[: row.index(end) + 1] if end in row else row


def _trl(folder: Path, chat: ChatFormat, options: argparse.Namespace) -> Callable[[], int]:
    """GRPOTrainer's own generation with its tool loop; a call is read into every turn there too, at no cost to it."""
    import trl.trainer.grpo_trainer as grpo
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    called = {"role": "assistant", "content": "", "tool_calls": [_openai(CALL)]}
    grpo.parse_response = lambda *_, **__: dict(called)

    def oracle(question: str) -> str:
        """Ask the oracle.

        Args:
            question: what to ask.
        """
        return ANSWER

    asked = [[{"role": "user", "content": job.problem.question}] for job in jobs(options)]
    count = options.problems * options.group
    settings = GRPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=count,
        num_generations=options.group,
        max_completion_length=MAX_LENGTH,
        max_tool_calling_iterations=options.turns - 1,
        temperature=1.0,
        use_cpu=True,
        bf16=False,
        report_to=[],
        gradient_checkpointing=False,
    )
    chat.tokenizer.response_schema = {"type": "object"}  # anything: the parser is replaced
    trainer = GRPOTrainer(
        model=Qwen3ForCausalLM.from_pretrained(folder),
        args=settings,
        train_dataset=Dataset.from_dict({"prompt": asked[:1]}),
        reward_funcs=lambda **_: [0.0],
        processing_class=chat.tokenizer,
        tools=[oracle],
    )
    trainer.generation_config.max_new_tokens = options.new_tokens // options.turns
    trainer.model.eval()

    def run() -> int:
        trainer.num_generations_eval = options.group
        trainer._sync_tool_dicts, trainer._async_tool_dicts = [{"oracle": oracle}] * count, [{}] * count
        _, _, tool_mask, *_ = trainer._generate(asked)
        return sum(map(sum, tool_mask))

    return run


def _openai(call: ToolCall) -> dict[str, Any]:
    return {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}


def _vllm(options: argparse.Namespace, folder: Path) -> float:
    """The same job in the vLLM environment, as a process of its own."""
    words = [options.vllm, __file__, "--part", "vllm", "--model", str(folder)]
    words += ["--problems", str(options.problems), "--group", str(options.group), "--repeat", str(options.repeat)]
    environment_variables = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    made = subprocess.run(words, env=environment_variables, capture_output=True, text=True, check=False)
    if made.returncode:
        sys.exit(f"vLLM: {made.stderr[-2000:]}")
    return json.loads(made.stdout.splitlines()[-1])["vllm"]["tokens_per_cpu_s"]


def vllm(options: argparse.Namespace) -> dict[str, Any]:
    """In the vLLM environment only."""
    from transformers import AutoTokenizer

    from journeyman.rollout.vllm_sampler import VllmEngine

    folder = Path(options.model)
    chat = Asking(AutoTokenizer.from_pretrained(folder))
    settings = ComputeConfig(device="cpu", threads=1, sampler=VllmSampler(python=sys.executable))

    async def run() -> float:
        engine = VllmEngine(folder, settings, MAX_LENGTH)
        rates = []
        for _ in range(options.repeat + 1):
            counted, started = Ended(engine), _tree_seconds()
            await free_running(Agent(counted, chat, MAX_LENGTH), jobs(options))  # type: ignore[arg-type]
            rates.append(counted.tokens / (_tree_seconds() - started))
        await engine.close()
        return max(rates[1:])

    return {"tokens_per_cpu_s": asyncio.run(run())}


def _tree_seconds() -> float:
    """CPU seconds of this process and of those it started, which still run: vLLM may keep its engine in one."""
    import psutil

    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def overhead(options: argparse.Namespace) -> dict[str, Any]:
    """CPU milliseconds of the loop itself, with a sampler that costs nothing: a turn, and a call more in it."""

    class Silent(ChatFormat):
        times = 1

        def parse(self, text: str, specs: Sequence[Mapping[str, Any]] = ()) -> ParsedTurn:
            read = super().parse(text, specs)
            return replace(read, calls=read.calls * self.times)

    with tempfile.TemporaryDirectory() as folder:
        tokenizer = build(Path(folder)).tokenizer
    chat = Silent(tokenizer)
    written = chat.turn(
        '<think>I ask.</think>\n<tool_call>\n{"name": "oracle", "arguments": {"question": "?"}}\n</tool_call>'
    )
    found = {}
    for calls in (1, 2):
        chat.times = calls
        asked = [replace(job, max_turns=8, max_new_tokens=len(written)) for job in jobs(options)]
        agent = Agent(Instant(written), chat, 100_000)  # type: ignore[arg-type]
        asyncio.run(free_running(agent, asked[:8]))
        times = []
        for _ in range(options.repeat):
            started = time.process_time()
            asyncio.run(free_running(agent, asked))
            times.append((time.process_time() - started) / (len(asked) * 8) * 1000)
        found[calls] = min(times)
    return {"turn_with_a_call_ms": round(found[1], 3), "one_call_more_ms": round(found[2] - found[1], 3)}


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Resident MiB after each wave of concurrent attempts whose sampler and tool both wait."""
    import gc

    with tempfile.TemporaryDirectory() as folder:
        chat = build(Path(folder))
    environment("delphi").latency = lambda rng: rng.uniform(0.05, 0.5)  # type: ignore[attr-defined]
    agent = Agent(Instant(chat.turn("and so on " * 20), 0.02), chat, 100_000)  # type: ignore[arg-type]
    asked = [
        RolloutJob(problem=problem(number), seed=number, max_turns=6, max_new_tokens=400)
        for number in range(options.concurrent)
    ]

    async def wave() -> list[Trajectory]:
        return await asyncio.gather(*(agent.attempt(job) for job in asked))

    resident, seconds = [], []
    for _ in range(options.repeat + 2):
        started = time.perf_counter()
        made = asyncio.run(wave())
        seconds.append(time.perf_counter() - started)
        tokens = sum(len(t.token_ids) for t in made)
        del made
        gc.collect()
        resident.append(_resident_mib())
    environment("delphi").latency = LATENCIES["none"]  # type: ignore[attr-defined]
    return {
        "concurrent": len(asked),
        "tokens_a_wave": tokens,
        "wave_s": round(statistics.median(seconds), 1),
        "resident_mib_after_each_wave": resident,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _resident_mib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20)


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "latency": latency,
    "throughput": throughput,
    "overhead": overhead,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=[*PARTS, "vllm"], help="only this one")
    parser.add_argument("--problems", type=int, default=16)
    parser.add_argument("--group", type=int, default=8, help="attempts at a problem")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=96, help="of an attempt, all turns together")
    parser.add_argument("--concurrent", type=int, default=2000, help="attempts at once, in part memory")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--vllm", metavar="PYTHON", help="interpreter of the vLLM environment, to have it compared too")
    parser.add_argument("--model", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.set_verbosity_error()
    ENVIRONMENTS["delphi"] = Delphi
    parts = {options.part: PARTS.get(options.part, vllm)} if options.part else PARTS
    print(
        json.dumps({name: part(options) for name, part in parts.items()}, indent=None if options.part == "vllm" else 1)
    )


if __name__ == "__main__":
    main()
