"""The page that tells how to add parts: its code is run as it stands there."""

import asyncio
import json
import random
import re
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pydantic import create_model

from journeyman.config.load import load_pipeline
from journeyman.config.monitors import Highest, MonitorsConfig
from journeyman.config.objective import BaseObjective
from journeyman.credit import CREDITS, ScoredBatch, build_credit
from journeyman.curation import RULES
from journeyman.environments import ENVIRONMENTS, environment
from journeyman.environments.base import walked
from journeyman.errors import ConfigError
from journeyman.evaluation.benchmarks import BENCHMARKS, load
from journeyman.evaluation.measures import voted
from journeyman.monitors import MONITORS, Monitors
from journeyman.rewards import REWARDS, Group, build_reward
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.synthesis.base import Lesson, Studio
from journeyman.synthesis.strategies import STRATEGIES, build_strategy
from journeyman.tools.base import CallContext
from journeyman.tools.calls import run_call
from journeyman.trajectory import Trajectory
from tests.unit.curated import verdicts
from tests.unit.fakes import World, problem, trajectory
from tests.unit.teachers import StubTeacher
from tests.unit.test_tree_rollouts import SeededSampler
from tests.unit.token_batches import Token, token_batch

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The page's module of that name, run."""
    [source] = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if f"/{name}.py" in block]
    made = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, made)
    exec(compile(source, f"docs/extending.md:{name}", "exec"), made.__dict__)
    return made


def test_the_tool_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = module("dice", monkeypatch).Dice()

    def roll(seed: int = 3, **arguments: Any) -> tuple[bool, str]:
        result = asyncio.run(run_call(dice, arguments, CallContext(seed=seed)))
        return result.ok, result.output

    assert dice.spec()["function"] == {
        "name": "dice",
        "description": "Roll dice and show what they show.",
        "parameters": {
            "type": "object",
            "properties": {
                "sides": {"description": "of each die.", "type": "integer"},
                "count": {"default": 1, "description": "how many dice.", "type": "integer"},
            },
            "required": ["sides"],
        },
    }
    assert roll(sides=6, count=3) == roll(sides=6, count=3) != roll(seed=4, sides=6, count=3)
    assert roll(sides=1) == (False, "error: dice have 2 to 100 sides, and there are 1 to 20 of them")
    assert roll(sides="6") == (False, "error: sides must be a integer")
    assert roll() == (False, "error: dice takes sides, count (optional)")


def test_the_world_of_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = module("yahtzee", monkeypatch).Yahtzee
    world().validate()
    monkeypatch.setitem(ENVIRONMENTS, "yahtzee", world)
    [block] = re.findall(r"```yaml\n(pipelines:.*?)```", PAGE, re.DOTALL)
    text = (ROOT / "pipelines.yaml").read_text(encoding="utf-8")
    added = re.sub(r"^pipelines:\n", "", block)
    (tmp_path / "pipelines.yaml").write_text(f"{text}\n{added}", encoding="utf-8")
    config = load_pipeline("dice", tmp_path / "pipelines.yaml")
    assert config.problems.worlds == {"yahtzee": {"dice": 6}}
    [problem] = islice(environment("yahtzee", '{"dice": 6}').generate(random.Random(0)), 1)  # type: ignore[attr-defined]
    assert len(problem.data["dice"]) == 6
    gold, wrong = world().courses(problem)
    verdicts = [asyncio.run(walked(world(), problem, course)).verdict.correct for course in (gold, wrong)]
    assert verdicts == [True, False]


