"""The page on replay: its blocks load, and its questions have answers."""

import re
from pathlib import Path

import pytest
import yaml

from journeyman.artifacts import ArtifactStore, Recipe
from journeyman.config import ReplayConfig, RlConfig
from journeyman.replay import ReplayBuffer, Replayed, export
from journeyman.store import opened
from journeyman.training.fit import misfits
from journeyman.trajectory import write_trajectories
from tests.unit.fakes import trajectory

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "replay.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
QUESTIONS = re.findall(r'journeyman sql "(.*?)"', PAGE)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_blocks_of_the_page_load(block: str) -> None:
    config = RlConfig.model_validate({"name": "a", **yaml.safe_load(block)})
    assert config.replay != ReplayConfig() and list(misfits(config.model_dump(mode="json"))) == []


def test_the_questions_of_the_page_have_answers(tmp_path: Path) -> None:
    made = [
        trajectory(id=str(i), problem_id=str(i), family=("arithmetic", "lookup")[i % 2]).scored(1.0, {})
        for i in range(4)
    ]
    buffer = ReplayBuffer(ReplayConfig(capacity=9, fraction=1.0, priority="newest"), seed=0)
    buffer.add([Replayed(trajectory=t, advantage=1.0 + i) for i, t in enumerate(made)], version=0)
    assert [r.trajectory.id for r in buffer.sample(2, step=0)] == ["3", "2"]
    recipe = Recipe(stage="rl-a", code_version="1", config={}, seed=0, inputs={})
    with ArtifactStore(tmp_path).build(recipe) as draft:
        export({"success": buffer}, draft.out / "replay.parquet")
        write_trajectories(made, draft.out / "trajectories.parquet")
    with opened(tmp_path, run="") as store:
        answers = [store.ask(question).fetchall() for question in QUESTIONS]
    assert answers[0] == [("success", "policy", 4, 0.5, 2.5)]
    # Used are the newest two: 2 and 3.
    question = "What is 6 times 7?"
    assert answers[1][:3] == [
        *(("arithmetic", 1, 3.0, question), ("lookup", 1, 4.0, question)),
        ("arithmetic", 0, 1.0, question),
    ]
    # In each family the used one has the larger advantage.
    assert answers[2] == [("arithmetic", pytest.approx(1)), ("lookup", pytest.approx(1))]
