"""Folding: by the policy or by a second model, in the real loop; what a context that begins anew still has."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from journeyman.environments import ENVIRONMENTS
from journeyman.environments.folding import FoldedEpisode, Folding
from journeyman.environments.lookup import Lookup
from journeyman.environments.tau2.desk import Desk
from journeyman.llm import Scripted
from journeyman.messages import Message, ParsedTurn, ToolCall
from journeyman.problem import Problem
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.tools.base import CallContext
from journeyman.trajectory import StopReason, Trajectory
from tests.unit.fakes import ScriptedSampler, World, some

NOTES = {"progress": "two of three", "events": [{"step": "asked", "outcome": "it is Mira"}]}
FOLD = ToolCall(name="fold_memory", arguments=NOTES)
FIND = ToolCall(name="search", arguments={"query": "pet"})


def attempt(world: World, problem: Problem, turns: Sequence[Sequence[ToolCall]]) -> tuple[Trajectory, list[str]]:
    """Turns of calls, then the answer; and the prompt of each turn."""
    texts = [world.chat.calls.render("", calls) for calls in turns]
    sampler = ScriptedSampler(world.chat, [*texts, f"<answer>{problem.answer}</answer>"])
    job = RolloutJob(problem=problem, max_new_tokens=800, max_turns=8)
    made = asyncio.run(Agent(sampler, world.chat, 4096).attempt(job))
    return made, [world.chat.decode(request.prompt_ids) for request in sampler.requests]


def test_the_policy_folds_and_goes_on_from_its_notes(world: World) -> None:
    problem = some("folding", 1)[0]
    assert set(problem.tools) == {"search", "fold_memory"}
    broken = ToolCall(name="fold_memory", arguments={"progress": 1, "events": []})
    other = ToolCall(name="search", arguments={"query": "mayor"})
    made, prompts = attempt(world, problem, [[FIND], [broken], [FOLD, other], [FIND]])
    assert made.stop_reason is StopReason.ANSWER and made.correct and made.score_parts["folds"] == 1.0
    assert len(made.samples()) == 2, "notes that were refused fold nothing"
    first, beside = made.turns[0].results[0].output, made.turns[2].results[1].output
    assert first in prompts[1] and first in prompts[2]
    assert all(problem.question in prompt for prompt in prompts)
    folded = prompts[3]
    assert first not in folded and '"progress": "two of three"' in folded and "it is Mira" in folded
    assert f"[search] {beside}" in folded, "what came beside the fold is in no notes: it stays"
    assert prompts[4].startswith(folded), "from there on the context grows as ever"
    assert {spec["function"]["name"] for spec in made.specs} == {"search", "fold_memory"}


def second_model(**options: Any) -> tuple[Folding, Scripted]:
    chat = Scripted(lambda messages: json.dumps({**NOTES, "goal": "the rest"}))
    return Folding(Lookup(), chat=chat, **options), chat


def test_a_second_model_folds_after_so_many_turns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    family, chat = second_model(characters=None, turns=2)
    monkeypatch.setitem(ENVIRONMENTS, "folded", lambda: family)
    problem = replace(some("lookup", 1)[0], family="folded")
    made, prompts = attempt(world, problem, [[FIND]] * 5)
    assert made.correct and made.score_parts["folds"] == 2.0 and len(made.samples()) == 3
    assert [token in prompts[3] for token in ("two of three", "the rest")] == [True, True]
    seen = made.turns[0].results[0].output
    assert [prompt.count(seen) for prompt in prompts] == [0, 1, 0, 1, 0, 1]
    told = chat.asked[0][0].content
    assert problem.question in told and 'search({"query": "pet"})' in told and told.count(seen) == 2
    assert '"calls": 2' in chat.asked[1][0].content, "what was counted of tools goes on from fold to fold"
    assert [spec["function"]["name"] for spec in made.specs] == ["search"]


def test_a_second_model_folds_what_is_too_long() -> None:
    family, chat = second_model(characters=400)
    [problem] = some("lookup", 1)

    async def run() -> list[int]:
        episode, lengths, length = family.reset(problem, CallContext()), [], 0
        for _ in range(12):
            reaction = await episode.step(ParsedTurn(calls=(FIND,)))
            length += len('search({"query": "pet"})') + len(reaction.results[0].output)
            if reaction.restart is not None:
                lengths.append(length)
                length = 0
        return lengths

    lengths = asyncio.run(run())
    assert lengths and len(lengths) == len(chat.asked) and all(length > 400 for length in lengths)


def test_a_folded_attempt_goes_on_from_a_stored_state() -> None:
    family, _ = second_model(turns=2)
    [problem] = some("lookup", 1)

    async def run() -> None:
        episode = family.reset(problem, CallContext())
        for _ in range(3):
            await episode.step(ParsedTurn(calls=(FIND,)))
        other = family.reset(problem, CallContext())
        other.load_state_dict(json.loads(json.dumps(episode.state_dict())))
        one, two = [await each.step(ParsedTurn(calls=(FIND,))) for each in (episode, other)]
        assert one.restart == two.restart and one.restart is not None
        assert isinstance(other, FoldedEpisode) and other.folds == 2
        own = Folding(Lookup()).reset(problem, CallContext())
        await own.step(ParsedTurn(calls=(FOLD,)))
        fork = own.fork(CallContext(seed=1))
        again = await fork.step(ParsedTurn(calls=(FOLD,)))
        assert again.restart is not None and again.restart[0].content.count("it is Mira") == 2
        assert (await fork.verify(problem.answer)).parts["folds"] == 2.0
        assert (await own.verify(problem.answer)).parts["folds"] == 1.0

    asyncio.run(run())


def test_a_dialogue_is_folded_with_its_policy_and_the_last_words_kept() -> None:
    chat = Scripted(lambda messages: json.dumps(NOTES))
    [problem] = some("desk", 1)

    async def run() -> tuple[tuple[Message, ...], tuple[Message, ...] | None, str]:
        episode = Folding(Desk(), chat=chat, turns=1).reset(problem, CallContext())
        await episode.begin()
        reaction = await episode.step(ParsedTurn(text="What may I do for you?"))
        assert reaction.reply is not None
        return episode.opening(), reaction.restart, reaction.reply.content

    opening, restart, words = asyncio.run(run())
    assert restart is not None and opening[0].role == "system" and restart[:-1] == opening[:-1]
    assert restart[-1].content.startswith(opening[-1].content) and restart[-1].content.endswith(words)


def test_options_that_fold_nothing_are_refused() -> None:
    for characters, turns in ((None, None), (0, None), (400, 0)):
        with pytest.raises(ValueError, match="characters or turns"):
            Folding(characters=characters, turns=turns)
    named = Folding("fictional", options={"results": 1}, chat={"base_url": "http://localhost:1/v1", "model": "m"})
    assert named.inner.name == "fictional" and named.tools().keys() == {"search"}
    Folding().validate()
