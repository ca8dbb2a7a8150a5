"""A world so small that every trajectory can be listed: what a credit does to the policy is then an exact number.

A turn of the policy either answers, with `a` or `b`, or calls, and then sees `x` or `y`; after a second call it has one
more turn. So the policy itself decides when to stop. Twelve trajectories in all, a table of logits for the policy.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import product
from math import prod
from typing import Any

import numpy as np

from journeyman.credit.base import Credit, Floats, ScoredBatch
from journeyman.credit.readings import READINGS, spans
from journeyman.trajectory import Span, StopReason, Trajectory
from tests.unit.batches import attempt

ACTIONS = ("a", "b", "call")
WRITTEN = {"a": (10,), "b": (11, 30, 31), "call": (12, 32)}
"""What each action puts down: the first token is chosen, the others follow of themselves."""
SEEN = {"x": (20, 21), "y": (22,)}
"""What the policy is shown after a call."""
STATES = ("", "x", "y", "xx", "yy")
"""By what was seen: the second call shows the same again."""
PARAMETERS = len(STATES) * len(ACTIONS)
CHANCE = {"x": 0.7, "y": 0.3}
LOGITS = {
    "": (0.3, -0.2, 0.5),
    "x": (-0.4, 0.6, 0.1),
    "y": (0.2, 0.0, 0.7),
    "xx": (0.5, -0.3, -0.6),
    "yy": (-0.1, 0.4, 0.2),
}
CALLED = {"": -0.1, "x": 0.2, "y": -0.3, "xx": -0.2, "yy": 0.1}
"""What a call earns, by the state that it is made in."""
ANSWERED = {
    "": {"a": 0.25, "b": 0.0},
    "x": {"a": 1.0, "b": 0.5},
    "y": {"a": 0.0, "b": 0.75},
    "xx": {"a": 1.0, "b": 0.25},
    "yy": {"a": 0.5, "b": 1.0},
}
"""What an answer earns, by state; to have called at the last turn earns nothing more."""


@dataclass(frozen=True, kw_only=True)
class Path:
    """One trajectory with its chance."""

    steps: tuple[tuple[str, str], ...]
    """(state, action) of each turn."""
    chance: float
    """Under the policy and the world."""
    trajectory: Trajectory


@dataclass(frozen=True, kw_only=True, eq=False)
class Mdp:
    """The world under one policy."""

    logits: Mapping[str, Sequence[float]] = field(default_factory=lambda: LOGITS)
    answered: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: ANSWERED)

    def chances(self, state: str) -> Floats:
        """Of the actions."""
        raised = np.exp(np.array(self.logits[state]))
        return raised / raised.sum()

    def score(self, state: str, action: str) -> Floats:
        """The gradient of log pi(action | state) in all logits."""
        gradient = np.zeros((len(STATES), len(ACTIONS)))
        gradient[STATES.index(state)] = -self.chances(state)
        gradient[STATES.index(state), ACTIONS.index(action)] += 1
        return gradient.ravel()

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        return tuple(self._paths((), ""))

    def _paths(self, before: tuple[tuple[str, str], ...], state: str) -> Iterator[Path]:
        for action in ACTIONS:
            steps = (*before, (state, action))
            if action == "call" and len(state) < 2:
                for seen in (state,) if state else CHANCE:
                    yield from self._paths(steps, state + seen)
            else:
                yield self._path(steps)

    def _path(self, steps: tuple[tuple[str, str], ...]) -> Path:
        chosen = prod(float(self.chances(state)[ACTIONS.index(action)]) for state, action in steps)
        chance = chosen * (CHANCE[steps[1][0]] if len(steps) > 1 else 1.0)
        return Path(steps=steps, chance=chance, trajectory=self._trajectory(steps))

    def _trajectory(self, steps: tuple[tuple[str, str], ...]) -> Trajectory:
        ids, starts = [1, 2], []
        for place, (_, action) in enumerate(steps):
            starts.append(len(ids))
            ids += [*WRITTEN[action], *(SEEN[steps[place + 1][0][-1]] if place + 1 < len(steps) else ())]
        state, last = steps[-1]
        outcome = self.answered[state].get(last, 0.0)
        earned = tuple(CALLED[s] if action == "call" else 0.0 for s, action in steps)
        made = attempt(None, turns=(0,) * len(steps), results=0, prompt=0, ids=ids)
        shown = [*[s[-1] for s, _ in steps[1:]], ""]
        turns = tuple(
            replace(
                turn,
                text=action,
                start=start,
                stop=start + len(WRITTEN[action]),
                results=tuple(replace(result, output=seen) for result in turn.results),
            )
            for turn, start, (_, action), seen in zip(made.turns, starts, steps, shown, strict=True)
        )
        mask = [any(turn.start <= i < turn.stop for turn in turns) for i in range(len(ids))]
        whole = replace(
            made,
            id=" ".join(f"{s}:{action}" for s, action in steps),
            turns=turns,
            loss_mask=tuple(map(int, mask)),
            logprobs=tuple(-1.0 * m for m in mask),
            answer=None if last == "call" else last,
            correct=outcome >= 0.5,
            stop_reason=StopReason.MAX_TURNS if last == "call" else StopReason.ANSWER,
        )
        return whole.scored(
            outcome + sum(earned),
            {},
            turn_rewards=earned,
            reward_spans=tuple(
                Span(turn=i, start=0, stop=4, reward=r, kind="call")
                for i, r in enumerate(earned)
                if steps[i][1] == "call"
            ),
            reward_channels={"outcome": outcome, "saved": 1 / len(steps) if outcome >= 0.5 else None},
        )

    @cached_property
    def by_id(self) -> dict[str, Path]:
        return {path.trajectory.id: path for path in self.paths}

    def q(self, state: str, action: str) -> float:
        """What is still earned from here on with this action."""
        if action != "call":
            return self.answered[state][action]
        after = {} if len(state) == 2 else {state * 2: 1.0} if state else CHANCE
        return CALLED[state] + sum(chance * self.v(seen) for seen, chance in after.items())

    def v(self, state: str) -> float:
        """What is still earned from here on."""
        return sum(float(p) * self.q(state, action) for p, action in zip(self.chances(state), ACTIONS, strict=True))

    @cached_property
    def values(self) -> dict[str, float]:
        return {state: self.v(state) for state in STATES}

    @cached_property
    def q_values(self) -> dict[tuple[str, str], float]:
        return {step: self.q(*step) for step in product(STATES, ACTIONS)}

    def gradient(self) -> Floats:
        """Of the expected reward, in all logits."""
        total = np.zeros(PARAMETERS)
        for path in self.paths:
            total += (
                path.chance * (path.trajectory.reward or 0.0) * np.sum([self.score(*s) for s in path.steps], axis=0)
            )
        return total

    def supplies(self, batch: ScoredBatch) -> dict[str, Callable[[], Any]]:
        """What credits need, each made when it is asked for; critics are exact."""
        steps = [step for t in batch.trajectories for step in self.by_id[t.id].steps]
        own = {
            "values_U": lambda: np.array([self.values[state] for state, _ in steps]),
            "q_values_U": lambda: np.array([self.q_values[step] for step in steps]),
            "values_T": lambda: self._values_T(batch, steps),
            # a process model that has learned the advantage of each turn
            "process_T": lambda: (
                first_tokens(batch)
                * batch.from_turns(np.array([self.q_values[step] - self.values[step[0]] for step in steps]))
            ),
            "spans": lambda: spans(batch, lambda t, turn: [(0, 4)] * (t.turns[turn].stop - t.turns[turn].start)),
            "ranks_B": lambda: np.stack([batch.turns_B, batch.calls_B, batch.turns_B - batch.calls_B], 1).astype(float),
            "mean_ranks": lambda: np.array([1.5, 1.0, 1.0]),
            "greedy_rewards_P": lambda: np.full(batch.groups, 0.4),
        }
        return {name: lambda read=read: read(batch) for name, read in READINGS.items()} | own

    def _values_T(self, batch: ScoredBatch, steps: Sequence[tuple[str, str]]) -> Floats:
        """V before the token that is chosen; Q before those that follow of themselves."""
        first_T = first_tokens(batch)
        before_U, after_U = [
            np.array([self.values[s] for s, _ in steps]),
            np.array([self.q_values[step] for step in steps]),
        ]
        return first_T * batch.from_turns(before_U) + (1 - first_T) * batch.from_turns(after_U)


def first_tokens(batch: ScoredBatch) -> Floats:
    """1 for the first learned token of each turn, else 0."""
    first_T = np.zeros(len(batch.mask_T))
    learned = np.flatnonzero(batch.mask_T)
    first_T[learned[np.cumsum(batch.tokens_U) - batch.tokens_U]] = 1
    return first_T


Make = Callable[[Mapping[str, Callable[[], Any]]], Credit]
"""A credit, made from what there is to supply it with."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Groups that get their credit in one go."""

    batch: ScoredBatch
    weights_U: Floats
    """Chance of the turn's group, divided by its size."""
    scores_UK: Floats
    """Gradient of the log-probability of the turn's action."""