def test_the_rewards_of_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = module("thrift", monkeypatch)
    monkeypatch.setitem(REWARDS, "thrift", made.thrift)
    monkeypatch.setitem(REWARDS, "news", made.news)
    [expression] = re.findall(r"```yaml\nreward: (.*?)\n```", PAGE)
    right, slow, wrong = trajectory(calls=1), trajectory(calls=3), trajectory(calls=1, correct=False)
    scores = build_reward(expression)(Group(trajectories=(right, slow, wrong)))
    # thrift: 1, 1 - 0.2 * 2, 0. News: the three calls of `slow` show the same: one of them is news; gated by the answer.
    assert [score.total for score in scores] == pytest.approx([1.1, 0.7, 0.0])
    assert [score.turns for score in scores] == [(0.1, 0), (0.1, 0, 0, 0), ()]  # the gate stayed shut for the last
    config = load_pipeline("quickstart", ROOT / "pipelines.yaml", [f"rl.accuracy.reward={expression}"])
    assert config.rl[0].reward == expression
    with pytest.raises(ConfigError, match="price"):
        load_pipeline("quickstart", ROOT / "pipelines.yaml", ["rl.accuracy.reward=thrift(price=-1)"])


def test_the_credit_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CREDITS, "late", module("late", monkeypatch).late)
    group = [trajectory(calls=0).scored(1.0, {}), trajectory(calls=0).scored(0.0, {})]
    advantages = build_credit("0.5 * group_mean + 0.5 * late(half_life=1)")(ScoredBatch.of([group]))
    # r - mean is +-.5, and the only turn is the last one: weight 2^0
    np.testing.assert_allclose(advantages, [0, 0.5, 0.5, 0.5, 0, -0.5, -0.5, -0.5])


def test_the_reward_of_the_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [source] = [block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "def brief" in block]
    made: dict[str, Any] = {}
    exec(compile(source, "README.md", "exec"), made)
    scores = made["brief"](Group(trajectories=(trajectory(calls=2), trajectory(calls=1), trajectory(correct=None))))
    assert [score.total for score in scores] == [1.0, 1.5, None]


def test_the_objective_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    made = module("awr", monkeypatch)
    batch = token_batch([[Token(now=-1, advantage=0), Token(now=-2, advantage=99), Token(now=-3, mask=0)]])
    loss, _ = made.awr(batch, made.AwrObjective(temperature=2.0))
    # exp(0) * 1 + 20 * 2, and nothing of the masked token
    assert loss.item() == pytest.approx(41)
    assert isinstance(made.AwrObjective(), BaseObjective)


def test_the_curriculum_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    made = module("spaced", monkeypatch)
    pool = [problem(name, id=name) for name in "abc"]
    spaced = made.Spaced(pool, 0, made.SpacedCurriculum(longest=2))
    asked = []
    for step in range(5):
        asked.append(spaced.choose(1, step=step)[0].id)
        spaced.update([trajectory(problem_id=asked[-1], correct=asked[-1] == "a")])
    # Each once, the unseen first. What is solved is due two steps later (4 is cut to 2), what was failed a step later.
    assert sorted(asked[:3]) == ["a", "b", "c"] and asked[3] == asked[0]
    state = spaced.state_dict()
    assert state["gap"] == {"a": 2, "b": 1, "c": 1}
    again = made.Spaced(pool, 0, made.SpacedCurriculum(longest=2))
    again.load_state_dict(state)
    assert again.choose(3, step=5) == spaced.choose(3, step=5)


def test_the_curation_rule_of_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(RULES, "shouting", module("shouting", monkeypatch).shouting)
    # WHAT IS x: six of seven letters are capitals.
    rows = ["WHAT IS x?", "What is X?", "3 + 5"]
    assert verdicts(tmp_path / "a", rows, "shouting") == {0: ("the question shouts", None)}
    assert sorted(verdicts(tmp_path / "b", rows, "shouting(most=0.2)")) == [0, 1]  # two of seven


def test_the_strategy_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "frugal", module("frugal", monkeypatch).frugal)
    call = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n</tool_call>'
    teacher = StubTeacher([[call, call, "<answer>42</answer>"], [call, "<answer>42</answer>"], ["<answer>41</answer>"]])
    lesson = Lesson(problem=problem())
    [made] = asyncio.run(build_strategy("frugal(tries=3)")(lesson, Studio(teacher=teacher)))
    assert [len(one.calls) for one in made.trajectories] == [1]
    assert [one.provenance["refused"] for one in made.refused] == ["more calls", "wrong"]


