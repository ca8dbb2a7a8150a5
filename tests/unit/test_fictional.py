"""Multi-hop questions: renaming is one to one, memory is useless, judgements are scored, rows are read."""

import asyncio
import json
import random
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.environments.base import validate, walked
from journeyman.environments.episode import Episode, Verdict
from journeyman.environments.fictional import Fictional
from journeyman.environments.knowledge import RELATIONS, make_graph, new_names, renamed
from journeyman.environments.multihop import (
    DROPPED,
    EXAMPLES,
    INSTRUCTIONS,
    MultiHop,
    exact,
    f1,
    helpful,
    judged_messages,
    judged_return,
    judgement,
)
from journeyman.messages import Message, ParsedTurn, ToolCall, ToolResult
from journeyman.problem import Problem
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.rollout.parse import render_call
from journeyman.tools.base import CallContext
from journeyman.trajectory import StopReason, Turn
from tests.unit.fakes import ScriptedSampler, World

FICTIONAL = Fictional()


def problems(count: int, seed: int = 0, environment: Fictional = FICTIONAL) -> list[Problem]:
    return list(islice(environment.generate(random.Random(seed)), count))


@settings(max_examples=10)
@given(st.integers(0, 2**40))
def test_renaming_is_one_to_one_and_leaves_no_old_name(seed: int) -> None:
    before = make_graph(seed)
    after = renamed(before, seed)
    names = [name for entity in after.entities.values() for name in (entity.name, *entity.aliases)]
    assert len(set(names)) == len(names) and before.entities.keys() == after.entities.keys()
    old = {name for entity in before.entities.values() for name in (entity.name, *entity.aliases)}
    assert not old & set(names)
    shifts = {int(a) - int(before.facts[place]) for place, a in after.facts.items() if isinstance(a, int)}
    assert len(shifts) == 1 and 0 not in shifts  # years move together: what was earlier still is
    assert all(a == before.facts[place] for place, a in after.facts.items() if isinstance(a, str))


@pytest.mark.parametrize("world", [23, 24])
def test_a_closed_book_model_with_the_old_names_scores_nothing(world: int) -> None:
    environment = Fictional(world=world)
    made = problems(300, environment=environment)
    assert not any(environment.verify(problem, problem.data["original"]) for problem in made)
    assert all(environment.verify(problem, problem.answer) for problem in made)


def test_worlds_of_other_seeds_share_no_page() -> None:
    assert not set(FICTIONAL.documents) & set(Fictional(world=24).documents)
    assert FICTIONAL.documents == Fictional().documents


def test_an_answer_follows_from_what_the_pages_say() -> None:
    facts, text = {}, "\n".join(FICTIONAL.documents)
    for noun, relation in RELATIONS.items():
        pattern = re.escape(relation.sentence).replace(r"\{x\}", "(?P<x>[^.]+?)").replace(r"\{y\}", "(?P<y>[^.]+?)")
        facts |= {(found["x"].strip(), noun): found["y"] for found in re.finditer(pattern, text)}
    checked = 0
    for problem in problems(200):
        asked = re.fullmatch(r"(?:What is|Tell me) ((?:the [a-z ]+? of )+)(.+)[?.]", problem.question)
        if asked is None or all(asked[2] != x for x, _ in facts):
            continue  # no path, or under another name
        at = asked[2]
        for noun in reversed(asked[1].removesuffix(" of ").split(" of ")):
            at = facts[at, noun.removeprefix("the ")]
        assert at == problem.answer
        checked += 1
    assert checked > 30


def test_questions_have_two_to_four_hops_or_compare_or_intersect() -> None:
    made = problems(400)
    paths = [p for p in made if p.question.startswith(("What is", "Tell me"))]
    assert {p.min_calls for p in paths} == {2, 3, 4}
    assert {p.min_calls for p in made if " or " in p.question} == {2, 3, 4}
    assert {p.min_calls for p in made if " whose " in p.question} == {2}
    assert {p.min_calls for p in problems(50, environment=Fictional(hops=(3, 3))) if p in paths} <= {3}


