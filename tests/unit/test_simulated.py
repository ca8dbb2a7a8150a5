"""Simulated tools: the filter as worked by hand, and tools that stay with what they said."""

import asyncio
import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.environments.episode import ToolCrash
from journeyman.environments.simulated_tools import SimulatedTools
from journeyman.llm import Scripted
from journeyman.messages import Message, ToolCall
from journeyman.problem import Problem
from journeyman.seeds import derive
from journeyman.tools.base import CallContext
from journeyman.tools.consistency import Judge, LoggedCall, choose, overlap, weights
from journeyman.tools.simulated import SimulatedSpec, Simulator


def test_candidates_are_weighed_as_worked_by_hand() -> None:
    # softmax of (.9, .8, .2) / .1 = (9, 8, 2): e^9 = 8103.08, e^8 = 2980.96, e^2 = 7.39, sum 11091.43
    assert [round(value, 4) for value in weights((0.9, 0.8, 0.2))] == [0.7306, 0.2688, 0.0007]
    assert choose((0.55, 0.2), random.Random(0)) is None and choose((), random.Random(0)) is None
    drawn = [choose((0.9, 0.8, 0.2), random.Random(seed)) for seed in range(400)]
    assert drawn.count(0) / 400 == pytest.approx(0.73, abs=0.07) and drawn.count(2) <= 4
    assert choose((0.6, 0.1), random.Random(1)) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers())
def test_a_choice_is_made_where_one_is_good_enough(scores: list[float], seed: int) -> None:
    chosen = choose(scores, random.Random(seed))
    assert (chosen is None) == (max(scores) < 0.6)
    assert sum(weights(scores)) == pytest.approx(1.0)


def test_overlap_is_the_share_of_arguments_repeated() -> None:
    assert overlap({"city": "Rome", "days": 3, "deep": {"a": ["x"]}}, '{"city": "ROME", "x": 1}') == pytest.approx(
        2 / 3
    )
    assert overlap({}, "anything") == 0.5 == overlap({"a": None, "b": True}, "anything")


CITIES = ("Rome", "Oslo", "Bonn", "Lima", "Cairo", "Quito", "Paris", "Delhi")
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
}


def real(number: int) -> LoggedCall:
    city = CITIES[number % len(CITIES)]
    output = json.dumps({"city": city, "degrees": number % 30})
    return LoggedCall(tool="weather", arguments={"city": city}, output=output)


def shuffled(calls: Sequence[LoggedCall]) -> list[LoggedCall]:
    """Every call with the output of the next."""
    outputs = [call.output for call in (*calls[1:], calls[0])]
    return [LoggedCall(tool=c.tool, arguments=c.arguments, output=o) for c, o in zip(calls, outputs, strict=True)]


def auc(right: Sequence[float], wrong: Sequence[float]) -> float:
    pairs = [(a > b) + 0.5 * (a == b) for a in right for b in wrong]
    return sum(pairs) / len(pairs)


def test_real_outputs_score_above_shuffled_and_broken_ones() -> None:
    judge = Judge({"weather": SCHEMA})
    with pytest.raises(ValueError, match="not been trained"):
        judge.score([real(1)])
    with pytest.raises(ValueError, match="needs real"):
        judge.fit_round([], [])
    judge.fit_round([real(i) for i in range(40)], shuffled([real(i) for i in range(40)]))
    unseen = [real(i) for i in range(100, 130)]
    assert auc(judge.score(unseen), judge.score(shuffled(unseen))) > 0.95
    broken = [LoggedCall(tool="weather", arguments=call.arguments, output="It is warm. " * 9) for call in unseen]
    judge.fit_round([real(i) for i in range(40)], broken[:20])
    scores = judge.score(unseen)
    assert auc(scores, judge.score(broken)) > 0.95 and auc(scores, judge.score(shuffled(unseen))) > 0.95
    again = Judge({"weather": SCHEMA})
    again.load_state_dict(json.loads(json.dumps(judge.state_dict())))
    assert again.score(unseen) == pytest.approx(scores)


