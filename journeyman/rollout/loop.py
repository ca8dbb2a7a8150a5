"""The agent loop: sample a turn, run its calls, append what they returned, until an answer or a limit."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from journeyman.environments import environment, tools_named
from journeyman.errors import InfrastructureError
from journeyman.rollout.chat import ChatFormat
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.parse import parse_turn
from journeyman.rollout.sampler import Completion, Sampler, SampleRequest
from journeyman.seeds import derive
from journeyman.trajectory import StopReason, ToolCall, ToolResult, Trajectory, Turn

if TYPE_CHECKING:
    from journeyman.tools.base import Tool


class Agent:
    """Makes attempts with a sampler. Safe to run many at once."""

    def __init__(self, sampler: Sampler, chat: ChatFormat, max_length: int) -> None:
        self._sampler, self._chat, self._max_length = sampler, chat, max_length

    @classmethod
    def of_folder(cls, sampler: Sampler, model: Path, max_length: int) -> "Agent":
        from transformers import AutoTokenizer

        return cls(sampler, ChatFormat(AutoTokenizer.from_pretrained(model)), max_length)

    async def attempt(self, job: RolloutJob) -> Trajectory:
        """One trajectory, whatever happens in it: failures, a tool's too, are recorded as its stop reason.

        Raises `InfrastructureError` where the sampler fails: the whole work is then given to another.
        """
        attempt = _Attempt(job, self._chat, tools_named(job.problem.family, job.problem.tools))
        while attempt.stop_reason is None:
            room = self._max_length - len(attempt.ids)
            if room < 1:
                attempt.stop_reason = StopReason.MAX_TOKENS
                break
            completion = await self._sampler.generate(attempt.request(room))
            await attempt.advance(completion, self._max_length)
        return attempt.trajectory()


class _Attempt:
    """The growing trajectory."""

    def __init__(self, job: RolloutJob, chat: ChatFormat, tools: dict[str, "Tool"]) -> None:
        self._job, self._chat, self._tools = job, chat, tools
        self.ids = chat.prompt(job.problem.question, list(tools.values()))
        self._mask, self._logprobs = [0] * len(self.ids), [0.0] * len(self.ids)
        self._turns: list[Turn] = []
        self._versions: list[int] = []
        self._answer: str | None = None
        self.stop_reason: StopReason | None = None

    def request(self, room: int) -> SampleRequest:
        job = self._job
        return SampleRequest(
            prompt_ids=tuple(self.ids),
            max_new_tokens=min(job.max_new_tokens, room),
            temperature=job.temperature,
            seed=derive(job.seed, len(self._turns)),
            stop_ids=(self._chat.end_id,),
        )

    async def advance(self, completion: Completion, max_length: int) -> None:
        """Append a sampled turn and, where it calls tools and there is room to go on, what they returned."""
        start = len(self.ids)
        self._extend(completion.token_ids, 1, completion.logprobs)
        self._versions.append(completion.policy_version)
        text = self._chat.decode(completion.token_ids)
        parsed = parse_turn(text)
        results: tuple[ToolResult, ...] = ()
        if not completion.stopped:
            self.stop_reason = StopReason.MAX_TOKENS
        elif parsed.error:
            self.stop_reason = StopReason.FORMAT_ERROR
        elif not parsed.calls:
            self.stop_reason, self._answer = StopReason.ANSWER, parsed.answer
        else:
            results = await self._run(parsed.calls)
        calls = parsed.calls if results else ()  # those of a turn that was cut off were never made
        turn = Turn(text=text, calls=calls, results=results, start=start, stop=len(self.ids), error=parsed.error)
        self._turns.append(turn)
        if self.stop_reason is None and len(self._turns) >= self._job.max_turns:
            self.stop_reason = StopReason.MAX_TURNS
        if self.stop_reason is None:
            seen = self._chat.observation([result.output for result in results])
            if len(self.ids) + len(seen) >= max_length:
                self.stop_reason = StopReason.MAX_TOKENS
            else:
                self._extend(seen, 0, [0.0] * len(seen))

    async def _run(self, calls: tuple[ToolCall, ...]) -> tuple[ToolResult, ...]:
        try:
            return tuple(await asyncio.gather(*(self._call(call) for call in calls)))
        except InfrastructureError as error:
            self.stop_reason = StopReason.INFRASTRUCTURE
            return tuple(ToolResult(name=call.name, ok=False, output=f"not run: {error}") for call in calls)

    async def _call(self, call: ToolCall) -> ToolResult:
        tool = self._tools.get(call.name)
        if tool is None:
            offered = ", ".join(self._tools)
            return ToolResult(name=call.name, ok=False, output=f"error: no such tool; there are {offered}")
        return await tool.call(call.arguments)

    def _extend(
        self, ids: "tuple[int, ...] | list[int]", mask: int, logprobs: "tuple[float, ...] | list[float]"
    ) -> None:
        self.ids += ids
        self._mask += [mask] * len(ids)
        self._logprobs += logprobs

    def trajectory(self) -> Trajectory:
        job, problem = self._job, self._job.problem
        assert self.stop_reason is not None
        return Trajectory.at(
            problem,
            id=f"{derive(problem.id, job.seed, job.sample):016x}",
            turns=tuple(self._turns),
            stop_reason=self.stop_reason,
            answer=self._answer,
            source="policy",
            seed=job.seed,
            sample=job.sample,
            temperature=job.temperature,
            policy_version=min(self._versions, default=0),
            token_ids=tuple(self.ids),
            loss_mask=tuple(self._mask),
            logprobs=tuple(self._logprobs),
            correct=self._verdict(),
        )

    def _verdict(self) -> bool | None:
        if self.stop_reason is StopReason.INFRASTRUCTURE:
            return None
        problem = self._job.problem
        return self._answer is not None and environment(problem.family).verify(problem, self._answer)
