"""Rewards for how an assistant deals with its user: what both get out of it, and what its questions are worth."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from journeyman.errors import DataError
from journeyman.expressions import NotNegative
from journeyman.rewards.base import Group, Score, TurnScores, per_turn, scorable
from journeyman.rewards.graded import well_formed
from journeyman.rewards.judge import answer_of, split_thought
from journeyman.trajectory import Trajectory, Turn

# ---- GTAlign

FLOOR = 1e-4
"""What both utilities have at least (#106)."""


def gtalign(
    group: Sequence[Trajectory],
    *,
    mean: Literal["geometric", "arithmetic"] = "geometric",
    question_cost: NotNegative = 0.0,
) -> list[Score]:
    """GTAlign (#106, verified): the root of the product of two utilities, or in the ablation their mean.

    The user's: 1e-4 + 0.5 answer + 0.2 length(response, 20, 500) + 0.3 exp(-characters of thought / 500). The model's:
    1e-4 + 0.2 format + 0.2 payoff + 0.4 answer + 0.2 length(all, 500, 1000). The answer is the environment's graded
    verdict; lengths are in words, see `fitting_length`; payoff is `payoff_share` of what stands in `<payoff>` tags.
    Without the right format it is 0. `question_cost` takes off the user's utility for each reply it had to give (ours;
    0: as published). NOT covered: the inverted user's term for harmful requests. Unscorable without a verdict.
    """
    return [_welfare(t, mean, question_cost) if scorable(t) else Score(total=None) for t in group]


def _welfare(trajectory: Trajectory, mean: str, question_cost: float) -> Score:
    if not well_formed(trajectory):
        return Score(total=0.0, parts={"well_formed": 0.0})
    answer = trajectory.score if trajectory.score is not None else float(bool(trajectory.correct))
    texts = [turn.text for turn in trajectory.turns]
    thought = sum(len(split_thought(text)[0]) for text in texts)
    replies = sum(bool(turn.reply) for turn in trajectory.turns)
    response, every = len(answer_of(trajectory).split()), sum(len(text.split()) for text in texts)
    user = FLOOR + 0.5 * answer + 0.2 * fitting_length(response, 20, 500) + 0.3 * math.exp(-thought / 500)
    user = max(FLOOR, user - question_cost * replies)
    model = FLOOR + 0.2 + 0.2 * payoff_share(texts) + 0.4 * answer + 0.2 * fitting_length(every, 500, 1000)
    parts = {"well_formed": 1.0, "user_utility": user, "model_utility": model}
    return Score(total=welfare(user, model, mean=mean), parts=parts)


def welfare(user: float, model: float, *, mean: str = "geometric") -> float:
    """Two utilities as one: their root, high only where both are, or their mean (#106)."""
    return math.sqrt(user * model) if mean == "geometric" else (user + model) / 2


def fitting_length(words: int, low: int, high: int) -> float:
    """GTAlign's term for a length from low to high (#106): the product of two sigmoids; 0.59 at best for 20 to 500."""
    return 1 / (1 + math.exp(-0.005 * (words - low))) / (1 + math.exp(min(700, -0.005 * (high - words))))


def payoff_share(texts: Sequence[str]) -> float:
    """GTAlign's payoff term (#106), in [0, 1]: of six cells each 1/12 if user and model get unlike payoffs, and 1/12 more
    if they differ by over a tenth.

    The cells are the first six pairs of numbers in a JSON object between `<payoff>` tags (the tags are ours). It pays
    for any unlike numbers, true or not.
    """
    block = re.search(r"<payoff>([^<]{1,4000})</payoff>", "\n".join(texts))
    try:
        pairs = list(_pairs(json.loads(block[1])))[:6] if block else []
    except (ValueError, RecursionError, OverflowError):
        return 0.0
    return sum((a != b) + (abs(a - b) > 0.1 * max(abs(a), abs(b))) for a, b in pairs) / 12


def _pairs(value: object) -> Iterator[tuple[float, float]]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _pairs(inner)
    elif isinstance(value, list) and len(value) == 2 and all(type(one) in (int, float) for one in value):
        yield float(value[0]), float(value[1])
    elif isinstance(value, list):
        for inner in value:
            yield from _pairs(inner)


# ---- Nous


def information_asked(group: Group, *, tool: str = "ask_user", turn_cost: NotNegative = 0.0) -> TurnScores:
    """Nous (#126, derived): each question earns the entropy in bits that its answer takes from what the user may mean,
    r_t = H_(t-1) - H_t; the sum is H_0 - H_T.

    The belief is uniform over what is left: of `data["candidates"]` (records, with the id of the one that is meant in
    `target`), H = log2 of how many; or of `data["attributes"]` (name to values, with the values that are meant in
    `intent`), H = sum of log2 of the values left. A question is a call of `tool` with `attribute` and maybe `value`, or
    words that name them and get a reply. `turn_cost` is what each costs (ours; 0: as published): without it questions
    that tell nothing are free. Unscorable without such data.
    """
    return [_asked(t, group, tool, turn_cost) if t.stop_reason.scorable else Score(total=None) for t in group]


def _asked(trajectory: Trajectory, group: Group, tool: str, turn_cost: float) -> Score:
    belief = _belief(group)
    if belief is None:
        return Score(total=None)
    before, earned = belief.entropy(), []
    left = before
    for turn in trajectory.turns:
        questions = _questions(turn, tool, belief)
        for attribute, value in questions:
            belief.tell(attribute, value)
        count = len(questions) or int(bool(turn.reply))
        earned.append(left - belief.entropy() - turn_cost * count)
        left = belief.entropy()
    score = per_turn(trajectory, earned, name="information")
    return Score(
        total=score.total,
        parts={**score.parts, "entropy_before": before, "entropy_after": left},
        turns=score.turns,
        turn_parts=score.turn_parts,
    )


class _Belief(Protocol):
    """What the user may mean."""

    own: Mapping[str, str]
    """What it means."""

    def entropy(self) -> float: ...

    def known(self, attribute: str) -> set[str]:
        """All values that an attribute may have had at first."""
        ...

    def tell(self, attribute: str, value: str) -> None:
        """Take the true answer: to whether it has that value, or for the empty value which one it has."""
        ...


@dataclass(slots=True)
class _Joint:
    own: Mapping[str, str]
    left: list[Mapping[str, str]]
    first: Sequence[Mapping[str, str]]

    def entropy(self) -> float:
        from journeyman.environments.inquiry import entropy

        return entropy(self.left)

    def known(self, attribute: str) -> set[str]:
        return {record[attribute] for record in self.first if attribute in record}

    def tell(self, attribute: str, value: str) -> None:
        wanted = value or self.own[attribute]
        truth = self.own[attribute] == wanted
        self.left = [record for record in self.left if (record[attribute] == wanted) is truth]


@dataclass(slots=True)
class _Factored:
    own: Mapping[str, str]
    left: dict[str, list[str]]
    first: Mapping[str, Sequence[str]]

    def entropy(self) -> float:
        from journeyman.environments.inquiry import factored_entropy

        return factored_entropy(self.left)

    def known(self, attribute: str) -> set[str]:
        return set(self.first.get(attribute, ()))

    def tell(self, attribute: str, value: str) -> None:
        wanted = value or self.own[attribute]
        truth = self.own[attribute] == wanted
        self.left[attribute] = [one for one in self.left[attribute] if (one == wanted) is truth]


def _belief(group: Group) -> _Belief | None:
    """At first; None where the problem says nothing of it. Raises `DataError` where what it says can't be."""
    data, name = group.data, group.problem.id if group.problem else "problem"
    if "candidates" in data and "target" in data:
        records = list(data["candidates"])
        meant = [record for record in records if record["id"] == data["target"]]
        if len(meant) != 1:
            raise DataError("the target is not one of the candidates", place=f"{name}: data.target")
        return _Joint(meant[0], records, records)
    if "attributes" in data and "intent" in data:
        values, own = data["attributes"], data["intent"]
        if any(own.get(attribute) not in known for attribute, known in values.items()):
            raise DataError("what is meant is not among the attributes' values", place=f"{name}: data.intent")
        return _Factored(own, {attribute: list(known) for attribute, known in values.items()}, values)
    return None


def _questions(turn: Turn, tool: str, belief: _Belief) -> list[tuple[str, str]]:
    """(attribute, value or nothing) of what a turn asked and was answered."""
    attributes = [attribute for attribute in belief.own if attribute != "id"]
    if turn.calls:
        said = [c.arguments for c, r in zip(turn.calls, turn.results, strict=False) if c.name == tool and r.ok]
        found = [(str(one.get("attribute", "")), str(one.get("value") or "")) for one in said]
        return [(attribute, value) for attribute, value in found if attribute in attributes]
    words = set(re.findall(r"\w+", split_thought(turn.text)[1].casefold()))
    answer = re.findall(r"\w+", turn.reply.casefold())
    if answer[:1] in (["yes"], ["no"]):
        named = [(a, value) for a in attributes for value in sorted(belief.known(a)) if value.casefold() in words]
        return named if len(named) == 1 else []
    return [(a, "") for a in attributes if a.casefold() in words and belief.own[a].casefold() in answer]
