"""What a reward is: scores with named parts for the trajectories of one problem."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar, overload, runtime_checkable

from journeyman.expressions import Yields
from journeyman.messages import Message
from journeyman.problem import Problem
from journeyman.trajectory import Span, Trajectory

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one trajectory earned."""

    total: float | None
    """All of it: what it earned as a whole, plus `turns`, plus `spans`. None: it could not be scored (never 0)."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """What the total is made of, by name; logged as metrics."""
    turns: tuple[float, ...] = ()
    """U step rewards: what of the total each turn earned. Empty: nothing was earned turn by turn."""
    turn_parts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """What the step rewards are made of, by name, U numbers each."""
    spans: tuple[Span, ...] = ()
    """Stretches of the policy's own text that earned something by themselves."""
    channels: Mapping[str, float | None] = field(default_factory=dict)
    """Rewards that get an advantage each, by name; None: the trajectory takes no part in that comparison."""


Scores = list[Score]
TurnScores = Annotated[list[Score], Yields(frozenset({"turns"}))]
"""Return type of a reward that pays turn by turn: `Score.turns` is filled."""
SpanScores = Annotated[list[Score], Yields(frozenset({"spans"}))]
"""Return type of a reward that pays for stretches of text: `Score.spans` is filled."""


@dataclass(frozen=True, kw_only=True)
class Group(Sequence[Trajectory]):
    """The trajectories of one problem, and what a reward may want to know besides."""

    trajectories: tuple[Trajectory, ...]
    problem: Problem | None = None
    """None where a reward is tried on trajectories alone."""
    step: int = 0
    """Of the stage, from 0."""
    steps: int = 1
    """Of the stage in all."""
    batch: tuple[tuple[Trajectory, ...], ...] = ()
    """All groups of the step, this one too; empty: this one alone."""

    @overload
    def __getitem__(self, index: int) -> Trajectory: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Trajectory]: ...
    def __getitem__(self, index: int | slice) -> Trajectory | Sequence[Trajectory]:
        return self.trajectories[index]

    def __len__(self) -> int:
        return len(self.trajectories)

    def __iter__(self) -> Iterator[Trajectory]:
        return iter(self.trajectories)

    @cached_property
    def groups(self) -> tuple[tuple[Trajectory, ...], ...]:
        """All groups of the step."""
        return self.batch or (self.trajectories,)

    @property
    def data(self) -> Mapping[str, Any]:
        """The problem's own data; empty where there is no problem."""
        return self.problem.data if self.problem else {}


Reward = Callable[[Group], list[Score]]
"""The trajectories of one problem -> a score for each, in order. A pure function but for what it is supplied with.

One that looks at nothing but the trajectories can be written for a `Sequence[Trajectory]`. Keyword-only parameters are
options; those that are named in `NEEDS` are supplied by the pipeline.
"""
Like = Annotated[Reward, Yields(of_operands=True)]
"""Return type of a combinator whose result pays turn by turn where its operands do."""


class Judge(Protocol):
    """Somebody who is asked in words: a model behind an endpoint, a Sampler, a rule."""

    def ask(self, questions: Sequence[str], *, samples: int = 1, temperature: float = 0.0) -> list[list[str]]:
        """`samples` answers to each question, as they were written. Raises `InfrastructureError`."""
        ...


@runtime_checkable
class DeferringJudge(Protocol):
    """A `Judge` that can be asked now and heard later, while others go on."""

    def ask_later(self, questions: Sequence[str]) -> Callable[[], list[list[str]]]:
        """What waits for the answers, one to each question, at temperature 0; it raises as `ask` does."""
        ...


class Encoder(Protocol):
    """Texts to vectors."""

    def embed(self, texts: Sequence[str]) -> "np.ndarray":
        """One row of length 1 for each text: n x d, float64."""
        ...


