"""Real vLLM, in its own environment, behind a Ray actor: parity with a plain forward pass, weight sync, a clean end."""

import asyncio
import copy
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from journeyman.actors import RayWorkers
from journeyman.actors.remote import DeferredStart, RemoteActor
from journeyman.actors.workers import sampler_environment
from journeyman.config import ComputeConfig, OptimizerConfig, VllmSampler
from journeyman.errors import ConfigError
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.training.handle import LearnerSpec, Row
from journeyman.training.model import load_tokenizer
from journeyman.training.sft import OBJECTIVE
from journeyman.training.sync import sync_weights
from tests.unit.fakes import MAX_LENGTH as WORLD_LENGTH
from tests.unit.fakes import make_world

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

PYTHON = Path(VllmSampler().python).absolute()

pytestmark = [
    pytest.mark.integration,
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not PYTHON.is_file(), reason=f"no vLLM environment at {PYTHON}: make vllm"),
]

COMPUTE = ComputeConfig(device="cpu", dtype="float32", sampler=VllmSampler(python=str(PYTHON)))
MAX_LENGTH, VOCABULARY = 96, 384
TEMPERATURES = (1.0, 0.7, 0.0)
ENDS_WITHIN_S = 20.0


class Engine:
    """The engine alone, without the agent loop."""

    def __init__(self, model: Path) -> None:
        from journeyman.rollout.vllm_sampler import VllmEngine

        self._engine = VllmEngine(model, COMPUTE, MAX_LENGTH)

    async def generate(self, requests: Sequence[SampleRequest]) -> list[Completion]:
        return list(await asyncio.gather(*(self._engine.generate(request) for request in requests)))

    async def load_weights(self, weights: "dict[str, torch.Tensor]", version: int) -> None:
        await self._engine.load_weights(weights, version)

    async def generate_around(
        self, requests: Sequence[SampleRequest], weights: "dict[str, torch.Tensor]", version: int
    ) -> tuple[list[Completion], list[Completion]]:
        """The same requests just before a weight load and just behind it, none of which waits for the other."""
        before = asyncio.gather(*(self._engine.generate(request) for request in requests))
        await asyncio.sleep(0)
        load = asyncio.create_task(self._engine.load_weights(weights, version))
        await asyncio.sleep(0)
        after = asyncio.gather(*(self._engine.generate(request) for request in requests))
        await load
        return list(await before), list(await after)

    async def generate_interrupted(self, requests: Sequence[SampleRequest], after_s: float) -> list[Completion]:
        """Completions as far as they are after some time."""
        asked = asyncio.gather(*(self._engine.generate(request) for request in requests))
        await asyncio.sleep(after_s)
        await self._engine.interrupt()
        return list(await asked)

    async def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        return await self._engine.score(rows)

    async def close(self) -> None:
        await self._engine.close()

    async def process(self) -> tuple[int, str]:
        return os.getpid(), sys.executable


class EngineActor(DeferredStart, Engine):
    """The engine as a Ray actor."""


@dataclass(frozen=True, slots=True)
class Case:
    """A running engine and the same model here."""

    actor: RemoteActor
    model: "PreTrainedModel"
    tied: bool


