"""A growing trajectory: sampled turns go in, what the world answers is appended, until an answer or a limit."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from journeyman.environments import environment_of
from journeyman.environments.episode import Episode, Reaction, ToolCrash, Verdict
from journeyman.errors import InfrastructureError
from journeyman.messages import Fault, Image, Message, ParsedTurn, ToolResult
from journeyman.problem import BEGUN, GUIDANCE
from journeyman.rollout.chat import ChatFormat
from journeyman.rollout.formats.translate import translated
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.rollout.truncate import truncate
from journeyman.seeds import derive
from journeyman.tools.base import CallContext
from journeyman.trajectory import StopReason, Trajectory, Turn, oldest_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """An attempt between two turns: enough to go on from it, here or in another process."""

    trajectory: Trajectory
    """So far; its stop reason means nothing yet."""
    episode: dict[str, Any]
    """The world's `state_dict`."""


def failure_of(error: Exception) -> tuple[StopReason, str]:
    """(stop reason, what failed) of an attempt that ends with an error of infrastructure, or of its world."""
    if isinstance(error, InfrastructureError):
        return StopReason.INFRASTRUCTURE, str(error)
    return StopReason.ENVIRONMENT, f"{type(error).__name__}: {error}"


class Attempt:
    """One attempt at a problem. Whatever fails in it is recorded as its stop reason.

    Tokens are appended only: a turn's prompt is the earlier prompt and completion, token for token.
    """

    def __init__(self, job: RolloutJob, chat: ChatFormat, max_length: int) -> None:
        """Only `begin` and `resumed` call it."""
        self._job, self._chat, self._max_length = job, chat, max_length
        self._id = job.trajectory_id()
        context = CallContext(trajectory=self._id, seed=derive(job.seed, "world"))
        self._episode: Episode = environment_of(job.problem).reset(job.problem, context)
        self._specs = [tool.spec() for tool in self._episode.tools.values()]
        self._stored: tuple[tuple[Message, ...], tuple[dict[str, Any], ...]] = ((), ())
        self._ids: list[int] = []
        self._mask: list[int] = []
        self._logprobs: list[float] = []
        self._versions: list[int] = []
        self._cuts: list[int] = []
        self._turns: list[Turn] = []
        self._answer: str | None = None
        self._started = time.monotonic()
        self._parent: dict[str, Any] = {}
        self._why = ""
        self.stop_reason: StopReason | None = None

    @classmethod
    async def begin(cls, job: RolloutJob, chat: ChatFormat, max_length: int) -> "Attempt":
        """An attempt before its first sampled turn. Worlds that can't begin are recorded as its stop reason, too."""
        made = cls(job, chat, max_length)
        try:
            await made._open()
        except BaseException:
            await made.abandon()
            raise
        return made

    async def _open(self) -> None:
        data = self._job.problem.data
        try:
            await self._episode.begin()
            self._stored = self._episode.shown()
        except Exception as error:  # the boundary, as in `_react`
            self.stop_reason, self._why = failure_of(error)
        if guidance := data.get(GUIDANCE):
            self._stored = (_told(self._opening, guidance), self._stored[1])
        prompt = self._chat.prompt(self._opening, self._specs)
        self._extend(prompt, 0, [0.0] * len(prompt), 0)
        if self.room < 1:
            self.stop_reason = self.stop_reason or StopReason.MAX_TOKENS
        for text in data.get(BEGUN, ()):
            if self.stop_reason is None:
                await self._play(text)

    @property
    def _opening(self) -> tuple[Message, ...]:
        """What the model is shown first."""
        return self._stored[0] or (Message(role="user", content=self._job.problem.question),)

    @classmethod
    def resumed(cls, snapshot: Snapshot, job: RolloutJob, chat: ChatFormat, max_length: int) -> "Attempt":
        """An attempt that goes on from a snapshot, as another sample or under another seed where the job says so."""
        made, past = cls(job, chat, max_length), snapshot.trajectory
        try:
            made._episode.load_state_dict(snapshot.episode)
        except Exception as error:  # the boundary, as in `_react`
            made.stop_reason, made._why = failure_of(error)
        made._stored = (past.opening, tuple(dict(spec) for spec in past.specs))
        made._ids, made._mask = list(past.token_ids), list(past.loss_mask)
        made._logprobs, made._versions = list(past.logprobs), list(past.policy_versions)
        made._turns, made._cuts, made._answer = list(past.turns), list(past.cuts), past.answer
        made._parent = {"forked_from": past.id, "forked_at_turn": len(past.turns)} if past.id != made._id else {}
        if made.room < 1:
            made.stop_reason = made.stop_reason or StopReason.MAX_TOKENS
        return made

    def snapshot(self) -> Snapshot:
        """Where it stands. Between turns only."""
        return Snapshot(trajectory=self._trajectory(Verdict(correct=None)), episode=self._episode.state_dict())

    def fork(self, *, sample: int, seed: int) -> "Attempt":
        """Another attempt from here on: its prompt's keys and values are already in the sampler's cache."""
        job = replace(self._job, sample=sample, seed=seed)
        return Attempt.resumed(self.snapshot(), job, self._chat, self._max_length)

    @property
    def turns(self) -> Sequence[Turn]:
        return self._turns

    @property
    def room(self) -> int:
        """Tokens that still fit."""
        return self._max_length - (len(self._ids) - self._begins)

    @property
    def _begins(self) -> int:
        """Where the model's present context begins."""
        return self._cuts[-1] if self._cuts else 0

    def request(self, begun: Sequence[Completion] = (), policy: str | None = None) -> SampleRequest:
        """What to sample next; `begun`: pieces of the turn that were interrupted; `policy`: another than the job's."""
        written = tuple(token for piece in begun for token in piece.token_ids)
        seed = derive(self._job.seed, len(self._turns), *([len(begun)] if begun else []))
        return SampleRequest(
            prompt_ids=(*self._ids[self._begins :], *written),
            max_new_tokens=min(self._job.max_new_tokens, self.room) - len(written),
            temperature=self._job.temperature,
            seed=seed,
            stop_ids=self._chat.stop_ids,
            images=tuple(self._images()),
            policy=self._job.policy if policy is None else policy,
        )

    def _images(self) -> Iterator[Image]:
        """Those in the prompt, in their order."""
        begun = [turn.restart for turn in self._turns if turn.restart and turn.stop <= self._begins]
        for message in begun[-1] if begun else self._opening:
            yield from message.images
        for turn in self._turns:
            for result in turn.results if turn.start >= self._begins else ():
                yield from result.images

    async def advance(self, pieces: Sequence[Completion], policy: str | None = None) -> None:
        """Append a sampled turn, one completion unless it was interrupted, and what the world answers.

        What another policy than the job's has sampled is nothing to learn from: it is not in the mask.
        """
        start, own = len(self._ids), policy is None or policy == self._job.policy
        for piece in pieces:
            self._extend(piece.token_ids, int(own), piece.logprobs, piece.policy_version)
        await self._take(start, stopped=pieces[-1].stopped, policy="" if own else str(policy))

    async def _play(self, text: str) -> None:
        """A turn that the problem begins with. One that ends the attempt is a fault of the problem, not of the policy."""
        start, written = len(self._ids), self._chat.turn(translated(text, self._chat.calls))
        self._extend(written, 0, [0.0] * len(written), 0)
        await self._take(start, stopped=True, policy=BEGUN)
        if self.stop_reason is not None and self.stop_reason.scorable:
            self._why = f"ended by the turns it begins with: {self.stop_reason}"
            self.stop_reason = StopReason.ENVIRONMENT

    async def _take(self, start: int, *, stopped: bool, policy: str) -> None:
        """Make a turn of the ids from `start` on, and append what the world answers."""
        written = self._ids[start:]
        text = self._chat.decode(written)
        parsed = self._chat.parse(text, self._specs)
        self.stop_reason = self._refused(parsed, stopped=stopped)
        reaction = Reaction() if self.stop_reason else self._shortened(await self._react(replace(parsed, written=text)))
        turn = Turn(
            text=text,
            calls=parsed.calls if reaction.results else (),  # those of a turn that was cut off were never made
            results=reaction.results,
            reply=reaction.reply.content if reaction.reply else "",
            reward=reaction.reward,
            restart=reaction.restart or (),
            policy=policy,
            start=start,
            stop=len(self._ids),
            error=parsed.error,
        )
        self._turns.append(turn)
        self.stop_reason = self.stop_reason or self._limit_reached()
        if self.stop_reason is None:
            self._append(turn)

    def _shortened(self, reaction: Reaction) -> Reaction:
        """With observations that are not longer than the job allows."""
        most = self._job.max_observation_tokens
        if most is None:
            return reaction
        short = partial(truncate, limit=most, measure=lambda text: len(self._chat.outside(text)))
        results = tuple(replace(r, output=short(r.output)) for r in reaction.results)
        anew = reaction.restart and tuple(
            replace(one, content=short(one.content)) if one.role == "tool" else one for one in reaction.restart
        )
        return replace(reaction, results=results, restart=anew)

    def _refused(self, parsed: ParsedTurn, *, stopped: bool) -> StopReason | None:
        """Why a turn does not reach the world."""
        if not stopped:
            return StopReason.MAX_TOKENS
        if parsed.error:
            return StopReason.FORMAT_ERROR
        most = self._job.max_calls
        if most is not None and parsed.calls and self._made() + len(parsed.calls) > most:
            return StopReason.MAX_CALLS
        return None

    def _made(self) -> int:
        return sum(len(turn.calls) for turn in self._turns)

    async def _react(self, parsed: ParsedTurn) -> Reaction:
        """What the world does, with its failures as stop reasons."""
        try:
            async with asyncio.timeout(self._seconds_left()):
                reaction = await self._episode.step(parsed)
            if reaction.reply and reaction.reply.images:
                raise TypeError("a user's words can't carry images")
        except TimeoutError:
            self.stop_reason = StopReason.MAX_SECONDS
            return self._not_run(parsed, "time is up", Fault.POLICY)
        except ToolCrash as error:
            self.stop_reason = StopReason.TOOL
            return self._not_run(parsed, str(error), Fault.TOOL)
        except Exception as error:  # the boundary: a broken world ends this attempt alone, unscored and counted
            self.stop_reason, why = failure_of(error)
            return self._not_run(parsed, why, self.stop_reason.fault)
        if reaction.done:
            answered = not parsed.calls and reaction.reply is None
            self.stop_reason = StopReason.ANSWER if answered else StopReason.DONE
        if not parsed.calls:
            self._answer = parsed.answer
        return reaction

    def _not_run(self, parsed: ParsedTurn, why: str, fault: Fault | None) -> Reaction:
        self._why = why
        return Reaction(
            results=tuple(
                ToolResult(name=call.name, ok=False, output=f"not run: {why}", fault=fault) for call in parsed.calls
            )
        )

    def _seconds_left(self) -> float | None:
        most = self._job.max_seconds
        return None if most is None else max(0.0, most - (time.monotonic() - self._started))

    def _limit_reached(self) -> StopReason | None:
        job = self._job
        if len(self._turns) >= job.max_turns:
            return StopReason.MAX_TURNS
        if self._seconds_left() == 0.0:
            return StopReason.MAX_SECONDS
        spent = sum(result.cost for turn in self._turns for result in turn.results)
        if job.max_cost is not None and spent >= job.max_cost:
            return StopReason.MAX_COST
        return None

    def _append(self, turn: Turn) -> None:
        """What the model sees next: the observation, or a context that begins anew."""
        if not turn.restart:
            seen, room = self._chat.observation(turn.results, reply=turn.reply), self.room
        else:
            seen, room = self._chat.prompt(turn.restart, self._specs), self._max_length
        if len(seen) >= room:
            self.stop_reason = StopReason.MAX_TOKENS
            return
        if turn.restart:
            self._cuts.append(len(self._ids))
        self._extend(seen, 0, [0.0] * len(seen), 0)

    def _extend(self, ids: Sequence[int], mask: int, logprobs: Sequence[float], version: int) -> None:
        self._ids += ids
        self._mask += [mask] * len(ids)
        self._logprobs += logprobs
        self._versions += [version] * len(ids)

    async def finish(self) -> Trajectory:
        """The verdict and the trajectory, once `stop_reason` is set; the world is closed."""
        assert self.stop_reason is not None
        verdict = Verdict(correct=None)
        try:
            if self.stop_reason.scorable:
                verdict = await self._episode.verify(self._answer)
        except Exception as error:  # the boundary, as in `_react`
            self.stop_reason, self._why = failure_of(error)
        finally:
            await self._episode.close()
        return self._trajectory(verdict)

    async def abandon(self) -> None:
        """Close the world without a verdict."""
        await self._episode.close()

    def _trajectory(self, verdict: Verdict) -> Trajectory:
        job, problem = self._job, self._job.problem
        opening, specs = self._stored
        return Trajectory.at(
            problem,
            id=self._id,
            turns=tuple(self._turns),
            stop_reason=self.stop_reason or StopReason.MAX_TURNS,
            answer=self._answer,
            source=job.source,
            seed=job.seed,
            sample=job.sample,
            temperature=job.temperature,
            policy_version=oldest_version(self._versions, self._mask),
            token_ids=tuple(self._ids),
            cuts=tuple(self._cuts),
            loss_mask=tuple(self._mask),
            logprobs=tuple(self._logprobs),
            policy_versions=tuple(self._versions),
            opening=opening,
            specs=specs,
            correct=verdict.correct,
            score=verdict.score,
            score_parts=dict(verdict.parts),
            provenance={**self._parent, **({"failure": self._why} if self._why else {})},
        )


def _told(opening: Sequence[Message], guidance: str) -> tuple[Message, ...]:
    """Messages with more said behind the user's last words."""
    users = [place for place, message in enumerate(opening) if message.role == "user"]
    if not users:
        return (*opening, Message(role="user", content=guidance))
    last = opening[users[-1]]
    return (
        *opening[: users[-1]],
        replace(last, content=f"{last.content}\n\n{guidance}"),
        *opening[users[-1] + 1 :],
    )
