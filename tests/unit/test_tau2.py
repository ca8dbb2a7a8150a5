"""Service desks in tau2's format: dialogues, users with tools, folders of files, tau2's own tasks."""

import asyncio
import json
import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from journeyman.environments.base import walked
from journeyman.environments.tau2.bicycles import shop
from journeyman.environments.tau2.database import state_hash
from journeyman.environments.tau2.desk import Desk, DeskEpisode, first_person
from journeyman.environments.tau2.task import Basis, read_tasks
from journeyman.environments.users import ListedUser, UserTurn
from journeyman.errors import DataError, UserError
from journeyman.llm import Scripted
from journeyman.messages import Message, ParsedTurn, ToolCall
from journeyman.problem import Problem
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.tools.base import CallContext
from journeyman.trajectory import StopReason
from tests.unit.fakes import ScriptedSampler, some
from tests.unit.fakes import World as Tiny
from tests.unit.small_shop import CANCEL, RETAIL, a_task

# -- The bicycle rental: dialogues


def episode(problem: Problem, desk: Desk | None = None, seed: int = 0) -> DeskEpisode:
    return (desk or Desk()).reset(problem, CallContext(seed=seed))


def say(text: str) -> ParsedTurn:
    return ParsedTurn(text=text)


def call(name: str, **arguments: Any) -> ParsedTurn:
    return ParsedTurn(calls=(ToolCall(name=name, arguments=arguments),))


def test_gold_courses_score_full_marks_and_each_mistake_none() -> None:
    seen = set()
    for problem in some("desk", 60, seed=5):
        gold, *mistaken = Desk().courses(problem)
        walk = asyncio.run(walked(Desk(), problem, gold))
        assert (walk.verdict.correct, walk.verdict.score) == (True, 1.0) and walk.reactions[-1].done
        for course in mistaken:
            assert asyncio.run(walked(Desk(), problem, course)).verdict.score == 0.0, course.mistake
            seen.add(course.mistake)
    assert {"changes nothing", "changes more than was asked", "takes the wrong item"} < seen
    assert {"does what the policy forbids", "never says the amount"} < seen


def test_the_words_of_a_turn_that_calls_are_not_said() -> None:
    problem = next(p for p in some("desk", 20) if p.data["task"]["evaluation_criteria"].get("communicate_info"))
    [amount, *_] = problem.data["task"]["evaluation_criteria"]["communicate_info"]
    attempt = episode(problem)
    mixed = ParsedTurn(text=f"It is {amount}.", calls=(ToolCall(name="get_rental", arguments={"rental_id": "R1"}),))
    reaction = asyncio.run(attempt.step(mixed))
    assert reaction.reply is None and [r.ok for r in reaction.results] == [True]
    assert asyncio.run(attempt.verify(None)).parts["communicate"] == 0.0
    asyncio.run(attempt.step(say(f"It is {amount}.")))
    assert asyncio.run(attempt.verify(None)).parts["communicate"] > 0.0


def test_an_attempt_goes_on_from_its_state_by_itself() -> None:
    problem = some("desk", 1)[0]
    lines = problem.data["courses"][""]
    turns = [say(line["say"]) if "say" in line else call(line["name"], **line["arguments"]) for line in lines]

    async def go_on() -> None:
        first = episode(problem)
        for turn in turns[:3]:
            await first.step(turn)
        state = json.loads(json.dumps(first.state_dict()))
        other = first.fork(CallContext(seed=9))
        assert other.state_dict() == state
        for turn in turns[3:]:
            await other.step(turn)
        assert (await other.verify(None)).correct and not (await first.verify(None)).correct
        assert first.state_dict() == state and state["world"]["desk"] == {}

    asyncio.run(go_on())


