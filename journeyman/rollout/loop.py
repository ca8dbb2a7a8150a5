"""The agent loop: sample a turn, give it to the world, append what it answers, until an answer or a limit."""

from collections.abc import Callable
from pathlib import Path

from journeyman.rollout.attempt import Attempt, Snapshot
from journeyman.rollout.chat import ChatFormat
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.sampler import Completion, Sampler
from journeyman.trajectory import Trajectory


class Agent:
    """Makes attempts with a sampler, each on its own clock. Safe to run many at once."""

    def __init__(self, sampler: Sampler, chat: ChatFormat, max_length: int) -> None:
        self._sampler, self._chat, self._max_length = sampler, chat, max_length

    @classmethod
    def of_folder(cls, sampler: Sampler, model: Path, max_length: int) -> "Agent":
        return cls(sampler, ChatFormat.of_folder(model), max_length)

    async def attempt(self, job: RolloutJob) -> Trajectory:
        """One trajectory, whatever happens in it: failures, a tool's too, are recorded as its stop reason.

        Raises `InfrastructureError` where the sampler fails: the whole work is then given to another.
        """
        return await self.complete(await self.start(job))

    async def start(self, job: RolloutJob) -> Attempt:
        """An attempt before its first turn: for those who take it turn by turn, or fork it."""
        return await Attempt.begin(job, self._chat, self._max_length)

    def resume(self, snapshot: Snapshot, job: RolloutJob) -> Attempt:
        """An attempt that goes on from a snapshot."""
        return Attempt.resumed(snapshot, job, self._chat, self._max_length)

    async def complete(self, attempt: Attempt, between: Callable[[Attempt], object] | None = None) -> Trajectory:
        """Take an attempt to its end, from wherever it stands; `between` is called whenever another turn will follow one."""
        try:
            while attempt.stop_reason is None:
                await self.step(attempt)
                if between is not None and attempt.stop_reason is None:
                    between(attempt)
        except BaseException:
            await attempt.abandon()
            raise
        return await attempt.finish()

    async def step(self, attempt: Attempt, policy: str | None = None) -> None:
        """One turn, by another policy than the job's where one is named.

        A completion that was interrupted, by new weights say, goes on under those there are then.
        """
        assert attempt.stop_reason is None, "an attempt that has ended has no next turn"
        pieces: list[Completion] = []
        while not pieces or pieces[-1].interrupted:
            request = attempt.request(pieces, policy)
            if request.max_new_tokens < 1:
                break
            pieces.append(await self._sampler.generate(request))
        await attempt.advance(pieces, policy)
