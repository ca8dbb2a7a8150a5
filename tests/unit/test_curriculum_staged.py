"""Curricula that go from easy to hard: worked out by hand."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from journeyman.config.curriculum import CurriculumStage, OrderedCurriculum, SetsCurriculum
from journeyman.config.load import load_pipeline, render
from journeyman.curriculum.ordered import Ordered
from journeyman.curriculum.sets import Sets
from journeyman.errors import ConfigError, DataError
from tests.unit.fakes import problem, trajectory
from tests.unit.test_reinforce import attempt, loop

TEN = [problem(str(i), id=str(i), min_calls=1 + i % 2, data={"hops": 9 - i}) for i in range(10)]


def ids(curriculum: Ordered | Sets, count: int, step: int) -> list[str]:
    return [p.id for p in curriculum.choose(count, step=step)]


def test_ordered_by_hand() -> None:
    ordered = Ordered(TEN, 0, OrderedCurriculum(steps=7, width=0.3, earlier=0.5))
    # Three of ten are in turn; in seven steps their first goes from 0 to 10 - 3 = 7, and stays.
    assert [ordered.window(step) for step in (0, 1, 6, 7, 100)] == [(0, 3), (1, 4), (6, 9), (7, 10), (7, 10)]
    assert set(ids(ordered, 3, 0)) == {"0", "1", "2"}, "nothing was earlier"
    # 4 * .5 = 2 of those before the fourth, none twice; 2 in turn.
    drawn = ids(ordered, 4, 4)
    assert set(drawn[:2]) <= {"0", "1", "2", "3"} and set(drawn[2:]) <= {"4", "5", "6"} and len(set(drawn)) == 4
    assert "3" in drawn[:2], "it never came, the other three did"


def test_ordered_by_levels_by_hand() -> None:
    # Two levels of min_calls, 1 for even and 2 for odd ones; ten steps, so five each.
    calls = Ordered(TEN, 0, OrderedCurriculum(by="min_calls", steps=10, width=None, earlier=0.0))
    assert [calls.window(step) for step in (0, 4, 5, 9, 10, 99)] == [(0, 5)] * 2 + [(5, 10)] * 4
    assert set(ids(calls, 5, 4)) == set("02468") and set(ids(calls, 5, 5)) == set("13579")
    # hops are 9 - i: the last of the file is the easiest.
    hops = Ordered(TEN, 0, OrderedCurriculum(by="data.hops", steps=10, width=None))
    assert [ids(hops, 1, 0), hops.window(1)] == [["9"], (1, 2)]


def test_within_the_window_all_come_equally_often() -> None:
    ordered = Ordered(TEN, 0, OrderedCurriculum(steps=1000, width=0.5, earlier=0.0))
    counts = Counter(id for step in range(10) for id in ids(ordered, 4, step))
    assert counts == dict.fromkeys("01234", 8)


def test_what_has_no_difficulty_is_told() -> None:
    with pytest.raises(DataError, match="no `steps`"):
        Ordered(TEN, 0, OrderedCurriculum(by="data.steps", steps=1))
    words = [problem("a", data={"level": "hard"})]
    with pytest.raises(DataError, match="no number"):
        Ordered(words, 0, OrderedCurriculum(by="data.level", steps=1))
    with pytest.raises(ValueError, match="no levels"):
        OrderedCurriculum(width=None)


def test_the_pace_is_the_blocks_where_none_is_given() -> None:
    assert OrderedCurriculum().within(12).steps == 12 and OrderedCurriculum(steps=5).within(12).steps == 5
    made, _, _ = loop(lambda job: attempt(job, correct=True), steps=3, curriculum={"type": "ordered", "earlier": 0.0})
    assert isinstance(made.curriculum, Ordered)
    # Two of six problems are in turn; in three steps their first goes to 4.
    assert [made.curriculum.window(step) for step in range(4)] == [(0, 2), (1, 3), (2, 4), (4, 6)]


def test_what_a_curriculum_never_comes_to_is_told_at_load(tmp_path: Path) -> None:
    file = tmp_path / "pipelines.yaml"

    def told(curriculum: str) -> str:
        file.write_text(f"pipelines: {{p: {{rl: [{{name: a, steps: 4, curriculum: {curriculum}}}]}}}}")
        with pytest.raises(ConfigError) as caught:
            load_pipeline("p", file)
        return str(caught.value)

    assert "takes 30 steps where the block ends after 4" in told("{type: ordered, steps: 30}")
    assert "takes 5 steps" in told("{type: reverse, steps: 5}")
    assert "no family `arithmetik`" in told("{type: sets, stages: [{sets: [arithmetik]}]}")
    assert "agent from outside" in told("{type: guided}, program: x:y")
    assert "above `low`" in told("{type: bands, low: 0.5, high: 0.5}")


LEVELS = [problem(f"{level} {i}", id=f"{level}{i}", data={"level": level}) for level in "abc" for i in range(4)]


def attempts(level: str, *verdicts: bool | None):
    return [trajectory(problem_id=f"{level}0", correct=verdict) for verdict in verdicts]


def test_sets_by_hand() -> None:
    stages = [
        CurriculumStage(sets=["a"], steps=2),
        CurriculumStage(sets=["b"], above=0.5),
        CurriculumStage(sets=["a", "c"]),
    ]
    sets = Sets(LEVELS, 0, SetsCurriculum(by="data.level", stages=stages, window=4))
    assert [{id[0] for id in ids(sets, 4, step)} for step in (0, 1)] == [{"a"}, {"a"}]
    assert sorted(ids(sets, 4, 2)) == ["b0", "b1", "b2", "b3"], "after two steps"
    sets.update([*attempts("b", True, True, None, True), *attempts("a", True)])
    assert ids(sets, 1, 3)[0][0] == "b", "three verdicts of four"
    sets.update(attempts("b", False, False))
    assert ids(sets, 1, 4)[0][0] == "b", "the last four: 1, 1, 0, 0, and 2 of 4 is not above a half"
    sets.update(attempts("b", True, True, True))  # 0, 1, 1, 1
    assert sorted(ids(sets, 8, 5)) == sorted(p.id for p in LEVELS if p.id[0] in "ac")
    assert (sets.stage, {id[0] for id in ids(sets, 8, 500)}) == (2, {"a", "c"})


def test_sets_keep_a_share_of_earlier_ones() -> None:
    stages = [CurriculumStage(sets=["a"], steps=1), CurriculumStage(sets=["b"], steps=1), CurriculumStage(sets=["c"])]
    sets = Sets(LEVELS, 0, SetsCurriculum(by="data.level", stages=stages, earlier=0.25))
    counts = [Counter(id[0] for id in ids(sets, 8, step)) for step in (0, 1, 2)]
    assert counts[:2] == [{"a": 8}, {"a": 2, "b": 6}]
    assert (counts[2]["c"], counts[2]["a"] + counts[2]["b"]) == (6, 2)


def test_sets_that_are_not_there_and_stages_without_an_end() -> None:
    with pytest.raises(ConfigError, match="'arithmetik'") as caught:
        Sets(LEVELS, 0, SetsCurriculum(stages=[CurriculumStage(sets=["arithmetik"])]))
    assert caught.value.remedy == "did you mean `arithmetic`?"
    with pytest.raises(ValueError, match="never ends"):
        SetsCurriculum(stages=[CurriculumStage(sets=["a"]), CurriculumStage(sets=["b"])])


def test_a_pipeline_chooses_its_curriculum(tmp_path: Path) -> None:
    file = tmp_path / "pipelines.yaml"
    stages = "[{sets: [arithmetic], steps: 3, above: 0.9}, {sets: [lookup]}]"
    file.write_text(
        f"pipelines: {{p: {{rl: [{{name: a, curriculum: {{type: sets, stages: {stages}}}}}, "
        "{name: b, curriculum: {type: ordered, by: min_calls, width: null}}, {name: c}]}}",
        encoding="utf-8",
    )
    config = load_pipeline("p", file, ["rl.a.curriculum.stages.0.steps=5"])
    first, second, third = (stage.curriculum for stage in config.rl)
    assert isinstance(first, SetsCurriculum) and first.stages[0].steps == 5
    assert second == OrderedCurriculum(by="min_calls", width=None)
    assert third.type == "uniform"
    file.write_text(render(config), encoding="utf-8")
    assert load_pipeline("p", file) == config


BLOCKS: list[dict[str, Any]] = [
    {"type": "controlled"},
    {"type": "balance", "temperatures": [0.5, 1.0, 2.0], "hold": 1},
    {"type": "bands", "unseen": 0.5},
    {"type": "edge"},
    {"type": "balance"},
    {"type": "ordered", "steps": 4, "width": 0.5},
    {"type": "sets", "by": "family", "stages": [{"sets": ["arithmetic"], "above": 0.4}]},
]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: "-".join([block["type"], *list(block)[1:2]]))
def test_a_block_goes_on_from_its_curriculums_state(block: dict[str, Any], tmp_path: Path) -> None:
    def begun():
        # The later half of the problems is never solved, the others by every third attempt.
        return loop(
            lambda job: attempt(job, correct=job.problem.question < "3?" and job.sample % 3 == 0), curriculum=block
        )

    whole, _, asked = begun()
    for _ in range(6):
        whole.advance()
    first, _, _ = begun()
    for _ in range(3):
        first.advance()
    rest, _, asked_again = begun()
    first.save(tmp_path)
    rest.load(tmp_path, {**json.loads(json.dumps(first.state_dict())), "step": 3})
    for _ in range(3):
        rest.advance()
    assert [[job.problem.id for job in jobs] for jobs in asked_again.jobs] == [
        [job.problem.id for job in jobs] for jobs in asked.jobs[3:]
    ]