def test_attempts_do_not_see_each_other_and_the_shop_stays_as_it_was() -> None:
    problem = some("desk", 1)[0]
    before = state_hash(shop(problem.data["shop"]))
    one, two = episode(problem), episode(problem)
    free = next(b for b in shop(problem.data["shop"])["bicycles"].values() if b["free"])["bicycle_id"]
    booked = asyncio.run(one.step(call("book_bicycle", customer_id="C1", bicycle_id=free, days=2)))
    assert booked.results[0].ok and len(one.world.desk.database.changes()) == 2
    assert two.world.desk.database.changes() == [] and state_hash(shop(problem.data["shop"])) == before
    loose = Desk().tools()["book_bicycle"]
    again = asyncio.run(loose.open(CallContext()).call({"customer_id": "C1", "bicycle_id": "B1", "days": 99}))
    assert not again.ok


def test_after_a_transfer_the_next_words_end_it() -> None:
    attempt = episode(some("desk", 1)[0])

    async def hand_over() -> bool:
        await attempt.step(call("transfer_to_human_agents", summary="wants a car"))
        return (await attempt.step(say("You are being handed over."))).done

    assert asyncio.run(hand_over())


def test_a_played_user_sees_the_dialogue_alone_and_ends_it() -> None:
    model = Scripted(["I am Ada.", "Bye ###STOP###"])
    desk, problem = Desk(chat=model, personas=True), some("desk", 1)[0]
    attempt = episode(problem, desk)

    async def talk() -> list[bool]:
        await attempt.step(call("find_customer", email="nobody@example.org"))
        return [(await attempt.step(say(text))).done for text in ("Who are you?", "Anything else?")]

    assert asyncio.run(talk()) == [False, True]
    hidden, *dialogue = model.asked[-1]
    assert problem.data["task"]["user_scenario"]["instructions"]["reason_for_call"] in hidden.content
    assert [message.content for message in dialogue[2:]] == ["Who are you?", "I am Ada.", "Anything else?"]
    assert "nobody@example.org" not in str(model.asked)
    assert dialogue[1].content == problem.question == attempt.opening()[-1].content


def test_members_of_a_group_meet_the_same_user_only_if_asked_to() -> None:
    model, problem = Scripted(lambda _: "hm"), some("desk", 1)[0]
    seeds = {}
    for share in (False, True):
        users = [episode(problem, Desk(chat=model, share_user=share), seed).user for seed in (1, 2)]
        seeds[share] = len({user.seed for user in users})  # pyright: ignore[reportAttributeAccessIssue]
    assert seeds == {False: 2, True: 1}


def test_a_dialogue_through_the_loop(world: Tiny) -> None:
    problem = next(p for p in some("desk", 30) if len(p.data["task"]["user_scenario"]["script"]["parts"]) == 1)
    written = [
        line["say"] if "say" in line else f"<tool_call>\n{json.dumps(line)}\n</tool_call>"
        for line in problem.data["courses"][""]
    ]
    job = RolloutJob(problem=problem, max_turns=12, max_new_tokens=2000)
    made = asyncio.run(Agent(ScriptedSampler(world.chat, written), world.chat, 20_000).attempt(job))
    assert (made.stop_reason, made.correct, made.score) == (StopReason.DONE, True, 1.0)
    assert made.opening[0].role == "system" and made.turns[-1].reply == "Thank you, that is all."
    assert {spec["function"]["name"] for spec in made.specs} == set(problem.tools)
    assert len(made.calls) == problem.min_calls


# -- Files


def test_the_instructions_in_the_first_person() -> None:
    assert first_person("You are Ana. your cat and you left.") == "I am Ana. My cat and I left."


def a_folder(folder: Path, tasks: Any, name: str = "retail") -> Path:
    made = folder / name
    made.mkdir()
    (made / "db.json").write_text(json.dumps(RETAIL))
    (made / "policy.md").write_text("# Policy\nBe kind.\n")
    (made / "tasks.json").write_text(json.dumps(tasks))
    (made / "split_tasks.json").write_text(json.dumps({"train": ["t"], "test": []}))
    return made


