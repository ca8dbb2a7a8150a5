"""Teachers that are models: behind a chat, or behind the stage's samplers."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from journeyman.llm import Chat
from journeyman.messages import Message
from journeyman.problem import Problem, problem_id
from journeyman.rewards.judge import split_thought
from journeyman.rollout.formats.hermes import Hermes
from journeyman.rollout.job import RolloutJob, SamplerPool, attempt_all
from journeyman.seeds import derive
from journeyman.synthesis.spending import Costs, Meter, book, booked, data_cost
from journeyman.synthesis.written import WrittenAttempt
from journeyman.trajectory import Trajectory, Turn, message_to_json

TALKS = "calls"
"""A family whose problems may hold a conversation of any messages, without tools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a model is sampled as a teacher."""

    temperature: float = 1.0
    """Times what a strategy asks for."""
    max_turns: int = 8
    max_tokens: int = 512
    """Most in one turn."""


USUAL = Manner()


class ChatTeacher:
    """A model behind a chat: it is told the tools in words and writes the default wire format.

    An endpoint that fails raises `InfrastructureError`: that says nothing about the problem.
    """

    def __init__(self, chat: Chat, *, name: str, manner: Manner = USUAL) -> None:
        self._chat, self.name, self._manner = chat, name, manner

    async def attempt(
        self,
        problem: Problem,
        *,
        seed: int,
        temperature: float = 1.0,
        hint: str = "",
        tools: Sequence[str] | None = None,
        start: Sequence[Turn] = (),
    ) -> Trajectory:
        manner = self._manner
        limits = {"temperature": manner.temperature * temperature, "max_tokens": manner.max_tokens}
        attempt = await WrittenAttempt.begin(problem, seed=seed, tools=tools, start=start, max_turns=manner.max_turns)
        try:
            with booked() as costs:
                while attempt.stop_reason is None:
                    asked, number = attempt.messages(hint), len(attempt.turns)
                    await attempt.say(await self._chat.complete(asked, seed=derive(seed, number), **limits))
        except BaseException:
            await attempt.abandon()
            raise
        told = {"teacher": self.name, "seed": seed, "cost": data_cost(costs)}
        return await attempt.finish(source=self.name, provenance=told)


class Batches:
    """Rollouts that are asked for one by one, made together: those that wait while others are made are the next batch."""

    def __init__(self, pool: SamplerPool, meter: Meter) -> None:
        self._pool, self._meter = pool, meter
        self._waiting: list[tuple[RolloutJob, asyncio.Future[Trajectory]]] = []
        self._thread = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="teacher"
        )  # a pool plays one rollout at a time
        self._working: asyncio.Task[None] | None = None

    async def rollout(self, job: RolloutJob) -> Trajectory:
        """One attempt. Raises `InfrastructureError` where no attempt of its batch came through, and `BudgetError`."""
        with self._meter.request():
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((job, future))
            if self._working is None:
                self._working = asyncio.create_task(self._work())
            made = await future
        written = sum(made.loss_mask)
        costs = Costs(requests=len(made.turns), prompt_tokens=len(made.token_ids) - written, completion_tokens=written)
        self._meter.record(costs)
        book(costs)
        return made

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # who is ready to ask, asks first
            batch, self._waiting = self._waiting, []
            jobs = [job for job, _ in batch]
            try:
                made = await asyncio.get_running_loop().run_in_executor(self._thread, attempt_all, self._pool, jobs)
            except Exception as error:  # the boundary: whoever waits is told
                _tell_all(batch, error)
            else:
                for (_, future), trajectory in zip(batch, made, strict=True):
                    if not future.done():  # who has given up waits no more
                        future.set_result(trajectory)
        self._working = None

    def close(self) -> None:
        self._thread.shutdown()


def _tell_all(batch: Sequence[tuple[RolloutJob, "asyncio.Future[Trajectory]"]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)


class PoolChat:
    """A `Chat` on the samplers of a stage: a reply is an attempt of one turn, without tools.

    An answer that the samplers fail to give is empty.
    """

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    async def complete(
        self, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
    ) -> str:
        data = {
            "opening": [message_to_json(message) for message in messages],
            "specs": [],
            "turns": [{"user": "", "accepted": []}],
        }
        question = messages[-1].content
        job = RolloutJob(
            problem=Problem(
                id=problem_id(TALKS, question, data), family=TALKS, question=question, answer="", data=data
            ),
            seed=seed,
            temperature=temperature,
            max_turns=1,
            max_new_tokens=max_tokens,
            source="writer",
        )
        made = await self._batches.rollout(job)
        return made.turns[0].text if made.turns else ""


class PoolTeacher:
    """A model behind the stage's samplers, or the policy itself, under its own chat template and call format.

    What is stored are texts in the default format; tokens are dropped, for they may be another model's. A hint stands
    behind the question while the attempt is made. Where a world doesn't show the question, and where an attempt goes on
    from given turns, tools and calls are told in words, as to a `ChatTeacher`.
    """

    def __init__(self, batches: Batches, *, name: str, manner: Manner = USUAL) -> None:
        self._batches, self.name, self._manner = batches, name, manner
        self._in_words = ChatTeacher(PoolChat(batches), name=name, manner=manner)
        self._deaf: set[str] = set()

    async def attempt(
        self,
        problem: Problem,
        *,
        seed: int,
        temperature: float = 1.0,
        hint: str = "",
        tools: Sequence[str] | None = None,
        start: Sequence[Turn] = (),
    ) -> Trajectory:
        if not start and not (hint and problem.family in self._deaf):
            offered = replace(problem, tools=tuple(problem.tools if tools is None else tools))
            made = await self._sampled(offered, hint, seed=seed, temperature=temperature)
            if not hint or _shows(made, hint):
                return self._stored(made, problem, hint)
            self._deaf.add(problem.family)
        return await self._in_words.attempt(
            problem, seed=seed, temperature=temperature, hint=hint, tools=tools, start=start
        )

    async def _sampled(self, problem: Problem, hint: str, *, seed: int, temperature: float) -> Trajectory:
        manner = self._manner
        job = RolloutJob(
            problem=replace(problem, question=f"{problem.question}{_behind(hint)}"),
            seed=seed,
            temperature=manner.temperature * temperature,
            max_turns=manner.max_turns,
            max_new_tokens=manner.max_tokens,
            source=self.name,
        )
        with booked() as costs:
            made = await self._batches.rollout(job)
        told = {"teacher": self.name, "seed": seed, "cost": data_cost(costs)}
        return replace(made, provenance={**made.provenance, **told})

    def _stored(self, made: Trajectory, problem: Problem, hint: str) -> Trajectory:
        turns = tuple(_plain(turn, made.answer if turn is made.turns[-1] else None, hint) for turn in made.turns)
        return replace(
            made,
            question=problem.question,
            tools=problem.tools,
            opening=_without(made.opening, hint),
            turns=turns,
            policy_version=0,
            **dict.fromkeys(("token_ids", "cuts", "loss_mask", "logprobs", "policy_versions"), ()),
        )


def _behind(hint: str) -> str:
    return f"\n\n{hint}" if hint else ""


def _shows(made: Trajectory, hint: str) -> bool:
    """Whether the model was shown the hint: with the question alone, or in its world's own opening."""
    return not made.opening or any(hint in message.content for message in made.opening)


def _without(messages: Sequence[Message], hint: str) -> tuple[Message, ...]:
    if not hint:
        return tuple(messages)
    return tuple(replace(one, content=one.content.replace(_behind(hint), "")) for one in messages)


def _plain(turn: Turn, answer: str | None, hint: str) -> Turn:
    """A sampled turn as one that was written: no tokens, no hint, the default format."""
    text = turn.text if turn.error else _in_default_format(turn, answer)
    return replace(turn, text=text, start=0, stop=0, restart=_without(turn.restart, hint))


def _in_default_format(turn: Turn, answer: str | None) -> str:
    wire = Hermes()
    parsed = wire.parse(turn.text)
    if not parsed.error and (parsed.calls, parsed.answer) == (turn.calls, answer):
        return turn.text
    if not turn.calls and answer is None:
        return turn.text
    return wire.render(split_thought(turn.text)[0], turn.calls, answer)