def test_validate_walks_every_course() -> None:
    validate(FICTIONAL, problems(100, seed=7))
    FICTIONAL.validate()
    required = Fictional(judging="required")
    for problem in problems(20, environment=required):
        verdict = asyncio.run(walked(required, problem, required.courses(problem)[0])).verdict
        assert verdict.parts["judge"] == 1.0 and verdict.parts["return"] == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        ("The Kar-Vost.", ["karvost"], True),
        ("old Karvost", ["Karvost", "Old Karvost"], True),
        ("Karvost or Mirden", ["Karvost"], False),
        ("", [""], False),
        ("the", ["a"], False),
    ],
)
def test_answers_are_compared_in_normal_form(answer: str, accepted: list[str], right: bool) -> None:
    assert exact(answer, accepted) is right


def test_f1_of_words_by_hand() -> None:
    # Two of three words given are right, and two of two wanted are found: 2 * 2 / (3 + 2).
    assert f1("Mira Voss Lane", "the Mira Voss") == pytest.approx(0.8)
    assert f1("Voss", "Mira Voss") == pytest.approx(2 / 3) and f1("", "x") == f1("y", "x") == 0.0


def test_an_observation_helps_with_half_of_the_words_of_a_gold_answer() -> None:
    assert helpful("The mayor is Mira Lane.", ["Mira Voss"])  # 1 of 2 words
    assert not helpful("The mayor is Mira Lane.", ["Mira Voss Karden"])  # 1 of 3
    assert helpful("1807 it was", ["Nobody", "1807"]) and not helpful("anything", ["", "the"])


def test_the_return_by_hand() -> None:
    # #190's example: 4 judgements, 3 right: 1 + 0.2 * (3 - 1) / 4 = 1.1.
    assert judged_return(True, [True, True, True, False]) == pytest.approx(1.1)
    assert judged_return(False, [True] * 50) == pytest.approx(0.2)  # farming useless searches is capped
    assert judged_return(True, []) == 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<judge>good</judge>", True),
        ("so <judge> BAD </judge> <judge>good</judge>", False),
        ("<judge>fine</judge>", None),
        ("good", None),
    ],
)
def test_judgements_are_read(text: str, said: bool | None) -> None:
    assert judgement(text) is said


def search(query: str, text: str = "") -> ParsedTurn:
    return ParsedTurn(calls=(ToolCall(name="search", arguments={"query": query}),), text=text)


def played(
    environment: MultiHop, problem: Problem, turns: list[ParsedTurn], answer: str
) -> tuple[Verdict, list[float]]:
    offered = replace(problem, tools=("search",))
    episode = environment.reset(offered, CallContext(trajectory="t", seed=1))

    async def run(episode: Episode) -> tuple[Verdict, list[float]]:
        rewards = []
        for turn in turns:
            rewards.append((await episode.step(turn)).reward)
            copy = episode.fork(CallContext(trajectory="copy", seed=2))  # the judgements are part of the state
            episode = copy
        return await episode.verify(answer), rewards

    return asyncio.run(run(episode))


def test_judgements_pay_by_turn_and_in_the_verdict() -> None:
    problem = next(p for p in problems(50) if p.min_calls == 3)
    queries = [step["query"] for step in problem.data["steps"]]
    turns = [
        search(queries[0]),
        search("rumours nobody knows", "<judge>good</judge>"),  # right: the first page helps
        search(queries[1], "<judge>good</judge>"),  # wrong: nothing was found
        search(queries[2]),  # not judged: that doesn't count where it is optional
        ParsedTurn(answer=problem.answer, text="<judge>good</judge>"),
    ]
    verdict, rewards = played(FICTIONAL, problem, turns, problem.answer)
    assert rewards == [0.0, 0.2, -0.2, 0.0, 0.2]
    # R = 1 + 0.2 * (2 - 1) / 3
    assert verdict.correct and verdict.parts["return"] == pytest.approx(1 + 0.2 / 3)
    required = Fictional(judging="required")
    verdict, rewards = played(required, problem, turns, problem.answer)
    assert rewards == [0.0, 0.2, -0.2, -0.2, 0.2] and verdict.parts["judge"] == 0.0
    verdict, rewards = played(Fictional(judging="off"), problem, turns, "nobody")
    assert set(rewards) == {0.0} and verdict.parts == {"exact": 0.0, "f1": 0.0}
    opening = required.reset(replace(problem, tools=("search",)), CallContext()).opening()
    assert opening[0].content == f"{problem.question}\n\n{INSTRUCTIONS}"


