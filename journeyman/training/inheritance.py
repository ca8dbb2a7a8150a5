"""What an rl block hands on to the next one besides its policy."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.problem import Problem

if TYPE_CHECKING:
    from journeyman.training.reinforce import ReinforceLoop

HANDED_ON = "handed_on"
"""Folder of a stage's output."""
STATE = "state.json"


def hand_on(loop: "ReinforceLoop", folder: Path, what: Sequence[str]) -> None:
    """Write the named parts of a loop's state (`RlConfig.inherits`) to a folder that is made."""
    folder.mkdir(parents=True)
    if "optimizer" in what:
        loop.learner.save_optimizer(folder)
    if "replay" in what:
        loop.replaying.save(folder)
    state: dict[str, Any] = {"curriculum": loop.curriculum.state_dict(), "history": loop.scorer.history.state_dict()}
    kept = {name: value for name, value in state.items() if name in what}
    if "curriculum" in what:
        kept["added"] = [problem.to_json() for problem in loop.proposing.added]
    (folder / STATE).write_text(json.dumps({"steps": loop.step, **kept}))


def take_over(loop: "ReinforceLoop", folder: Path, what: Sequence[str]) -> None:
    """Begin a loop with the named parts that an earlier one has handed on."""
    state = json.loads((folder / STATE).read_text())
    if "optimizer" in what:
        loop.learner.load_optimizer(folder)
    if "replay" in what:
        loop.replaying.take_over(folder, state["steps"])
    if "curriculum" in what:
        loop.proposing.take([Problem.from_json(one) for one in state["added"]])
        loop.curriculum.load_state_dict(state["curriculum"])
    if "history" in what:
        loop.scorer.history.load_state_dict(state["history"])
