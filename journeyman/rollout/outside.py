"""Agents from outside: a program that knows only a base URL plays the loop; what it asks becomes trajectories."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain
from pathlib import Path

from journeyman.environments import environment_of
from journeyman.environments.episode import Verdict
from journeyman.errors import InfrastructureError, UserError
from journeyman.messages import Message
from journeyman.rollout.attempt import failure_of
from journeyman.rollout.chat import ChatFormat
from journeyman.rollout.endpoint import Endpoint
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.programs import Outcome, Program
from journeyman.rollout.recorder import Budget, Recorder
from journeyman.rollout.sampler import Sampler
from journeyman.rollout.threads import Thread, results_of
from journeyman.seeds import derive
from journeyman.tools.base import CallContext
from journeyman.trajectory import StopReason, Trajectory, Turn, oldest_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the program's run ended, for all its threads."""

    stop_reason: StopReason | None = None
    """None: each thread says for itself."""
    verdict: Verdict = field(default_factory=lambda: Verdict(correct=None))
    answer: str | None = None
    """What the program gave; None: nothing."""
    why: str = ""
    """What failed."""


class OutsideAgent:
    """Makes attempts by running a program once a job, with a base URL of its own in front of the sampler.

    All threads of messages of an attempt share its verdict: the score that the program
    reports, else the environment's on the answer that it gives, else on what the policy answered in the first thread.
    """

    def __init__(
        self,
        sampler: Sampler,
        chat: ChatFormat,
        max_length: int,
        program: Program,
        *,
        budget: Budget | None = None,
        own_temperature: bool = False,
        programs: int = 64,
    ) -> None:
        """`own_temperature`: the program's temperature holds, not the job's; `programs`: most that run at once."""
        self._sampler, self._chat, self._max_length, self._program = sampler, chat, max_length, program
        self._budget, self._own_temperature = budget or Budget(), own_temperature
        self._running = asyncio.Semaphore(programs)
        self._endpoint: Endpoint | None = None
        self._starting = asyncio.Lock()

    @classmethod
    def of_folder(cls, sampler: Sampler, model: Path, max_length: int, program: Program) -> "OutsideAgent":
        return cls(sampler, ChatFormat.of_folder(model), max_length, program)

    async def attempt(self, job: RolloutJob) -> Trajectory:
        """One attempt, whatever the program does: a cut where a thread of its messages begins.

        Raises as `threads` does.
        """
        return joined(await self.threads(job))

    async def threads(self, job: RolloutJob) -> list[Trajectory]:
        """The threads of one attempt, at least one, a trajectory each.

        Raises `InfrastructureError` where the sampler fails: the whole work is then given to another.
        """
        async with self._running:
            recorder = self._recorder(job)
            ending = await self._play(recorder)
        rows = [row_of(thread, job, ending) for thread in recorder.threads if thread.turns]
        return [replace(row, provenance={**row.provenance, "threads": len(rows)}) for row in rows] or [
            _empty(job, ending)
        ]

    async def close(self) -> None:
        """Stop the server."""
        if self._endpoint is not None:
            await self._endpoint.close()
            self._endpoint = None

    def _recorder(self, job: RolloutJob) -> Recorder:
        budget = self._budget
        if job.max_seconds is not None:
            budget = replace(budget, seconds=min(budget.seconds, job.max_seconds))
        return Recorder(
            self._sampler,
            self._chat,
            job,
            max_length=self._max_length,
            budget=budget,
            own_temperature=self._own_temperature,
        )

    async def _server(self) -> Endpoint:
        async with self._starting:
            if self._endpoint is None:
                self._endpoint = Endpoint()
                await self._endpoint.start()
        return self._endpoint

    async def _play(self, recorder: Recorder) -> Ending:
        """Run the program and judge what came of it."""
        endpoint, job = await self._server(), recorder.job
        key = endpoint.open(recorder)
        failed = ""
        outcome = Outcome()
        try:
            async with asyncio.timeout(recorder.seconds_left):
                outcome = await self._program.play(endpoint.base_url(key), key, job.problem)
        except TimeoutError as error:
            if recorder.seconds_left > 0:
                failed = f"TimeoutError: {error}"
            recorder.stop_reason = recorder.stop_reason or StopReason.MAX_SECONDS
        except (InfrastructureError, UserError):
            raise
        except Exception as error:  # the boundary: a program that breaks ends this attempt alone
            failed = f"{type(error).__name__}: {error}"
        finally:
            endpoint.shut(key)
        if recorder.failure is not None:
            raise recorder.failure
        return await _ending(recorder, outcome, failed)


async def _ending(recorder: Recorder, outcome: Outcome, failed: str) -> Ending:
    answer = recorder.answer if outcome.answer is None else outcome.answer
    score = recorder.score if outcome.score is None else outcome.score
    if failed and recorder.stop_reason is None:
        return Ending(stop_reason=StopReason.ENVIRONMENT, answer=answer, why=failed)
    stop = recorder.stop_reason if failed or recorder.seconds_left == 0 else None
    if score is not None:
        return Ending(stop_reason=stop, verdict=Verdict(correct=score >= 1, score=score), answer=answer, why=failed)
    given = answer
    if given is None and stop is None and recorder.threads:
        given = recorder.threads[0].answer
    try:
        verdict = await _verify(recorder.job, given)
    except Exception as error:  # the boundary: a broken world ends this attempt alone, unscored and counted
        reason, why = failure_of(error)
        return Ending(stop_reason=reason, answer=answer, why=why)
    return Ending(stop_reason=stop, verdict=verdict, answer=answer, why=failed)