def test_the_replay_priority_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked = module("ranked", monkeypatch).ranked
    firsts = Counter(ranked(np.array([0.1, 9.0, 0.2]), 1, seed)[0] for seed in range(3000))
    # Weights 1/3, 1 and 1/2 of 11/6: 545, 1636 and 818 of 3000, with deviations below sqrt(3000 / 4) = 27.4.
    for place, expected in enumerate((545, 1636, 818)):
        assert abs(firsts[place] - expected) < 4 * 27.4
    assert sorted(ranked(np.array([1.0, 2.0]), 5, 0)) == [0, 1]


def test_the_monitor_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    stubborn = module("stubborn", monkeypatch).stubborn
    thresholds = create_model("Watched", __base__=MonitorsConfig, stubborn=(Highest, Highest(stop=0.3)))
    monkeypatch.setitem(MONITORS, "stubborn", stubborn)
    monitors = Monitors(thresholds())
    # Calls of the fakes are all alike: one of the two attempts that call at all makes two of them in a row.
    group = [trajectory(calls=2), trajectory(calls=1), trajectory(calls=0)]
    assert monitors.look([group], {}, step=1)["monitor/value/stubborn"] == 0.5
    assert monitors.stopped.startswith("stubborn is 0.5 at step 1")
    assert "monitor/value/stubborn" not in monitors.look([[trajectory(calls=0)]], {}, step=2)


def test_the_search_of_the_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    second_thoughts = module("second", monkeypatch).second_thoughts
    job = RolloutJob(problem=problem(answer="none"), seed=7, max_new_tokens=200, max_turns=4)

    def search(wanted: int) -> list[Trajectory]:
        agent = Agent(SeededSampler(world, 0.7), world.chat, 4000)
        return asyncio.run(second_thoughts(agent, job, wanted=wanted))

    made = search(3)
    first = made[0]
    # The places of an attempt of U turns: before its first turn, and behind each but the last.
    assert len(made) == min(3, 1 + len(first.turns))
    shared = [len(first.turns) - 1 - back for back in range(len(made) - 1)]
    assert [one.turns[:n] for one, n in zip(made[1:], shared, strict=True)] == [first.turns[:n] for n in shared]
    assert [one.token_ids for one in search(3)] == [one.token_ids for one in made]
    assert [one.token_ids for one in search(1)] == [first.token_ids]


def test_the_benchmark_of_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    svamp = module("svamp", monkeypatch).svamp
    monkeypatch.setitem(BENCHMARKS, "svamp", svamp)
    row = {"Body": "Bo has 3 pens.", "Question": "How many are twice as many?", "Answer": 6.0, "Type": "Multiplication"}
    rows = [row, {**row, "Answer": "many"}]
    path = tmp_path / "svamp.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    questions = load(svamp, path, {})
    [asked] = questions.problems
    assert asked.question == "Bo has 3 pens. How many are twice as many?"
    assert questions.parts == {asked.id: "Multiplication"}
    assert questions.counts["reasons"] == {"no number as an answer": 1}
    assert environment("gsm8k").verify(asked, "6") and not environment("gsm8k").verify(asked, "7")  # type: ignore[attr-defined]


def test_the_strategy_of_inference_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    confirmed = module("confirmed", monkeypatch).confirmed
    attempts = [trajectory(answer=answer) for answer in (None, "4", "5", "5", "4", None)]
    # No answer confirms none; "4", the second attempt's, is the first that comes again.
    assert confirmed(attempts, [None] * 6, voted) == [0, 1, 0, 0, 0, 0]
    assert confirmed(attempts[1:3], [None] * 2, voted) == [1, 0]
