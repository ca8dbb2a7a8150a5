"""Real Ray actors: what they return, what becomes of lost ones, and that nothing of them is left over."""

import asyncio
import os
import random
import secrets
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
import torch
from ray import cloudpickle
from safetensors.torch import load_file

from journeyman.actors import InlineWorkers, RayWorkers
from journeyman.actors.pool import RayPool
from journeyman.actors.remote import DeferredStart, RemoteActor
from journeyman.config import ComputeConfig, OptimizerConfig, RlConfig, VllmSampler
from journeyman.environments import environment
from journeyman.errors import ConfigError, InfrastructureError, WeightSyncError
from journeyman.problem import Problem
from journeyman.progress import Silent
from journeyman.rewards import REWARDS
from journeyman.rollout.job import RolloutJob
from journeyman.training.handle import LearnerSpec, Row
from journeyman.training.reinforce import Inputs, run_rl
from journeyman.training.sft import OBJECTIVE
from journeyman.training.sync import sync_weights
from journeyman.training.workers import Workers
from journeyman.trajectory import read_trajectories
from tests.unit.fakes import COMPUTE, MAX_LENGTH, make_world, oddness

pytestmark = pytest.mark.integration

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # actors can't import a test module

ENDS_WITHIN_S = 20.0
HEAD = """
    import ray, sys
    ray.init(address="local", num_cpus=3, include_dashboard=False, object_store_memory=100 * 2**20,
             _system_config={"prestart_worker_first_driver": False, "worker_niceness": 0})
    print("READY", ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""
STAGE = """
    import asyncio, os, signal, sys, time
    from concurrent.futures import ThreadPoolExecutor
    from journeyman.actors import RayWorkers
    from journeyman.actors.pool import RayPool
    from journeyman.actors.remote import DeferredStart, RemoteActor
    from journeyman.config import ComputeConfig

    class Cancelled(Exception):
        pass

    def cancel(number, frame):
        raise Cancelled

    class Sleeper:
        async def rollout(self, jobs):
            await asyncio.sleep(600)

        async def pid(self):
            return os.getpid()

    class SleeperActor(DeferredStart, Sleeper):
        pass

    owned = sys.argv[2] == "owned"
    if owned:
        signal.signal(signal.SIGTERM, cancel)
    try:
        with RayWorkers(ComputeConfig(address=sys.argv[1] or None), max_length=64, run="test") as workers:
            assert not owned or signal.getsignal(signal.SIGTERM) is cancel
            pool = RayPool(lambda: RemoteActor(SleeperActor, (), name="sleeper", options={"num_cpus": 1}), 2)
            workers._pool = pool
            ahead = ThreadPoolExecutor().submit(pool.rollout, list(range(8)))  # a thread that is waited for at the end
            time.sleep(1)
            print("READY", *(actor.call("pid") for actor in pool._actors), flush=True)
            ahead.result()
    except Cancelled:
        print("CANCELLED", flush=True)
"""


def start(program: str, *arguments: str, token: str = "") -> tuple[subprocess.Popen, str]:
    """Run a program until it says READY; the process and what it said with that."""
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | secret,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("READY"):
            return process, line.removeprefix("READY").strip()
    raise RuntimeError(f"ended with {process.wait()} before it was ready")


@pytest.fixture(scope="module", autouse=True)
def local() -> Iterator[None]:
    """One local cluster for all tests in this process: those that come after find it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with RayWorkers(ComputeConfig(samplers=2), max_length=MAX_LENGTH, run="test"):
            yield


@pytest.fixture
def workers() -> Iterator[RayWorkers]:
    with RayWorkers(COMPUTE.model_copy(update={"samplers": 2}), max_length=MAX_LENGTH, run="test") as workers:
        yield workers


@dataclass(frozen=True)
class Answer:
    """What the stand-in returns in place of a trajectory."""

    seed: int
    pid: int
    version: int