def test_the_loop_records_what_judgements_pay(world: World) -> None:
    problem = replace(next(p for p in problems(50) if p.min_calls == 2), tools=("search",))
    first, second = (
        render_call(ToolCall(name="search", arguments={"query": step["query"]})) for step in problem.data["steps"]
    )
    texts = [
        first,
        f"<think>well</think><judge>good</judge>\n{second}",
        f"<judge>bad</judge><answer>{problem.answer}</answer>",
    ]
    agent = Agent(ScriptedSampler(world.chat, texts), world.chat, max_length=4096)
    job = RolloutJob(problem=problem, max_new_tokens=2048)
    made = asyncio.run(agent.attempt(job))
    assert made.stop_reason is StopReason.ANSWER and made.correct and made.score == 1.0
    assert [turn.reward for turn in made.turns] == [0.0, 0.2, -0.2]
    assert made.score_parts["judge"] == 0.0 and made.score_parts["return"] == 1.0


def test_what_was_judged_bad_is_not_in_the_next_prompt() -> None:
    def turn(text: str, seen: str) -> Turn:
        call = ToolCall(name="search", arguments={"query": "q"})
        return Turn(text=text, calls=(call,), results=(ToolResult(name="search", ok=True, output=seen),))

    opening = (Message(role="user", content="Who?"),)
    turns = [turn("first", "swamp fog"), turn("<judge>bad</judge> second", "Mira"), turn("<judge>good</judge>", "Voss")]
    after_bad = judged_messages(opening, turns[:2])
    assert [m.content for m in after_bad] == ["Who?", "first", DROPPED, "<judge>bad</judge> second", "Mira"]
    prompt = " ".join(m.content for m in judged_messages(opening, turns))
    assert not {"swamp", "fog"} & set(prompt.split()) and "Mira" in prompt and "Voss" in prompt


def test_after_bad_the_context_begins_anew_without_what_was_seen(world: World) -> None:
    [made] = [p for p in problems(200) if p.min_calls == 4][:1]
    first, *others = (
        render_call(ToolCall(name="search", arguments={"query": step["query"]})) for step in made.data["steps"]
    )
    texts = [
        first,
        f"<think>no use</think><judge>bad</judge>\n{others[0]}",
        f"<judge>good</judge>\n{others[1]}",
        f"<judge>bad</judge>\n{others[2]}",
        f"<answer>{made.answer}</answer>",
    ]
    asked = replace(made, tools=("search",), world={"drops": True, "results": 1})
    sampler = ScriptedSampler(world.chat, texts)
    job = RolloutJob(problem=asked, max_new_tokens=400, max_turns=5)
    attempt = asyncio.run(Agent(sampler, world.chat, max_length=4096).attempt(job))
    assert attempt.stop_reason is StopReason.ANSWER and attempt.correct and len(attempt.samples()) == 3
    prompts = [world.chat.decode(request.prompt_ids) for request in sampler.requests]
    seen = [turn.results[0].output for turn in attempt.turns[:4]]
    assert len(set(seen)) == 4
    # Observations 1 and 3 are judged bad in turns 2 and 4: they are in the prompts of those turns and in no later one.
    shown = [[k for k, output in enumerate(seen, 1) if output in prompt] for prompt in prompts]
    assert shown == [[], [1], [2], [2, 3], [2, 4]]
    assert [prompt.count(DROPPED) for prompt in prompts] == [0, 0, 1, 1, 2]
    # All calls stay, each once; the thought doesn't.
    assert [prompt.count('"search", "arguments"') for prompt in prompts] == [0, 1, 2, 3, 4]
    assert "<think>no use" not in prompts[2] and "<judge>bad</judge>" in prompts[2]


