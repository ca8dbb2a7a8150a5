"""Environments around environments: what they pass on, whatever is around what."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import pytest

from journeyman.environments.base import Environment, validate, walked
from journeyman.environments.compressed import Compressed
from journeyman.environments.folding import Folding
from journeyman.environments.gsm8k import Gsm8k
from journeyman.environments.lending import Lending
from journeyman.environments.lookup import Lookup
from journeyman.environments.noise import Noisy
from journeyman.environments.tau2.desk import Desk
from journeyman.environments.wrapped import Wrapped
from journeyman.errors import UserError
from journeyman.messages import ToolCall
from journeyman.tools.base import CallContext
from journeyman.tools.memory import FoldMemory, Recall
from tests.unit.fakes import some

AROUND: list[Callable[[Environment], Wrapped]] = [
    Noisy,
    Folding,
    Compressed,
    lambda inner: Lending(inner, {"fold_memory": FoldMemory()}),
    lambda inner: Compressed(Folding(Noisy(inner))),
]


@pytest.mark.parametrize("around", AROUND)
def test_the_problems_and_the_verdicts_are_those_inside(around: Callable[[Environment], Wrapped]) -> None:
    world = around(Lookup())
    made = list(islice(world.generate(random.Random(1)), 4))
    assert [p.question for p in made] == [p.question for p in some("lookup", 4, seed=1)]
    assert {p.family for p in made} == {world.name} and len({p.id for p in made}) == 4
    validate(world, made)
    assert world.phrases == Lookup().phrases


@pytest.mark.parametrize("around", AROUND)
def test_a_dialogue_with_a_state_can_be_inside(around: Callable[[Environment], Wrapped]) -> None:
    world = around(Desk())
    for problem in some("desk", 3):
        inside = replace(problem, family=world.name, tools=tuple(world.tools()))
        plain, walk = [
            asyncio.run(walked(each, asked, each.courses(problem)[0]))
            for each, asked in ((Desk(), problem), (world, inside))
        ]
        assert walk.verdict.correct and walk.verdict.score == plain.verdict.score
        assert walk.outputs == plain.outputs and walk.opening == plain.opening
    assert world.reset(inside, CallContext()).sequential


def test_tools_are_added_only_where_the_problem_has_them() -> None:
    world = Lending(Lookup(), {"recall": Recall(), "fold_memory": FoldMemory()})
    [problem] = some("lookup", 1)
    assert set(world.reset(problem, CallContext()).tools) == {"search"}
    both = replace(problem, tools=("search", "recall", "fold_memory"))
    episode = world.reset(both, CallContext())
    assert (
        list(episode.tools) == ["search", "recall", "fold_memory"] and episode.offered().keys() == episode.tools.keys()
    )
    assert world.original(both).tools == ("search",)

    async def run() -> str:
        await episode.call(ToolCall(name="fold_memory", arguments={"progress": "half", "events": []}))
        return (await episode.call(ToolCall(name="recall", arguments={"query": "half"}))).output

    assert asyncio.run(run()) == "half"


def test_what_the_world_inside_cannot_do_is_said() -> None:
    rows = Compressed(Gsm8k())
    assert rows.columns == ("question", "answer") and Compressed(Lookup()).columns == ()
    with pytest.raises(UserError, match="gsm8k makes no problems"):
        rows.generate(random.Random(0))
    with pytest.raises(UserError, match="lookup reads no rows"):
        Folding(Lookup()).read([])
