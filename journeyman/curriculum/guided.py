"""A curriculum that gives guidance where a problem was failed."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.config.curriculum import Guidance, GuidedCurriculum
from journeyman.curriculum.base import check_keys, check_known, share_of
from journeyman.curriculum.families import Uniform
from journeyman.problem import GUIDANCE, Problem, variant
from journeyman.rewards.reference import reference_calls
from journeyman.seeds import derive
from journeyman.trajectory import Trajectory

MOST_ERRORS, LONGEST = 3, 200
"""Errors that are told, and characters of each."""


class Guided:
    """A problem that a whole group failed comes back once with guidance, and then once without.

    Agent-RLVR (#161, derived): after a failure the agent is told a plan and the errors it met, and tries again. What is
    told here comes from the world: errors of the failed attempts, tools of the gold course, its calls. The share of
    steps, once each, and the order, first failed first, are ours. Attempts with guidance are at the problem
    `ID~guidance`, so that no history mixes them; evaluated problems have none. Not covered: their DPO on guided
    attempts with the guidance taken out, and guidance in a model's words.
    """

    def __init__(self, problems: Sequence[Problem], seed: int, config: GuidedCurriculum) -> None:
        self._config, self._seed = config, seed
        self._problems = {problem.id: problem for problem in problems}
        self._pool = Uniform(problems, derive(seed, "pool"))
        self._waiting: list[list[str]] = []
        """(problem, guidance) that come back, the next one first; without guidance the second time."""
        self._guided: dict[str, None] = {}
        """Those that have come back, or wait to."""

    def choose(self, count: int, *, step: int) -> list[Problem]:
        rng = random.Random(derive(self._seed, "step", step))
        back = min(len(self._waiting), share_of(count, self._config.share, rng))
        taken, self._waiting = self._waiting[:back], self._waiting[back:]
        self._waiting += [[id, ""] for id, guidance in taken if guidance]
        return [*(self._again(*one) for one in taken), *self._pool.choose(count - back, step=step)]

    def _again(self, id: str, guidance: str) -> Problem:
        problem = self._problems[id]
        return variant(problem, GUIDANCE, {GUIDANCE: guidance}) if guidance else problem

    def update(self, trajectories: Sequence[Trajectory]) -> None:
        groups: dict[str, list[Trajectory]] = {}
        for t in trajectories:
            if t.correct is not None:
                groups.setdefault(t.problem_id, []).append(t)
        for id, group in groups.items():
            if id in self._problems and id not in self._guided and not any(t.correct for t in group):
                guidance = guidance_for(self._problems[id], group, self._config.tells)
                if guidance:
                    self._waiting.append([id, guidance])
                    self._guided[id] = None

    def state_dict(self) -> dict[str, Any]:
        waiting = [list(one) for one in self._waiting]
        return {"waiting": waiting, "guided": list(self._guided), "pool": self._pool.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_keys(state, {"waiting", "guided", "pool"})
        check_known(set(state["guided"]), self._problems.keys())
        self._waiting = [list(one) for one in state["waiting"]]
        self._guided = dict.fromkeys(state["guided"])
        self._pool.load_state_dict(state["pool"])


def guidance_for(problem: Problem, failed: Sequence[Trajectory], tells: Sequence[Guidance]) -> str:
    """What the world has to say to the next attempt; empty where it has nothing."""
    found = {"errors": lambda: _errors(failed), "tools": lambda: _tools(problem), "plan": lambda: _plan(problem)}
    return "\n".join(said for what in tells if (said := found[what]()))


def _errors(failed: Sequence[Trajectory]) -> str:
    outputs = [result.output for t in failed for turn in t.turns for result in turn.results if not result.ok]
    told = [output[:LONGEST] for output in dict.fromkeys(outputs)][:MOST_ERRORS]
    return "\n".join(["Earlier attempts met these errors:", *(f"- {text}" for text in told)]) if told else ""


def _tools(problem: Problem) -> str:
    names = [call.name for call in reference_calls(problem) or ()]
    return f"Tools that help, in order: {', '.join(names)}." if names else ""


def _plan(problem: Problem) -> str:
    calls = [
        f"{call.name}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})"
        for call in reference_calls(problem) or ()
    ]
    return f"Plan: {', then '.join(calls)}." if calls else ""
