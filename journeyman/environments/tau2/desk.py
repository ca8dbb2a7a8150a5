"""A service desk with a policy, a database and a user, in the format of tau2-bench (#55)."""

import asyncio
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from journeyman.environments.base import Course, Environment, Step, validate, walked
from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.environments.tau2.bicycles import POLICY, shop
from journeyman.environments.tau2.jobs import draw_task
from journeyman.environments.tau2.task import Action, Basis, Task, task_of
from journeyman.environments.tau2.toolkit import DeskTool, LooseTool
from journeyman.environments.tau2.verdict import Conduct, judge
from journeyman.environments.tau2.world import Domain, World
from journeyman.environments.users import FIRST, ScriptedUser, SimulatedUser, User, UserTurn, chat_of, draw_persona
from journeyman.llm import Chat
from journeyman.messages import Message, ParsedTurn, ToolCall, ToolResult
from journeyman.problem import Problem, problem_id
from journeyman.seeds import derive
from journeyman.tools.base import CallContext, Tool

MAX_USER_CALLS = 8
"""Calls that a user makes in a row before it has to speak (ours)."""
MANNERS = """

In each of your turns either call tools or write to the customer, not both. What you write goes to the customer."""


@lru_cache(maxsize=64)
def _bicycles(seed: int) -> Domain:
    return Domain(name="bicycles", tables=shop(seed), policy=POLICY, user_tables={})