@pytest.fixture(scope="module")
def workers() -> Iterator[RayWorkers]:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # actors can't import a test module
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with RayWorkers(COMPUTE, max_length=WORLD_LENGTH, run="test") as workers:
            yield workers
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def case(
    request: pytest.FixtureRequest, workers: RayWorkers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    """Module-wide, for an engine takes long to start; tests that load weights come last."""
    folder = tmp_path_factory.mktemp("model")
    model = make_model(folder, tied=request.param)
    options = {"num_cpus": 1, "runtime_env": sampler_environment(COMPUTE)}
    actor = RemoteActor(EngineActor, (folder,), name="engine", options=options)
    yield Case(actor, model, request.param)
    actor.kill()


def make_model(
    folder: Path, *, tied: bool, vocabulary: int = VOCABULARY, max_length: int = MAX_LENGTH
) -> "PreTrainedModel":
    """A small Qwen3 with weights large enough for uneven distributions, written to a folder."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=max_length,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config).eval()
    disturb(model, 0.1)
    model.save_pretrained(folder)
    return model


def disturb(model: "PreTrainedModel", size: float) -> None:
    import torch

    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(size * torch.randn_like(weights))


def prompts(count: int) -> list[tuple[int, ...]]:
    """Of all lengths, the longest that leaves room for one token included; some begin alike."""
    draw = random.Random(0)
    common = tuple(draw.randrange(VOCABULARY) for _ in range(40))
    own = [tuple(draw.randrange(VOCABULARY) for _ in range(draw.randrange(1, 50))) for _ in range(count - 2)]
    return [(3,), (*common, *common[::-1], *common[:15]), *(common + ids if len(ids) % 2 else ids for ids in own)]


def requests(count: int, temperature: float) -> list[SampleRequest]:
    return [
        SampleRequest(prompt_ids=ids, max_new_tokens=24, temperature=temperature, seed=seed)
        for seed, ids in enumerate(prompts(count))
    ]


def plain(model: "PreTrainedModel", ids: Sequence[int], temperature: float = 1.0) -> list[float]:
    """Log-probabilities of tokens 1..T-1 by a forward pass."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1] / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()


def check_completions(
    model: "PreTrainedModel", wanted: Sequence[SampleRequest], completions: Sequence[Completion], *, version: int
) -> None:
    for request, completion in zip(wanted, completions, strict=True):
        prompt = request.prompt_ids
        expected = plain(model, [*prompt, *completion.token_ids], request.temperature or 1.0)
        assert completion.logprobs == pytest.approx(expected[len(prompt) - 1 :], abs=1e-4)
        assert len(completion.token_ids) == min(request.max_new_tokens, MAX_LENGTH - len(prompt))
        assert not completion.stopped
        assert completion.policy_version == version


def check_parity(case: Case, *, version: int) -> None:
    for temperature in TEMPERATURES:
        wanted = requests(16, temperature)
        check_completions(case.model, wanted, case.actor.call("generate", wanted), version=version)
    rows = [list(ids) for ids in prompts(8)] + [[7] * MAX_LENGTH, [5]]
    for row, scores in zip(rows, case.actor.call("score", rows), strict=True):
        assert len(scores) == len(row) - 1
        assert scores == pytest.approx(plain(case.model, row), abs=1e-4)


def test_heads_that_vllm_has_no_kernel_for_are_refused(workers: RayWorkers, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no attention heads of size 16(.|\n)*take one of 32, 64"):
        workers.samplers(make_world(tmp_path).model).score([[1, 2]])


def test_it_runs_in_its_own_environment(case: Case) -> None:
    _, python = case.actor.call("process")
    assert Path(python) == PYTHON


def test_logprobs_agree_with_a_forward_pass(case: Case) -> None:
    check_parity(case, version=0)


def test_greedy_takes_the_likeliest_token(case: Case) -> None:
    import torch

    (completion,) = case.actor.call("generate", requests(1 + 2, 0.0)[2:])
    ids = [*prompts(3)[2], *completion.token_ids]
    with torch.no_grad():
        likeliest = case.model(torch.tensor([ids])).logits[0].argmax(-1).tolist()
    assert list(completion.token_ids) == likeliest[len(ids) - len(completion.token_ids) - 1 : -1]


def test_a_seed_gives_the_same_tokens_in_any_company(case: Case) -> None:
    together = case.actor.call("generate", requests(12, 1.0))
    alone = [case.actor.call("generate", [request])[0] for request in requests(12, 1.0)[:4]]
    assert [completion.token_ids for completion in alone] == [completion.token_ids for completion in together[:4]]
    same = SampleRequest(prompt_ids=(1, 2, 3), max_new_tokens=24)
    others = [SampleRequest(prompt_ids=(1, 2, 3), max_new_tokens=24, seed=2**63 + seed) for seed in (1, 2)]
    first, again, *different = case.actor.call("generate", [same, same, *others])
    assert first.token_ids == again.token_ids
    assert len({first.token_ids, *(completion.token_ids for completion in different)}) == 3


def test_many_long_prompts_at_once(case: Case) -> None:
    """More tokens than one forward pass takes; a prompt computed in pieces would bring a seeded request down."""
    wanted = [SampleRequest(prompt_ids=(seed, *range(90)), max_new_tokens=3, seed=seed) for seed in range(150)]
    completions = case.actor.call("generate", wanted)
    assert [len(completion.token_ids) for completion in completions] == [3] * 150


def test_it_ends_with_a_stop_id(case: Case) -> None:
    request = SampleRequest(prompt_ids=(4, 5, 6), max_new_tokens=40, seed=9)
    (free,) = case.actor.call("generate", [request])
    place = next(i for i in range(5, 40) if free.token_ids[i] not in free.token_ids[:i])
    stopping = replace(request, stop_ids=(free.token_ids[place],))
    (completion,) = case.actor.call("generate", [stopping])
    assert completion.token_ids == free.token_ids[: place + 1]
    assert completion.stopped


@pytest.mark.parametrize(
    ("prompt", "wrong"), [((), "needs a prompt"), ((1,) * MAX_LENGTH, f"{MAX_LENGTH} is the most")], ids=["no", "long"]
)
def test_wrong_requests_are_refused(case: Case, prompt: tuple[int, ...], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        case.actor.call("generate", [SampleRequest(prompt_ids=prompt, max_new_tokens=1)])


def test_an_interrupted_completion_can_go_on(case: Case) -> None:
    request = SampleRequest(prompt_ids=(1, 2, 3), max_new_tokens=90)
    for after_s in (0.0, 0.05, 0.1, 0.2):
        (piece,) = case.actor.call("generate_interrupted", [request], after_s)
        if piece.interrupted and piece.token_ids:
            break
    assert piece.interrupted and not piece.stopped and 0 < len(piece.token_ids) < 90
    rest = replace(request, prompt_ids=(1, 2, 3, *piece.token_ids), max_new_tokens=90 - len(piece.token_ids), seed=5)
    (end,) = case.actor.call("generate", [rest])
    assert not end.interrupted and len(piece.token_ids) + len(end.token_ids) == 90
    expected = plain(case.model, [1, 2, 3, *piece.token_ids, *end.token_ids])[2:]
    assert [*piece.logprobs, *end.logprobs] == pytest.approx(expected, abs=1e-4)


def test_weights_are_taken_whole_and_at_once(case: Case) -> None:
    """Requests that are under way end with the old weights, those behind them begin with the new."""
    old = copy.deepcopy(case.model)
    disturb(case.model, 0.1)
    wanted = requests(12, 1.0)
    before, after = case.actor.call("generate_around", wanted, dict(case.model.state_dict()), 3)
    check_completions(old, wanted, before, version=0)
    check_completions(case.model, wanted, after, version=3)
    check_parity(case, version=3)


def test_weights_of_another_model_are_refused(case: Case) -> None:
    weights = dict(case.model.named_parameters())
    name, *_ = weights
    for wrong, message in (
        ({key: value for key, value in weights.items() if key != name}, f"missing: {name}"),
        ({**weights, "model.one_more": weights[name]}, "unexpected: model.one_more"),
        ({**weights, name: weights[name][1:]}, f"of another shape: {name}"),
    ):
        with pytest.raises(ValueError, match=message):
            case.actor.call("load_weights", wrong, 4)


def test_nothing_is_left_of_an_engine(case: Case) -> None:
    """The last test of a case."""
    pid, _ = case.actor.call("process")
    family = psutil.Process(pid).children(recursive=True)
    engine = [process for process in family if "EngineCore" in process.name()]
    assert engine
    if case.tied:
        case.actor.call("close")
        assert_gone(engine)
    case.actor.kill()
    assert_gone(family)


def assert_gone(family: list[psutil.Process]) -> None:
    deadline = time.monotonic() + ENDS_WITHIN_S
    while left := [process for process in family if process.is_running() and process.status() != "zombie"]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)


def test_a_learner_and_vllm_samplers_work_together(workers: RayWorkers, tmp_path: Path) -> None:
    world = make_world(tmp_path)
    make_model(world.model, tied=True, vocabulary=len(load_tokenizer(world.model)), max_length=WORLD_LENGTH)
    optimizer = OptimizerConfig(type="adamw", learning_rate=1e-2)
    learner = workers.learner(
        LearnerSpec(model=world.model, optimizer=optimizer, total_steps=4, microbatch_tokens=4096, seed=0)
    )
    pool = workers.samplers(world.model)
    jobs = [
        RolloutJob(problem=problem, sample=i, seed=i, max_new_tokens=16) for problem in world.train[:8] for i in (0, 1)
    ]
    found = pool.rollout(jobs)
    assert [(t.problem_id, t.sample) for t in found] == [(job.problem.id, job.sample) for job in jobs]
    rows = [Row(token_ids=t.token_ids, mask=t.loss_mask) for t in found]
    for version in (1, 2):
        learner.step(rows, OBJECTIVE)
        assert (
            sync_weights(learner, pool, version=version, probe=[row.token_ids for row in rows[:4]], tolerance=0) < 1e-4
        )
    after = pool.rollout(jobs)
    assert {t.policy_version for t in after} == {2}
    assert [t.token_ids for t in after] == [t.token_ids for t in pool.rollout(jobs)]
    assert [t.token_ids for t in after] != [t.token_ids for t in found]
