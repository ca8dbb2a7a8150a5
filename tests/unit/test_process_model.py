"""The process reward model: rewards of tokens are log-ratios, and it learns what the verdicts say."""

import math
import random
from dataclasses import replace

import pytest

from journeyman.config import OptimizerConfig, ProcessConfig
from journeyman.metrics import known
from journeyman.training.handle import LearnerSpec, Row
from journeyman.training.learner import Learner
from journeyman.training.process import ProcessModel
from tests.unit.fakes import COMPUTE, World


def learner(world: World) -> Learner:
    optimizer = OptimizerConfig(learning_rate=1e-3, warmup_steps=0, decay_fraction=0)
    spec = LearnerSpec(model=world.model, optimizer=optimizer, total_steps=10, microbatch_tokens=60, seed=1)
    return Learner(spec, COMPUTE)


def rows() -> list[Row]:
    """Two groups of two, right and wrong."""
    rng = random.Random(0)
    made = []
    for group in range(2):
        for reward in (1.0, 0.0):
            ids = tuple(rng.randrange(300) for _ in range(rng.randint(5, 9)))
            mask = (0, 0, *(1 for _ in ids[2:]))
            sampled = tuple(m * -rng.uniform(4, 7) for m in mask)
            made.append(Row(token_ids=ids, mask=mask, logprobs=sampled, group=group, reward=reward, temperature=0.8))
    return made


def test_at_the_reference_there_is_nothing_to_tell(world: World) -> None:
    process = ProcessModel(ProcessConfig(), learner(world))
    batch = rows()
    assert process.process_T([]) == [] and [len(own) for own in process.process_T(batch)] == [
        len(r.mask) for r in batch
    ]
    assert all(x == pytest.approx(0, abs=1e-7) for own in process.process_T(batch) for x in own)
    # -log sigmoid(0), and no row is told right.
    assert process.update(batch) == {"process/loss": pytest.approx(math.log(2)), "process/accuracy": 0.5}


def test_rewards_of_tokens_are_log_ratios_and_learn_the_verdict(world: World) -> None:
    judge = learner(world)
    process, batch = ProcessModel(ProcessConfig(beta=0.5), judge), rows()
    losses = [process.update(batch)["process/loss"] for _ in range(15)]
    assert losses[-1] < 0.5 * losses[0] and all(known(name) for name in process.update(batch))
    told = process.process_T(batch)
    now, first = (score([row.token_ids for row in batch], 0.8) for score in (judge.score, judge.score_reference))
    for row, own, p, q in zip(batch, told, now, first, strict=True):
        expected = [0.5 * (a - b) * m for a, b, m in zip(p, q, row.mask[1:], strict=True)]
        assert own == pytest.approx([0, *expected], abs=1e-6)
        assert (sum(own) > 0) == (row.reward == 1)


def test_pairs_are_ordered_against_the_policy_that_sampled(world: World) -> None:
    process, batch = ProcessModel(ProcessConfig(loss="pairs", beta=0.5), learner(world)), rows()
    scores = learner(world).score([row.token_ids for row in batch], 0.8)
    # The reward of a token is beta (log pi_phi - log pi_old): pi_old is the row's own, the sampler's where there is none.
    for row, own, score in zip(batch, process.process_T(batch), scores, strict=True):
        expected = [0.5 * (p - q) * m for p, q, m in zip(score, row.logprobs[1:], row.mask[1:], strict=True)]
        assert own[1:] == pytest.approx(expected, abs=1e-5)
    old = [replace(row, old_logprobs=(0.0, *score)) for row, score in zip(batch, scores, strict=True)]
    assert all(x == pytest.approx(0, abs=1e-6) for own in process.process_T(old) for x in own)
    first = process.update(old)
    assert first["process/loss"] == pytest.approx(math.log(2), rel=1e-4)
    for _ in range(10):
        last = process.update(old)
    assert last["process/loss"] < 0.5 * first["process/loss"] and last["process/accuracy"] == 1


def test_without_a_verdict_or_a_difference_nothing_is_learned(world: World) -> None:
    equal = [replace(row, reward=1.0) for row in rows()]
    pairs = ProcessModel(ProcessConfig(loss="pairs"), learner(world))
    assert pairs.update(equal)["process/loss"] == 0
    unscored = [replace(row, reward=None) for row in rows()]
    assert ProcessModel(ProcessConfig(), learner(world)).update(unscored)["process/loss"] == 0