class Desk(Environment):
    """Service desks with policy, database, tools and user: a bicycle rental, or a domain in tau2's format (#55).

    The bicycle rental makes its tasks by seed. Typical mistakes: changes nothing, changes the wrong record or more
    than was asked, does what the policy forbids, never says what had to be said.
    """

    name = "desk"
    phrases = (
        *(
            "Hello, this is ",
            ", at branch ",
            "I would like to ",
            "What is your e-mail address? ",
            " Shall I go ahead?",
            " Is there anything else?",
        ),
        *("I will ", "Yes, please.", "Thank you, that is all.", "customer_id", "rental_id", "bicycle_id"),
        *("find_customer", "get_rental", "list_bicycles", "book_bicycle", "cancel_rental", "swap_bicycle"),
        *("extend_rental", "transfer_to_human_agents"),
    )

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        domain: str = "",
        split: str = "",
        chat: Chat | Mapping[str, Any] | None = None,
        personas: bool = False,
        share_user: bool = False,
        basis: Sequence[Basis | str] | None = None,
    ) -> None:
        """Make a desk.

        Args:
            folder: with `db.json`, `policy.md` and `tasks.json`; None: the bicycle rental.
            domain: which domain the folder is; empty: the folder's name.
            split: which of the lists in `split_tasks.json` the tasks are taken from; empty: all tasks.
            chat: plays the users: a `Chat`, or the options of `users.chat_of`; None: users by script.
            personas: whether played users get manners, drawn by seed.
            share_user: whether all attempts at a problem meet the same user (#55 leaves it open; ours: they don't).
            basis: what verdicts rest on, instead of each task's own; #55 takes DB and COMMUNICATE.
        """
        self._domain = Domain.of_folder(Path(folder), domain, split) if folder is not None else None
        self._chat = chat_of(chat) if isinstance(chat, Mapping) else chat
        self._personas, self._share_user = personas, share_user
        self.basis = None if basis is None else tuple(map(Basis, basis))

    @cached_property
    def _tools(self) -> dict[str, Tool]:
        kit = World(self._domain or _bicycles(0)).desk
        return {name: LooseTool(kit, name) for name in kit.names()}

    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    def domain(self, problem: Problem) -> Domain:
        return self._domain or _bicycles(problem.data["shop"])

    def reset(self, problem: Problem, context: CallContext) -> "DeskEpisode":
        return DeskEpisode(self, problem, context)

    def user(self, problem: Problem, task: Task, world: World, context: CallContext) -> User:
        """Whom an attempt talks to."""
        if self._chat is None:
            return scripted(task)
        seed = derive(problem.id, "user") if self._share_user else derive(context.seed, "user")
        script = task.user_scenario.script
        return SimulatedUser(
            chat=self._chat,
            first=script.parts[0] if script else FIRST,
            instruction=_instruction(task),
            seed=seed,
            persona=draw_persona(seed) if self._personas else None,
            tools=[DeskTool(world.user, name).spec() for name in world.user.names()],
        )

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        """Tasks of the bicycle rental, all different; of a folder those that there are, over and over."""
        while self._domain is not None:
            problems = self.problems()
            rng.shuffle(problems)
            yield from problems
        while True:
            seed, task, courses = draw_task(rng)
            question = task["user_scenario"]["script"]["parts"][0]
            key = problem_id(self.name, question)
            yield Problem(
                id=key,
                family=self.name,
                question=question,
                answer=json.dumps(task["evaluation_criteria"]["actions"]),
                tools=self._bicycle_tools,
                min_calls=sum("name" in line for line in courses[""]),
                data={"key": key, "shop": seed, "task": task, "courses": courses},
            )

    @cached_property
    def _bicycle_tools(self) -> tuple[str, ...]:
        return World(_bicycles(0)).desk.names()

    def problems(self) -> list[Problem]:
        """The folder's tasks."""
        return [self.problem_of(task) for task in self._domain.tasks] if self._domain else []

    def problem_of(self, task: Task) -> Problem:
        """A problem of a task of this desk's domain."""
        assert self._domain is not None
        row = task.model_dump(mode="json", exclude_none=True)
        data = {"key": f"{self._domain.name}:{task.id}", "domain": self._domain.name, "task": row}
        question = scripted(task).opening()
        desk = [action for action in task.actions if action.requestor == "assistant"]
        return Problem(
            id=problem_id(self.name, question, data),
            family=self.name,
            question=question,
            answer=json.dumps([action.model_dump(mode="json", exclude_none=True) for action in task.actions]),
            tools=tuple(self._tools),
            min_calls=len(desk),
            data=data,
        )

    def courses(self, problem: Problem) -> Sequence[Course]:
        if "courses" in problem.data:
            return [_course(lines, mistake) for mistake, lines in problem.data["courses"].items()]
        task = task_of(problem.data["task"])
        calls = [
            {"name": action.name, "arguments": action.arguments}
            for action in task.actions
            if action.requestor == "assistant"
        ]
        said = " ".join(["It is done.", *(task.evaluation_criteria.communicate_info or ())])
        kit = World(self.domain(problem)).desk
        gold = _course([*calls, {"say": said}], "")
        kept = [call for call in calls if not kit.changes(call["name"])]
        return (gold,) if kept == calls else (gold, _course([*kept, {"say": said}], "changes nothing"))

    def verify(self, problem: Problem, answer: str) -> bool:
        """No answer is right by itself: the state of the world decides."""
        return False

    def validate(self) -> None:
        """Problems of the bicycle rental; with a folder, its tasks too."""
        validate(self if self._domain is None else Desk(), islice(Desk().generate(random.Random(0)), 40))
        if self._domain is not None:
            asyncio.run(self._validate_folder())

    async def _validate_folder(self) -> None:
        for problem in self.problems():
            task = task_of(problem.data["task"])
            criteria = task.evaluation_criteria
            if criteria.actions is None or any(check.env_type == "user" for check in criteria.env_assertions or ()):
                continue  # the way is not told, or leads over what the user does on a device of their own
            gold, *mistaken = self.courses(problem)
            verdict = (await walked(self, problem, gold)).verdict
            if verdict.correct is False:
                raise ValueError(f"task {task.id}: the gold actions are not accepted: {dict(verdict.parts)}")
            for course in mistaken:
                other = (await walked(self, problem, course)).verdict
                if other.correct and verdict.parts["db"] != other.parts["db"]:
                    raise ValueError(f"task {task.id}: {course.mistake}, and is accepted")


def _course(lines: Sequence[Mapping[str, Any]], mistake: str) -> Course:
    steps = tuple(
        Step(thought="talk", say=line["say"])
        if "say" in line
        else Step(thought=line["name"], call=ToolCall(name=line["name"], arguments=line["arguments"]))
        for line in lines
    )
    return Course(steps=steps, mistake=mistake)