def test_a_folder_of_files_is_a_desk(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, [a_task(actions=[CANCEL]), {"id": "broken"}])
    desk = Desk(folder)
    desk.validate()
    [problem] = desk.problems()
    assert problem == next(desk.generate(random.Random(0))) == Desk(str(folder), split="train").problems()[0]
    assert Desk(folder, split="test").problems() == []
    assert desk.domain(problem).rejected[0].to_json() == {"row": 1, "reason": "user_scenario: Field required"}
    assert "Be kind." in episode(problem, desk).opening()[0].content
    assert episode(problem, desk).opening()[-1] == Message(role="user", content="Cancel #W3!")
    with_basis = Desk(folder, basis=["DB", "COMMUNICATE"])
    assert with_basis.basis == (Basis.DB, Basis.COMMUNICATE)


def test_files_that_can_not_be_read_say_where(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, {})
    with pytest.raises(DataError, match="not a list of tasks"):
        Desk(folder)
    (folder / "tasks.json").write_text('[\n{"id": 1,\n]')
    with pytest.raises(DataError, match=r"tasks\.json:3: is not JSON"):
        Desk(folder)
    with pytest.raises(UserError, match="no domain 'airport'; there are bicycles, mock, retail"):
        Desk(folder, domain="airport")
    with pytest.raises(UserError, match="no split 'x'"):
        (folder / "tasks.json").write_text("[]")
        Desk(folder, split="x")
    with pytest.raises(UserError, match="base_url"):
        Desk(chat={"url": "http://localhost"})


# -- tau2's own files


@pytest.fixture(scope="module")
def tau2(shared_data: Path) -> Path:
    folder = shared_data / "tau2_retail_mock"
    if not folder.is_dir():
        pytest.skip("tau2_retail_mock is not among the data sets")
    return folder


def test_every_task_of_tau2_is_read(tau2: Path) -> None:
    for name, count in (("mock", 10), ("retail", 114)):
        tasks, rejected = read_tasks(tau2 / name / "tasks.json")
        assert (len(tasks), rejected) == (count, [])


def test_gold_actions_of_mock_score_full_marks(tau2: Path) -> None:
    desk = Desk(tau2 / "mock")
    verdicts = {}
    for problem in desk.problems():
        verdict = asyncio.run(walked(desk, problem, desk.courses(problem)[0])).verdict
        verdicts[problem.data["task"]["id"]] = verdict.correct
    assert verdicts.pop("create_task_1_nl_eval") is None  # a judge's alone
    assert verdicts.pop("update_task_with_history_and_env_assertions") is False  # the way is not told
    assert verdicts.pop("update_task_with_user_tools") is False  # the user has to put the notification away
    assert set(verdicts.values()) == {True} and len(verdicts) == 7


def test_a_user_with_tools_of_their_own(tau2: Path) -> None:
    desk = Desk(tau2 / "mock")
    problem = next(p for p in desk.problems() if p.data["task"]["id"] == "update_task_with_user_tools")
    attempt = episode(problem, desk)
    dismiss = ToolCall(name="dismiss_notification", arguments={"notification_id": "notif_1"})
    attempt.user = ListedUser(
        ["Done with task_1.", UserTurn(text="", calls=(dismiss,)), UserTurn(text="Bye", stop=True)]
    )

    async def go() -> Any:
        await attempt.step(call("update_task_status", task_id="task_1", status="completed"))
        assert (await attempt.step(say("It is completed."))).done
        return await attempt.verify(None)

    verdict = asyncio.run(go())
    assert verdict.correct and verdict.parts == {"db": 1.0, "action": 1.0, "assertion": 1.0, "ended": 1.0}


def test_gold_actions_of_retail_score_full_marks_and_missing_ones_do_not(tau2: Path) -> None:
    desk = Desk(tau2 / "retail")
    desk.validate()
    accepted = []
    for problem in desk.problems():
        gold, *mistaken = desk.courses(problem)
        assert asyncio.run(walked(desk, problem, gold)).verdict.parts["db"] == 1.0
        accepted += [asyncio.run(walked(desk, problem, course)).verdict.correct for course in mistaken]
    # 104 tasks change something or try to; the one write of task 105 is refused, so leaving it out changes nothing.
    assert (len(accepted), sum(accepted)) == (104, 1)
    stream = islice(Desk(tau2 / "retail", split="test").generate(random.Random(0)), 50)
    assert len({problem.id for problem in stream}) == 40