class Policy(Protocol):
    """The policy's own log-probabilities, under the weights that sampled the step."""

    def logprobs(self, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        """For each (prompt ids, continuation ids): the log-probability of each continuation token, in nats."""
        ...

    def encode(self, text: str) -> list[int]:
        """The ids of a text as it stands inside a turn, without special tokens of the template."""
        ...

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a conversation up to where the policy's next turn begins, without tools."""
        ...


class History:
    """What a reward remembers of earlier steps, by its own name and a key. Part of a stage's checkpoint."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[str, float]] = {}
        self._windows: dict[str, list[float]] = {}
        self._notes: dict[str, dict[str, Any]] = {}
        self._done: dict[str, tuple[Any, Sequence[Any]]] = {}
        self._doing = Lock()
        self.awaited: dict[str, Callable[[], list[list[str]]]] = {}
        """What a judge was asked and has not been heard on, by name. Not part of the checkpoint: it is asked again."""

    def least(self, name: str, key: str, value: float | None = None) -> float | None:
        """The smallest value ever given for a key, `value` included; None where there was none."""
        known = self._numbers.setdefault(name, {})
        if value is not None:
            known[key] = min(value, known.get(key, value))
        return known.get(key)

    def get(self, name: str, key: str, default: float) -> float:
        return self._numbers.get(name, {}).get(key, default)

    def set(self, name: str, key: str, value: float) -> None:
        self._numbers.setdefault(name, {})[key] = value

    def window(self, name: str, values: Sequence[float], size: int) -> list[float]:
        """The last `size` values given under a name, these included."""
        kept = [*self._windows.get(name, []), *values][-size:]
        self._windows[name] = kept
        return list(kept)

    def note(self, name: str) -> dict[str, Any]:
        """What is kept under a name: JSON of any form, changed in place by the one whose name it is."""
        return self._notes.setdefault(name, {})

    def once(self, name: str, group: Group, work: Callable[[], Sequence[T]]) -> T:
        """What `work` makes of the group: it works on all of a step's groups at once, when the first of them comes."""
        whole = (group.step, group.groups)
        with self._doing:  # groups are scored in several threads
            known = self._done.get(name)
            if known is None or known[0] != whole:
                known = self._done[name] = (whole, work())
            return known[1][group.groups.index(group.trajectories)]

    def state_dict(self) -> dict[str, Any]:
        numbers = {name: dict(values) for name, values in self._numbers.items()}
        windows = {name: list(values) for name, values in self._windows.items()}
        return {"numbers": numbers, "windows": windows, "notes": deepcopy(self._notes)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if unknown := set(state) - {"numbers", "windows", "notes"}:
            raise ValueError(f"a history has no {', '.join(sorted(unknown))}")
        self._notes = deepcopy(dict(state.get("notes", {})))  # states of older stages have none
        self._done, self.awaited = {}, {}
        self._numbers = {name: dict(values) for name, values in state["numbers"].items()}
        self._windows = {name: list(values) for name, values in state["windows"].items()}


NEEDS = {
    "judge": "set `judge` in the rl block: an endpoint, or the sampler",
    "encoder": "set `encoder` in the rl block",
    "policy": "the rl stage supplies it",
    "history": "the rl stage supplies it",
}
"""Keyword-only parameters that the pipeline supplies -> what it takes to have them."""


def apply_reward(reward: Reward, group: Group | Sequence[Trajectory]) -> list[Trajectory]:
    """The group with its scores written in."""
    whole = group if isinstance(group, Group) else Group(trajectories=tuple(group))
    scores = reward(whole)
    return [
        t.scored(
            score.total,
            score.parts,
            turn_rewards=score.turns,
            turn_parts=score.turn_parts,
            reward_spans=score.spans,
            reward_channels=score.channels,
        )
        for t, score in zip(whole, scores, strict=True)
    ]


UNSCORED = Score(total=None)


def scorable(trajectory: Trajectory) -> bool:
    """Whether the attempt says anything about the policy and the environment gave its verdict."""
    return trajectory.correct is not None and trajectory.stop_reason.scorable


def per_turn(trajectory: Trajectory, turns: Sequence[float], *, end: float = 0.0, name: str = "steps") -> Score:
    """A score of step rewards, with what the whole earned besides."""
    assert len(turns) == len(trajectory.turns), "one number a turn"
    total = end + sum(turns)
    return Score(total=total, parts={name: sum(turns)}, turns=tuple(turns), turn_parts={name: tuple(turns)})