class DeskEpisode(Episode):
    """One dialogue over a private view of the desk's database."""

    sequential = True

    def __init__(self, environment: Desk, problem: Problem, context: CallContext) -> None:
        self._desk = environment
        self._task = task_of(problem.data["task"])
        self._domain = environment.domain(problem)
        self.world = World(self._domain, self._task)
        self.user = environment.user(problem, self._task, self.world, context)
        self.conduct = Conduct()
        self._transferred = False
        super().__init__(environment, problem, context)
        self._dialogue = [message for message in self.opening() if message.role in ("user", "assistant")]

    def offered(self) -> Mapping[str, Tool]:
        from journeyman.environments import tool_of_any

        own: dict[str, Tool] = {name: DeskTool(self.world.desk, name) for name in self.world.desk.names()}
        return {name: own[name] if name in own else tool_of_any(name) for name in self.problem.tools or own}

    def opening(self) -> tuple[Message, ...]:
        """The policy, the dialogue so far where the task begins within one, and the user's first words."""
        system = Message(role="system", content=self._domain.policy.strip() + MANNERS)
        state = self._task.initial_state
        history = [_message(row) for row in (state.message_history if state else None) or ()]
        return (system, *history, Message(role="user", content=self.user.opening()))

    async def step(self, turn: ParsedTurn) -> Reaction:
        """Run a turn's calls in order, or give its words to the user. The user's stop and a transfer end it."""
        if turn.calls:
            return Reaction(results=await self.run(turn.calls))
        said = turn.text or turn.answer or ""
        self.conduct.said.append(said)
        self._dialogue.append(Message(role="assistant", content=said))
        if self._transferred:
            answer = UserTurn(text="", stop=True)
        else:
            answer = await self._asked()
        self.conduct.ended = answer.stop
        self._dialogue.append(Message(role="user", content=answer.text))
        return Reaction(reply=Message(role="user", content=answer.text), done=answer.stop)

    async def call(self, call: ToolCall) -> ToolResult:
        self.conduct.made.append(Action(name=call.name, arguments=dict(call.arguments)))
        result = await super().call(call)
        self._transferred |= result.ok and call.name == self.world.desk.transfer
        return result

    async def _asked(self) -> UserTurn:
        """The user's next words, after what the user does on a device of their own."""
        seen = list(self._dialogue)
        for _ in range(MAX_USER_CALLS):
            turn = await self.user.reply(seen)
            if turn.calls:
                seen.append(Message(role="user", content=turn.text, calls=turn.calls))
            for call in turn.calls:
                self.conduct.made.append(Action(name=call.name, arguments=dict(call.arguments), requestor="user"))
                result = await DeskTool(self.world.user, call.name).call(call.arguments)
                seen.append(Message(role="tool", content=result.output, name=call.name))
            if turn.stop or not turn.calls:
                return turn
        return UserTurn(text="...")

    async def verify(self, answer: str | None) -> Verdict:
        return judge(self._domain, self._task, self.world, self.conduct, self._desk.basis)

    def state_dict(self) -> dict[str, Any]:
        conduct = self.conduct
        return {
            **super().state_dict(),
            "world": self.world.state_dict(),
            "user": self.user.state_dict(),
            "dialogue": [[message.role, message.content] for message in self._dialogue],
            "said": list(conduct.said),
            "made": [action.model_dump(mode="json") for action in conduct.made],
            "ended": conduct.ended,
            "transferred": self._transferred,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.world.load_state_dict(state["world"])
        self.user.load_state_dict(state["user"])
        self._dialogue = [Message(role=role, content=content) for role, content in state["dialogue"]]
        made = [Action.model_validate(action) for action in state["made"]]
        self.conduct = Conduct(said=list(state["said"]), made=made, ended=state["ended"])
        self._transferred = state["transferred"]


def _message(row: Mapping[str, Any]) -> Message:
    """A message of a task's history."""
    calls = tuple(ToolCall(name=call["name"], arguments=call["arguments"]) for call in row.get("tool_calls") or ())
    return Message(role=row["role"], content=row.get("content") or "", calls=calls, name=row.get("name") or "")


def _instruction(task: Task) -> str:
    scenario = task.user_scenario
    return f"{scenario.text()}\n\nYour manner: {scenario.persona}" if scenario.persona else scenario.text()


def scripted(task: Task) -> ScriptedUser:
    """The user of a task by script: its own where it has one, else its instructions said in the first person.

    The latter is a stand-in for tests of the world; to train or to measure, let a model play the users.
    """
    scenario = task.user_scenario
    if scenario.script:
        return ScriptedUser(scenario.script.parts, scenario.script.slots)
    if isinstance(scenario.instructions, str):
        return ScriptedUser([first_person(scenario.instructions)])
    told = scenario.instructions
    slots = {"name|zip|e-mail|email|id|identity|who": first_person(told.known_info or "")}
    return ScriptedUser([first_person(told.reason_for_call)], slots if told.known_info else {})


_PERSONS = {
    **{"you are": "I am", "you're": "I'm", "you were": "I was", "you've": "I have", "you'd": "I'd", "you'll": "I'll"},
    **{"yourself": "myself", "yours": "mine", "your": "my", "you": "I"},
}
_PERSON = re.compile(r"\b(" + "|".join(map(re.escape, _PERSONS)) + r")\b", re.IGNORECASE)


def first_person(text: str) -> str:
    """Instructions to a user as the user might say them; word for word, so not always good English."""
    said = _PERSON.sub(lambda found: _PERSONS[found[0].lower()], text)
    return re.sub(r"(^|[.!?]\s+)([a-z])", lambda found: found[1] + found[2].upper(), said)