def test_dropping_goes_on_from_a_stored_state() -> None:
    problem = replace(problems(1)[0], tools=("search",))
    environment = Fictional(drops=True, judging="required")

    async def run() -> None:
        episode = environment.reset(problem, CallContext())
        assert (await episode.step(search("a mayor"))).restart is None
        fork = episode.fork(CallContext(seed=1))
        fork.load_state_dict(json.loads(json.dumps(episode.state_dict())))
        bad = search("a founder", "<judge>bad</judge>")
        one, other = [await each.step(bad) for each in (episode, fork)]
        assert one.restart == other.restart and one.restart is not None
        assert [m.role for m in one.restart] == ["user", "assistant", "tool", "assistant", "tool"]
        assert one.restart[0].content.endswith(INSTRUCTIONS) and one.restart[2].content == DROPPED
        assert (await episode.step(ParsedTurn(text="<judge>bad</judge>", answer="x"))).restart is None

    asyncio.run(run())
    with pytest.raises(ValueError, match="judging"):
        Fictional(drops=True, judging="off")


ROW: Mapping[str, Any] = {
    "question": "Who wrote the book that Mole read?",
    "answer": "Rat",
    "context": {"title": ["Mole", "Badger"], "sentences": [["Mole read Riverside."], ["Rat wrote Riverside."]]},
    "question_decomposition": [{"question": "What did Mole read?", "answer": "Riverside"}],
}


def test_rows_bring_their_own_pages() -> None:
    environment = MultiHop(results=1)
    problem, other = environment.read([ROW, EXAMPLES[0]]).problems
    assert problem.data["corpus"] == ["Mole. Mole read Riverside.", "Badger. Rat wrote Riverside."]
    assert other.data["queries"] == ["Ada Quill", "Westhaven"] and other.min_calls == 2
    turns = [search("Mole"), search("wrote Riverside", "<judge>good</judge>"), ParsedTurn(text="<judge>good</judge>")]
    verdict, rewards = played(environment, problem, turns, "the rat")
    assert verdict.correct and rewards == [0.0, 0.2, 0.2]  # the first page has a sub-answer, the second the answer
    assert environment.verify(other, "kingdom of norland") and not environment.verify(other, "Sudland")
    environment.validate()


def test_rows_can_be_renamed() -> None:
    problem = MultiHop(rename=3).read([EXAMPLES[0]]).problems[0]
    text = " ".join([problem.question, problem.answer, *problem.data["corpus"], *problem.data["queries"]])
    assert not any(name in text for name in ("Ada Quill", "Westhaven", "Norland"))
    assert any(problem.answer in page for page in problem.data["corpus"])
    assert problem == MultiHop(rename=3).read([EXAMPLES[0]]).problems[0]
    assert problem.answer != MultiHop(rename=4).read([EXAMPLES[0]]).problems[0].answer
    kept = MultiHop(rename=3).read([EXAMPLES[1]]).problems[0]
    assert kept.answer == "no"  # a yes or no has no other name
    MultiHop(rename=3).validate()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": " "}, "no question"),
        ({"answer": None}, "no answer"),
        ({"answer": "the"}, "no answer"),
        ({"context": [["title alone"]]}, "pages or hops that can't be read"),
        ({"context": {"title": ["a"]}}, "pages or hops that can't be read"),
        ({"question_decomposition": ["x"]}, "pages or hops that can't be read"),
    ],
)
def test_rows_that_cannot_be_used_are_kept_apart(change: Mapping[str, Any], reason: str) -> None:
    reading = MultiHop().read([ROW, {**ROW, **change}])
    assert len(reading.problems) == 1
    assert [(row.row, row.reason) for row in reading.apart] == [(1, reason)]


def test_invented_names_do_not_repeat() -> None:
    names = list(islice(new_names(5), 5000))
    assert len(set(names)) == 5000 and names == list(islice(new_names(5), 5000))
