"""Stand-ins of the unit tests: a sampler that writes given texts, a tiny world with a tiny model, makers of data."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from journeyman.config import (
    ComputeConfig,
    GeneratedProblems,
    PipelineConfig,
    ScratchModel,
    ScriptedTeacherConfig,
    SynthesizeConfig,
)
from journeyman.environments import Generator, environment, tools_named
from journeyman.problem import Problem
from journeyman.progress import Silent
from journeyman.rewards import Score
from journeyman.rollout.chat import ChatFormat
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.synthesis.problems import read_problems
from journeyman.synthesis.stage import synthesize
from journeyman.training.model import load_tokenizer, make_base
from journeyman.trajectory import StopReason, ToolCall, ToolResult, Trajectory, Turn, read_trajectories

MAX_LENGTH = 384
COMPUTE = ComputeConfig(device="cpu", dtype="float32")
SMALL = ScratchModel(
    hidden_size=32,
    layers=2,
    heads=2,
    kv_heads=1,
    head_dim=16,
    feed_forward=64,
    vocabulary=400,
    max_length=MAX_LENGTH,
)


class ScriptedSampler:
    """A Sampler that writes given texts, one a request, whatever it is asked; it keeps the requests."""

    def __init__(self, chat: ChatFormat, texts: Sequence[str]) -> None:
        self._chat, self._texts = chat, list(texts)
        self.requests: list[SampleRequest] = []

    async def generate(self, request: SampleRequest) -> Completion:
        self.requests.append(request)
        written = self._chat.turn(self._texts.pop(0))
        ids = tuple(written[: request.max_new_tokens])
        return Completion(
            token_ids=ids,
            logprobs=tuple(-0.01 * (i + 1) for i in range(len(ids))),
            stopped=ids[-1] in request.stop_ids,
            policy_version=10 - len(self.requests),
        )

    async def load_weights(self, weights: Mapping[str, Any], version: int) -> None: ...

    async def interrupt(self) -> None: ...

    async def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        return [[0.0] * (len(row) - 1) for row in rows]

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the tests of training share: a few synthesized problems, and an untrained model for them."""

    config: PipelineConfig
    synthesized: Path
    """Artifact folder of the synthesize stage."""
    model: Path
    """Model folder."""
    chat: ChatFormat
    demonstrations: tuple[Trajectory, ...]
    train: tuple[Problem, ...]


def make_world(folder: Path) -> World:
    config = PipelineConfig(
        model=SMALL,
        problems=GeneratedProblems(train=60, dev=12, heldout=12),
        compute=COMPUTE,
        synthesize=SynthesizeConfig(demonstrations=60, teacher=ScriptedTeacherConfig(broken=0.1)),
    )
    synthesized, model = folder / "synthesized", folder / "model"
    synthesize(config, synthesized, Silent())
    demonstrations = read_trajectories(synthesized / "demonstrations.parquet")
    write_model(model, demonstrations)
    return World(
        config=config,
        synthesized=synthesized,
        model=model,
        chat=ChatFormat(load_tokenizer(model)),
        demonstrations=tuple(demonstrations),
        train=tuple(read_problems(synthesized / "problems" / "train.parquet")),
    )


def write_model(folder: Path, demonstrations: Sequence[Trajectory]) -> None:
    """The tiny model, untrained, with a tokenizer trained on demonstrations."""
    tools = tools_named(demonstrations[0].family, demonstrations[0].tools)
    make_base(
        SMALL,
        folder,
        texts=[text for t in demonstrations for text in (t.question, *(turn.text for turn in t.turns))],
        specs=[tool.spec() for tool in tools.values()],
        phrases=[phrase for family in ("arithmetic", "lookup", "tables") for phrase in environment(family).phrases],
        seed=1,
    )


def problem(question: str = "What is 6 times 7?", answer: str = "42", **fields: Any) -> Problem:
    return Problem(
        **{
            "id": f"id of {question}",
            "family": "arithmetic",
            "question": question,
            "answer": answer,
            "tools": ("calculator",),
            "min_calls": 1,
            **fields,
        }
    )


def trajectory(*, calls: int = 1, tokens: int = 4, **fields: Any) -> Trajectory:
    """A sampled trajectory: `calls` turns with a call each, then an answer; of its tokens all but the first are learned."""
    call = ToolCall(name="calculator", arguments={"expression": "6*7"})
    called = Turn(text="", calls=(call,), results=(ToolResult(name="calculator", ok=True, output="42"),))
    made: dict[str, Any] = {
        "id": "t",
        "problem_id": "p",
        "family": "arithmetic",
        "question": "What is 6 times 7?",
        "reference": "42",
        "tools": ("calculator",),
        "min_calls": 1,
        "turns": (*[called] * calls, Turn(text="<answer>42</answer>")),
        "stop_reason": StopReason.ANSWER,
        "answer": "42",
        "source": "policy",
        "token_ids": tuple(range(tokens)),
        "loss_mask": (0, *[1] * (tokens - 1)),
        "logprobs": (0.0, *[-1.0] * (tokens - 1)),
        "correct": True,
    }
    return Trajectory(**{**made, **fields})


def some(family: str, count: int, seed: int = 0) -> list[Problem]:
    """The first problems of a family's stream, with the family's own tools."""
    maker = environment(family)
    assert isinstance(maker, Generator)
    tools = tuple(maker.tools())
    return [replace(made, tools=tools) for made in islice(maker.generate(random.Random(seed)), count)]


def call(tool: Any, **arguments: Any) -> ToolResult:
    """A tool's result."""
    return asyncio.run(tool.call(arguments))


def oddness(group: Sequence[Trajectory]) -> list[Score]:
    """The share of odd ids among the sampled: something that differs within every group."""
    shares = [sum(i % 2 for i, m in zip(t.token_ids, t.loss_mask, strict=True) if m) / sum(t.loss_mask) for t in group]
    return [Score(total=share, parts={"odd": share}) for share in shares]