@cache
def steps_of(mdp: Mdp, size: int, whole_step: bool) -> tuple[Step, ...]:
    """All groups of `size`: together, or each one by itself where `whole_step`."""
    groups = list(product(mdp.paths, repeat=size))
    return tuple(_step(mdp, made) for made in ([[group] for group in groups] if whole_step else [groups]))


def _step(mdp: Mdp, groups: Sequence[Sequence[Path]]) -> Step:
    batch = ScoredBatch.of([[path.trajectory for path in group] for group in groups])
    weights_B = np.array([prod(path.chance for path in group) / len(group) for group in groups for _ in group])
    scores_UK = np.array([mdp.score(*step) for group in groups for path in group for step in path.steps])
    return Step(batch=batch, weights_U=weights_B[batch.row_U], scores_UK=scores_UK)


def expected_update(make: Make, mdp: Mdp, size: int, *, whole_step: bool = False) -> Floats:
    """E[1/G sum over trajectories and tokens of A_t grad log pi] over all groups of `size`, exactly.

    `whole_step`: the credit compares groups with each other, so that each one is a step of its own.
    """
    return sum((update(make, mdp, step) for step in steps_of(mdp, size, whole_step)), np.zeros(PARAMETERS))


def update(make: Make, mdp: Mdp, step: Step) -> Floats:
    """A step's update, each group by its chance."""
    advantages_T = make(mdp.supplies(step.batch))(step.batch)
    assert not advantages_T[~step.batch.mask_T].any(), "an advantage off the mask"
    return (step.weights_U * advantages_T[first_tokens(step.batch) == 1]) @ step.scores_UK


def alignment(update: Floats, gradient: Floats) -> tuple[float, float]:
    """(cosine, length along the gradient in its own units): (1, 1) is no bias, (1, c) none but for the scale."""
    along = float(update @ gradient)
    length = float(np.linalg.norm(update) * np.linalg.norm(gradient))
    return (along / length if length else 0.0), along / float(gradient @ gradient)