class StandIn:
    """A rollout worker without a model. A job of seed 5 kills it as often as the file `lives` has letters.

    Jobs take as long as their `max_seconds`.
    """

    def __init__(self, lives: Path, error: Exception | None = None) -> None:
        if error is not None:
            raise error
        self._lives, self._version = lives, 0

    async def rollout(self, jobs: list[RolloutJob]) -> list[Answer]:
        if any(job.seed == 5 for job in jobs) and (left := self._lives.read_text()):
            self._lives.write_text(left[1:])
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(max((job.max_seconds or 0.0 for job in jobs), default=0.0))
        return [Answer(job.seed, os.getpid(), self._version) for job in jobs]

    async def load_weights(self, weights: dict, version: int) -> None:
        self._version = version

    async def score(self, rows: list[list[int]]) -> list[list[float]]:
        raise WeightSyncError(f"scored {len(rows)}")


class StandInActor(DeferredStart, StandIn):
    """The stand-in as a Ray actor."""


def stand_ins(lives: Path, count: int = 2) -> RayPool:
    return RayPool(lambda: RemoteActor(StandInActor, (lives,), name="stand-in", options={"num_cpus": 1}), count)


def problems(count: int) -> list[Problem]:
    stream = environment("arithmetic").generate(random.Random(0))
    return [replace(next(stream), tools=("calculator",)) for _ in range(count)]


def jobs(count: int) -> list[RolloutJob]:
    return [RolloutJob(problem=problem, seed=seed, max_new_tokens=16) for seed, problem in enumerate(problems(count))]


def test_trajectories_come_in_order_from_all_workers(tmp_path: Path) -> None:
    (tmp_path / "lives").write_text("")
    pool = stand_ins(tmp_path / "lives")
    answers = pool.rollout(jobs(21))
    assert [answer.seed for answer in answers] == list(range(21))
    assert len({answer.pid for answer in answers}) == 2
    assert pool.rollout([]) == []
    pool.kill()


def test_a_lost_worker_is_replaced_and_has_the_weights(tmp_path: Path) -> None:
    (tmp_path / "lives").write_text("xx")
    pool = stand_ins(tmp_path / "lives")
    pool.load_weights({}, 7)
    before = {actor.call("rollout", jobs(1))[0].pid for actor in pool._actors}
    answers = pool.rollout(jobs(12))
    assert [answer.seed for answer in answers] == list(range(12))
    assert {answer.version for answer in answers} == {7}
    assert {answer.pid for answer in answers} - before, "somebody new did the lost work"
    pool.kill()


def test_threads_that_lose_the_same_worker_get_one_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "lives").write_text("")
    made = list[RemoteActor]()

    def make() -> RemoteActor:
        made.append(RemoteActor(StandInActor, (tmp_path / "lives",), name="stand-in", options={"num_cpus": 0.5}))
        return made[-1]

    pool = RayPool(make, 2)
    pool.load_weights({}, 7)
    with ThreadPoolExecutor(4) as threads:
        slow = [threads.submit(pool.rollout, [replace(job, max_seconds=1.0) for job in jobs(4)]) for _ in range(4)]
        time.sleep(0.3)
        made[0].kill()
        answers = [one.result() for one in slow]
    assert len(made) == 3 and made[0] not in pool._actors
    assert [[answer.seed for answer in one] for one in answers] == [[0, 1, 2, 3]] * 4
    assert {answer.version for one in answers for answer in one} == {7}
    assert {answer.pid for one in answers for answer in one} == {
        actor.call("rollout", jobs(1))[0].pid for actor in made[1:]
    }
    pool.kill()


def test_threads_that_wait_for_a_pool_that_ends_are_told_and_make_nothing_new(tmp_path: Path) -> None:
    (tmp_path / "lives").write_text("")
    pool = stand_ins(tmp_path / "lives")
    pool.load_weights({}, 1)  # they are up
    with ThreadPoolExecutor(2) as threads:
        slow = [threads.submit(pool.rollout, [replace(job, max_seconds=60.0) for job in jobs(4)]) for _ in range(2)]
        time.sleep(0.3)
        before = list(pool._actors)
        pool.kill()
        for one in slow:
            with pytest.raises(InfrastructureError, match="the samplers have ended"):
                one.result(timeout=5)
    assert pool._actors == before


class Killing(Silent):
    """Kills one of the samplers behind the first step, while attempts at later ones are under way."""

    def __init__(self, workers: RayWorkers) -> None:
        self._workers = workers

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        if step == 1:
            assert self._workers._pool is not None
            self._workers._pool._actors[1].kill()


