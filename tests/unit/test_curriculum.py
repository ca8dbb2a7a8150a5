"""Curricula: seeded, fair, and they go on where they were."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.config import CurriculumConfig
from journeyman.config.base import Config
from journeyman.config.curriculum import CurriculumStage, SetsCurriculum
from journeyman.config.shape import arms
from journeyman.curriculum import CURRICULA, Curriculum
from journeyman.curriculum.families import Uniform, Weakest
from tests.unit.fakes import problem, trajectory

POOL = [problem(f"{family} {i}?", family=family) for family in ("arithmetic", "lookup", "tables") for i in range(7)]

SETS = SetsCurriculum(
    stages=[CurriculumStage(sets=["arithmetic"], steps=3), CurriculumStage(sets=["lookup", "tables"])], earlier=0.3
)


def options(name: str) -> Config:
    """What a curriculum has by default; sets have none."""
    return SETS if name == "sets" else arms(CurriculumConfig)[name]().within(10)  # type: ignore[return-value]


@given(st.integers(0, 99), st.lists(st.integers(1, 9), max_size=12))
def test_uniform_gives_every_problem_once_before_any_comes_twice(seed: int, counts: list[int]) -> None:
    curriculum = Uniform(POOL, seed)
    drawn = [p for step, count in enumerate(counts) for p in curriculum.choose(count, step=step)]
    assert len(drawn) == sum(counts)
    for start in range(0, len(drawn), len(POOL)):
        epoch = [p.id for p in drawn[start : start + len(POOL)]]
        assert len(set(epoch)) == len(epoch)


def test_uniform_by_hand_has_orders_of_its_own_by_epoch_and_seed() -> None:
    first, second = (Uniform(POOL, 1).choose(42, step=0)[i : i + 21] for i in (0, 21))
    assert first != second and sorted(p.id for p in first) == sorted(p.id for p in second)
    assert Uniform(POOL, 2).choose(21, step=0) != first == Uniform(POOL, 1).choose(21, step=0)


def test_a_batch_may_be_larger_than_the_pool() -> None:
    assert Counter(p.id for p in Uniform(POOL[:3], 0).choose(7, step=0)).most_common()[0][1] == 3


def passed(family: str, *verdicts: bool | None):
    return [trajectory(family=family, correct=verdict) for verdict in verdicts]


def test_weakest_by_hand_moves_to_the_families_that_fail() -> None:
    curriculum = Weakest(POOL, 0)
    for _ in range(20):
        curriculum.update([*passed("arithmetic", True, True), *passed("lookup", False), *passed("tables", True, False)])
    # Running pass rates after 20 steps: 1 - .8^20 = .988, 0 and .494, so the weights are .25 (the floor), 1 and .506:
    # shares .142, .569, .288.
    counts = Counter(p.family for step in range(500) for p in curriculum.choose(6, step=step))
    shares = {family: count / 3000 for family, count in counts.items()}
    assert shares == pytest.approx({"arithmetic": 0.142, "lookup": 0.569, "tables": 0.288}, abs=0.03)


def test_weakest_takes_running_means_and_leaves_out_what_has_no_verdict() -> None:
    curriculum = Weakest(POOL, 0)
    curriculum.update([*passed("lookup", True, True, False, None), *passed("tables", None)])
    # .8 * 0 + .2 * 2/3
    assert curriculum.state_dict()["pass_rates"] == pytest.approx({"arithmetic": 0, "lookup": 0.4 / 3, "tables": 0})
    curriculum.update(passed("lookup", False))
    assert curriculum.state_dict()["pass_rates"]["lookup"] == pytest.approx(0.8 * 0.4 / 3)


@pytest.mark.parametrize("name", CURRICULA)
def test_a_restored_curriculum_goes_on_as_the_unbroken_one(name: str) -> None:
    def fresh() -> Curriculum:
        return CURRICULA[name](POOL, 3, options(name))

    def advance(curriculum: Curriculum, steps: range) -> list[list[str]]:
        chosen = []
        for step in steps:
            problems = curriculum.choose(5, step=step)
            attempts = [
                trajectory(family=p.family, problem_id=p.id, correct=(step + place + i) % 3 == 0)
                for place, p in enumerate(problems)
                for i in range(4)
            ]
            curriculum.update(attempts)
            chosen.append([p.id for p in problems])
        return chosen

    unbroken = fresh()
    expected = advance(unbroken, range(12))
    broken = fresh()
    assert advance(broken, range(5)) == expected[:5]
    state = json.loads(json.dumps(broken.state_dict()))
    kept = json.dumps(broken.state_dict())
    advance(broken, range(5, 9))
    assert json.dumps(state) == kept  # the state is a copy
    restored = fresh()
    restored.load_state_dict(state)
    assert advance(restored, range(5, 12)) == expected[5:]


@pytest.mark.parametrize("name", CURRICULA)
def test_a_state_with_other_keys_is_refused(name: str) -> None:
    curriculum = CURRICULA[name](POOL, 0, options(name))
    good = curriculum.state_dict()
    for bad in ({}, {**good, "more": 1}, dict(list(good.items())[1:])):
        with pytest.raises(KeyError):
            curriculum.load_state_dict(bad)
    with pytest.raises(KeyError):
        Weakest(POOL, 0).load_state_dict(Weakest(POOL[:7], 0).state_dict())