async def _verify(job: RolloutJob, answer: str | None) -> Verdict:
    context = CallContext(trajectory=job.trajectory_id(), seed=derive(job.seed, "world"))
    episode = environment_of(job.problem).reset(job.problem, context)
    try:
        return await episode.verify(answer)
    finally:
        await episode.close()


def joined(threads: Sequence[Trajectory]) -> Trajectory:
    """An attempt's threads, in their order, as one trajectory with a cut between them."""
    first, offset, turns = threads[0], 0, list[Turn]()
    for one in threads:
        turns += [replace(turn, start=turn.start + offset, stop=turn.stop + offset) for turn in one.turns]
        offset += len(one.token_ids)
    specs = {json.dumps(spec, sort_keys=True): spec for one in threads for spec in one.specs}
    return replace(
        first,
        turns=tuple(turns),
        token_ids=tuple(chain.from_iterable(one.token_ids for one in threads)),
        cuts=tuple(accumulate(len(one.token_ids) for one in threads[:-1])),
        loss_mask=tuple(chain.from_iterable(one.loss_mask for one in threads)),
        logprobs=tuple(chain.from_iterable(one.logprobs for one in threads)),
        policy_versions=tuple(chain.from_iterable(one.policy_versions for one in threads)),
        policy_version=min(one.policy_version for one in threads),
        specs=tuple(specs.values()),
    )


def row_of(thread: Thread, job: RolloutJob, ending: Ending) -> Trajectory:
    """A thread as the built-in loop would have recorded the same turns."""
    problem = job.problem
    plain = (Message(role="user", content=problem.question),)
    answer = ending.answer if thread.index == 0 and ending.answer is not None else thread.answer
    made = Trajectory.at(
        problem,
        id=job.trajectory_id(thread.index),
        turns=tuple(map(_settled, thread.turns)),
        stop_reason=ending.stop_reason or _stop_reason(thread),
        answer=answer,
        source=job.source,
        seed=job.seed,
        sample=job.sample,
        temperature=thread.temperature,
        policy_version=oldest_version(thread.versions, thread.mask),
        token_ids=tuple(thread.ids),
        loss_mask=tuple(thread.mask),
        logprobs=tuple(thread.logprobs),
        policy_versions=tuple(thread.versions),
        opening=() if thread.opening == plain else thread.opening,
        specs=() if _familys_own(thread, job) else thread.specs,
        correct=ending.verdict.correct,
        score=ending.verdict.score,
        score_parts=dict(ending.verdict.parts),
        provenance=_provenance(thread, job, ending),
    )
    return replace(made, tools=tuple(spec["function"]["name"] for spec in thread.specs))


def _provenance(thread: Thread, job: RolloutJob, ending: Ending) -> dict[str, object]:
    made: dict[str, object] = {"agent": "outside", "thread": thread.index}
    if thread.parent:
        made |= {"forked_from": job.trajectory_id(thread.parent["thread"]), "forked_at_turn": thread.parent["turns"]}
    return {**made, "failure": ending.why} if ending.why else made


def _empty(job: RolloutJob, ending: Ending) -> Trajectory:
    """An attempt in which the policy was never asked: recorded and counted, not scored."""
    return Trajectory.at(
        job.problem,
        id=job.trajectory_id(),
        turns=(),
        stop_reason=StopReason.ENVIRONMENT,
        source=job.source,
        seed=job.seed,
        sample=job.sample,
        temperature=job.temperature,
        provenance={
            "agent": "outside",
            "thread": 0,
            "threads": 0,
            "failure": ending.why or "the program asked nothing",
        },
    )


def _settled(turn: Turn) -> Turn:
    """A turn with a result for each call: of those that the program never showed the policy nothing is known."""
    return (
        turn
        if len(turn.results) == len(turn.calls)
        else replace(turn, results=results_of(turn, [""] * len(turn.calls)))
    )


def _stop_reason(thread: Thread) -> StopReason:
    last = thread.turns[-1]
    if thread.cut:
        return StopReason.MAX_TOKENS
    if last.error:
        return StopReason.FORMAT_ERROR
    return StopReason.DONE if last.calls or last.reply else StopReason.ANSWER


def _familys_own(thread: Thread, job: RolloutJob) -> bool:
    """Whether the tools on offer are those that the family has under the names in the problem."""
    problem = job.problem
    names = tuple(spec["function"]["name"] for spec in thread.specs)
    if problem.world or names != problem.tools:
        return False
    known = environment_of(problem).tools()
    return all(name in known and known[name].spec() == spec for name, spec in zip(names, thread.specs, strict=True))