def test_sampling_ahead_outlives_a_worker(workers: RayWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REWARDS, "odd", oddness)
    world = make_world(tmp_path)
    fields = {"steps": 3, "problems": 2, "group": 4, "minibatch": 8, "max_turns": 2, "max_new_tokens": 12}
    run_rl(
        world.config,
        RlConfig.model_validate(
            {"name": "ahead", "reward": "odd", "asynchrony": {"staleness": 1, "partial": True}, **fields}
        ),
        Inputs(policy=world.model, problems=world.synthesized),
        out=tmp_path / "out",
        work=tmp_path / "work",
        workers=workers,
        observer=Killing(workers),
    )
    made = read_trajectories(tmp_path / "out" / "trajectories.parquet")
    assert len(made) == 3 * 2 * 4 and all(t.reward is not None for t in made)
    assert all(place // 8 - 1 <= t.policy_version <= place // 8 for place, t in enumerate(made))


def test_work_that_kills_every_worker_ends_in_an_error(tmp_path: Path) -> None:
    (tmp_path / "lives").write_text("xxxxx")
    pool = stand_ins(tmp_path / "lives", count=1)
    with pytest.raises(InfrastructureError, match="lost 3 times"):
        pool.rollout(jobs(8))
    assert len((tmp_path / "lives").read_text()) == 2
    pool.kill()


def test_errors_cross_as_themselves(tmp_path: Path) -> None:
    bad = ConfigError("it is wrong", place="compute.device", remedy="mend it")
    actor = RemoteActor(StandInActor, (tmp_path, bad), name="stand-in", options={"num_cpus": 0})
    with pytest.raises(ConfigError) as caught:
        actor.call("rollout", [])
    assert str(caught.value) == str(bad)
    actor.kill()
    pool = stand_ins(tmp_path, count=1)
    with pytest.raises(WeightSyncError, match="scored 2"):
        pool.score([[1], [2]])
    pool.kill()


def test_more_than_the_cluster_has_is_refused(tmp_path: Path) -> None:
    with (
        RayWorkers(ComputeConfig(samplers=1000), max_length=MAX_LENGTH, run="test") as workers,
        pytest.raises(ConfigError, match="asks for 1000 CPUs, the Ray cluster has"),
    ):
        workers.samplers(tmp_path)


def test_a_missing_vllm_environment_is_named(tmp_path: Path) -> None:
    compute = ComputeConfig(sampler=VllmSampler(python=str(tmp_path / "python")))
    with (
        RayWorkers(compute, max_length=MAX_LENGTH, run="test") as workers,
        pytest.raises(ConfigError, match=r"compute\.sampler\.python = .*no vLLM environment(.|\n)*make vllm"),
    ):
        workers.samplers(tmp_path)


def test_an_address_where_nothing_is_up_is_refused_at_once() -> None:
    program = """
        from journeyman.actors import RayWorkers
        from journeyman.config import ComputeConfig
        with RayWorkers(ComputeConfig(address="127.0.0.1:9"), max_length=64, run="test"):
            pass
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30)
    assert "InfrastructureError: there is no Ray cluster at 127.0.0.1:9" in done.stderr


def learn_a_little(workers: Workers, model: Path, folder: Path) -> tuple:
    """What learner and samplers give on the way of two steps; the same with and without Ray."""
    spec = LearnerSpec(
        model=model,
        optimizer=OptimizerConfig(type="adamw", learning_rate=1e-2),
        total_steps=10,
        microbatch_tokens=4096,
        seed=0,
    )
    learner, pool = workers.learner(spec), workers.samplers(model)
    found = pool.rollout(jobs(8))
    rows = [Row(token_ids=t.token_ids, mask=t.loss_mask) for t in found]
    learner.step(rows, OBJECTIVE)
    probe = [row.token_ids for row in rows[:2]]
    difference = sync_weights(learner, pool, version=1, probe=probe, tolerance=0)
    assert difference < 1e-4
    learner.save_checkpoint(folder)
    loss = learner.step(rows, OBJECTIVE)["loss/total"]
    learner.load_checkpoint(folder)
    assert learner.step(rows, OBJECTIVE)["loss/total"] == pytest.approx(loss)
    after = pool.rollout(jobs(8))
    assert {t.policy_version for t in after} == {1}
    assert len(pool.score(probe)) % len(probe) == 0
    return [t.token_ids for t in found], [t.token_ids for t in after], loss


def test_real_actors_do_what_the_plain_classes_do(workers: RayWorkers, tmp_path: Path) -> None:
    model = make_world(tmp_path).model
    with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as inline:
        found, after, loss = learn_a_little(inline, model, tmp_path / "inline")
    assert found != after, "the step changed what is sampled"
    assert learn_a_little(workers, model, tmp_path / "ray") == (found, after, pytest.approx(loss))


SUPPLIED = {
    **{"steps": 2, "problems": 2, "group": 4, "minibatch": 16, "max_turns": 2, "max_new_tokens": 12},
    **{"reward": "ensemble(odd, judged) + 0.01 * information_gain", "judge": {"type": "sampler", "max_tokens": 8}},
    **{"credit": "0.5 * prime + 0.5 * gae", "process": {}, "critic": {}, "rollout": {"type": "tree"}},
    **{"objective": {"type": "grpo", "kl": {"coefficient": 0.01}}, "checkpoint_every": 1},
}
"""A block that needs all that a stage can supply: a process model with a learner of its own, a critic, a reference."""


def test_a_stage_supplies_from_actors_what_it_supplies_inline(
    workers: RayWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REWARDS, "odd", oddness)
    world = make_world(tmp_path)

    def policy_of(made: Workers, out: Path) -> dict[str, torch.Tensor]:
        run_rl(
            world.config,
            RlConfig.model_validate({"name": "all", **SUPPLIED}),
            Inputs(policy=world.model, problems=world.synthesized),
            out=out,
            work=out / "work",
            workers=made,
            observer=Silent(),
        )
        return load_file(out / "policy" / "model.safetensors")

    with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as inline:
        expected = policy_of(inline, tmp_path / "inline")
    found, begun = policy_of(workers, tmp_path / "ray"), load_file(world.model / "model.safetensors")
    # Two samplers batch otherwise than one: sums in another order.
    assert all(torch.allclose(found[name], expected[name], atol=1e-4) for name in expected)
    assert not any(torch.allclose(begun[name], expected[name], atol=1e-4) for name in expected)


def test_nothing_of_a_local_cluster_is_left_when_its_process_is_killed() -> None:
    stage, pids = start(STAGE, "", "owned")
    family = psutil.Process(stage.pid).children(recursive=True)
    assert {int(pid) for pid in pids.split()} < {process.pid for process in family}
    stage.kill()
    stage.communicate()
    assert_gone(family)


@pytest.mark.parametrize("handler", ["owned", "nobody's"])
def test_termination_ends_actors_and_local_cluster(handler: str) -> None:
    stage, _ = start(STAGE, "", handler)
    family = psutil.Process(stage.pid).children(recursive=True)
    stage.terminate()
    said, _ = stage.communicate(timeout=ENDS_WITHIN_S)
    assert ("CANCELLED" in said) == (handler == "owned")
    assert stage.returncode == (0 if handler == "owned" else signal.SIGTERM)
    assert_gone(family)


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, str]]:
    """The address and the token of a cluster that is up."""
    token = secrets.token_hex(32)
    head, address = start(HEAD, token=token)
    yield address, token
    head.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_actors_on_a_joined_cluster_end_with_their_process(cluster: tuple[str, str], number: signal.Signals) -> None:
    address, token = cluster
    stage, pids = start(STAGE, address, "owned", token=token)
    actors = [psutil.Process(int(pid)) for pid in pids.split()]
    assert len(actors) == 2 and all(map(alive, actors))
    stage.send_signal(number)
    said, _ = stage.communicate(timeout=ENDS_WITHIN_S)
    assert ("CANCELLED" in said) == (number == signal.SIGTERM)
    assert_gone(actors)


def assert_gone(processes: list[psutil.Process]) -> None:
    """Each has ended within a while; one that only waits to be collected by its parent counts as ended."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    while left := [process for process in processes if alive(process)]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