SPEC = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Noisy:
    """A model that answers by its seed: every third answer is about another city."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    async def complete(
        self, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
    ) -> str:
        self.seeds.append(seed)
        asked = json.loads(messages[-1].content.removeprefix("weather(").removesuffix(")"))["city"]
        rng = random.Random(seed)
        city = asked if rng.random() < 0.67 else "Atlantis"
        return "```json\n" + json.dumps({"city": city, "degrees": rng.randrange(30)}) + "\n```"


def simulator(chat: Any, **options: Any) -> Simulator:
    return Simulator([SimulatedSpec(spec=SPEC, output=SCHEMA, examples=(real(0),))], chat, **options)


def attempt(made: Simulator, *cities: Any, seed: int = 0) -> list[str]:
    """Outputs of the calls of one attempt."""

    async def walk() -> list[str]:
        tool = made.open(CallContext())["weather"]
        return [
            (await tool.call({"city": city}, CallContext(seed=derive(seed, i)))).output for i, city in enumerate(cities)
        ]

    return asyncio.run(walk())


def test_the_same_call_has_the_same_answer() -> None:
    chat = Noisy()
    first, second, again = attempt(simulator(chat), "Oslo", "Bonn", "Oslo")
    assert first == again != second and len(chat.seeds) == 2
    assert attempt(simulator(chat), "Rome") == [real(0).output] and len(chat.seeds) == 2, "a real call is known"


def test_attempts_replay_by_seed_and_agree_where_the_world_is_common() -> None:
    runs = [attempt(simulator(Noisy()), "Oslo", "Bonn", seed=seed) for seed in (1, 1, 2, 3)]
    assert runs[0] == runs[1] and len({tuple(run) for run in runs}) > 1
    common = [attempt(simulator(Noisy(), common=True), "Oslo", "Bonn", seed=seed) for seed in (1, 2, 3)]
    assert common[0] == common[1] == common[2]


def test_arguments_are_checked_before_the_model_is_asked() -> None:
    chat = Noisy()
    wrong = attempt(simulator(chat), 3)[0]
    assert wrong.startswith("error: weather: city: 3 is not of type") and chat.seeds == []


def test_outputs_must_fit_the_schema_and_errors_are_observations() -> None:
    assert attempt(simulator(Scripted(["error: no such city"])), "Mars") == ["error: no such city"]
    for bad in ("It is warm.", '{"city": "Oslo"}', '{"city": "Oslo", "degrees": "3"}'):
        with pytest.raises(RuntimeError, match="no output fits"):
            attempt(simulator(Scripted([bad])), "Oslo")
    free = Simulator([SimulatedSpec(spec=SPEC)], Scripted(["It is warm."]))
    assert attempt(free, "Oslo") == ["It is warm."]


def test_the_filter_takes_what_looks_real_and_ends_the_attempt_where_nothing_does() -> None:
    judge = Judge({"weather": SCHEMA})
    judge.fit_round([real(i) for i in range(40)], shuffled([real(i) for i in range(40)]))
    chat = Noisy()
    outputs = attempt(simulator(chat, score=judge.score), *CITIES[1:])
    right = [json.loads(output)["city"] == city for output, city in zip(outputs, CITIES[1:], strict=True)]
    assert all(right) and len(chat.seeds) == 8 * 7
    with pytest.raises(RuntimeError, match=r"scores 0\.55"):
        attempt(simulator(Noisy(), score=lambda calls: [0.55] * len(calls)), "Oslo")


def test_the_model_is_reminded_of_what_it_said() -> None:
    chat = Scripted(lambda _: '{"city": "Oslo", "degrees": 3}')
    attempt(simulator(chat, facts="It is winter."), "Oslo", "Bonn")
    system = chat.asked[1][0].content
    assert 'weather({"city": "Oslo"}) -> {"city": "Oslo", "degrees": 3}' in system and "It is winter." in system


def test_a_world_of_simulated_tools() -> None:
    asked = Problem(id="p", family="played", question="How warm is Oslo?", answer="3", tools=("weather",))

    async def play() -> None:
        world = SimulatedTools("played", simulator(Scripted(['{"city": "Oslo", "degrees": 3}', "nonsense"])))
        world.validate()
        episode = world.reset(asked, CallContext(trajectory="t", seed=1))
        oslo, bonn = (ToolCall(name="weather", arguments={"city": city}) for city in ("Oslo", "Bonn"))
        first = await episode.call(oslo)
        fork = episode.fork(CallContext(trajectory="u", seed=2))
        assert (await fork.call(oslo)).output == first.output
        with pytest.raises(ToolCrash, match="no output fits"):
            await episode.call(bonn)
        assert (await episode.verify("3")).correct and not (await episode.verify("4")).correct

    asyncio.run(play())
