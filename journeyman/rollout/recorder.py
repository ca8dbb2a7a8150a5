"""What a program asks of the policy in one trajectory, answered by the sampler and recorded token for token."""

import hashlib
import re
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from journeyman.errors import InfrastructureError, UserError
from journeyman.messages import ParsedTurn
from journeyman.rollout.chat import ChatFormat
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.openai_wire import ChatRequest, Reply, RequestError
from journeyman.rollout.sampler import Completion, Sampler, SampleRequest
from journeyman.rollout.threads import Appended, Mark, Thread, find
from journeyman.seeds import derive
from journeyman.trajectory import StopReason

_THOUGHT = re.compile(r"^\s*<think>(.*?)</think>\s*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one trajectory may use up, all its threads together. The defaults are ours."""

    requests: int = 64
    tokens: int | None = None
    """Sampled ones; None: as many as the requests come to."""
    seconds: float = 600.0
    """From the start of the program to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the program is told of a turn."""

    parsed: ParsedTurn
    """Without calls where they were never made: the turn was cut off, or the program wants none."""
    content: str
    thought: str
    cut: bool
    """Whether the turn ran into a limit."""


@dataclass(slots=True, kw_only=True)
class Slot:
    """A request that has its prompt and waits for its turn to be sampled."""

    thread: Thread
    request: ChatRequest
    seen: list[int]
    """Ids to append before the turn; none where the thread is new."""
    appended: Appended | None
    reply_id: str
    settled: bool = False
    """Whether it was committed or released: the thread may be another request's by now."""

    @property
    def prompt(self) -> tuple[int, ...]:
        return (*self.thread.ids, *self.seen)


class Recorder:
    """One trajectory: its threads, its budget, what the program has reported.

    `prepare`, then `sample`, then `commit` or, where the turn did not reach the program, `release`: only what was
    committed is recorded. The job's temperature holds; with `own_temperature` the program's, where it asks for one.
    """

    def __init__(
        self,
        sampler: Sampler,
        chat: ChatFormat,
        job: RolloutJob,
        *,
        max_length: int,
        budget: Budget = Budget(),
        own_temperature: bool = False,
    ) -> None:
        self.job = job
        self.threads: list[Thread] = []
        self.stop_reason: StopReason | None = None
        """The first limit that a request ran into, if any."""
        self.failure: Exception | None = None
        """What the sampler failed with."""
        self.answer: str | None = None
        self.score: float | None = None
        self._sampler, self._chat, self._max_length = sampler, chat, max_length
        self._budget, self._own_temperature = budget, own_temperature
        self._started = time.monotonic()
        self._requests = self._tokens = self._made = 0

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._budget.seconds - (time.monotonic() - self._started))

    def prepare(self, request: ChatRequest) -> Slot:
        """Find the thread that a request goes on with. Raises `RequestError` where it can't, or the budget is used up."""
        self._spend()
        temperature = self.job.temperature
        if self._own_temperature and request.temperature is not None:
            temperature = request.temperature
        slot = self._slot(request, temperature)
        if len(slot.thread.turns) >= self.job.max_turns:
            raise self._exhausted(StopReason.MAX_TURNS, f"{self.job.max_turns} turns of a thread")
        room = self._max_length - len(slot.prompt)
        if room < 1:
            if slot.thread.turns:
                slot.thread.cut = True
                self.stop_reason = self.stop_reason or StopReason.MAX_TOKENS
            message = f"the prompt has {len(slot.prompt)} tokens; the model takes {self._max_length}, reply included"
            raise RequestError(message, code="context_length_exceeded", param="messages")
        slot.thread.busy = True
        if slot.thread not in self.threads:
            self.threads.append(slot.thread)
            self._made += 1
        return slot

    def _slot(self, request: ChatRequest, temperature: float) -> Slot:
        reply_id = f"chatcmpl-{derive(self.job.problem.id, self.job.seed, self._requests):016x}"
        place = find(self.threads, request.said, request.specs, temperature)
        if place is None:
            thread = self._new_thread(request, temperature)
            return Slot(thread=thread, request=request, seen=[], appended=None, reply_id=reply_id)
        seen = self._chat.observation(list(place.appended.outputs), reply=place.appended.reply)
        if not place.mark.closed:
            seen = [self._chat.end_id, *seen]
        thread = place.thread
        if not place.in_place:
            seed = self._seed([*thread.ids[: place.mark.length], *seen])
            thread = thread.forked(place.mark, index=self._made, seed=seed)
        return Slot(thread=thread, request=request, seen=seen, appended=place.appended, reply_id=reply_id)

    def _new_thread(self, request: ChatRequest, temperature: float) -> Thread:
        opening = tuple(said.message for said in request.said)
        try:
            ids = self._chat.prompt(opening, [dict(spec) for spec in request.specs])
        except UserError as error:
            raise RequestError(str(error), param="messages") from error
        # The first thread draws as the built-in loop does.
        seed = self._seed(ids) if self._made else self.job.seed
        index = self._made
        return Thread.begun(
            index=index, opening=opening, specs=request.specs, ids=ids, temperature=temperature, seed=seed
        )

    def _seed(self, ids: Sequence[int]) -> int:
        """Of a thread: it follows from what is asked, not from the order in which parallel requests arrive."""
        digest = hashlib.sha256(repr(list(ids)).encode()).hexdigest()
        seed, again = derive(self.job.seed, "thread", digest), 0
        while any(thread.seed == seed for thread in self.threads):
            again += 1
            seed = derive(self.job.seed, "thread", digest, again)
        return seed

    def _spend(self) -> None:
        self._requests += 1
        if self.failure is not None:
            raise RequestError("the sampler has failed", status=500, code="sampler_failed")
        if self._requests > self._budget.requests:
            raise self._exhausted(StopReason.MAX_TURNS, f"{self._budget.requests} requests")
        if self.seconds_left == 0:
            raise self.out_of_time()
        if self._budget.tokens is not None and self._tokens >= self._budget.tokens:
            raise self._exhausted(StopReason.MAX_TOKENS, f"{self._budget.tokens} tokens")

    def out_of_time(self) -> RequestError:
        """What a request is told once time is up."""
        return self._exhausted(StopReason.MAX_SECONDS, f"{self._budget.seconds:g} seconds")

    def _exhausted(self, reason: StopReason, what: str) -> RequestError:
        self.stop_reason = self.stop_reason or reason
        return RequestError(f"this trajectory's budget is used up: {what}", code="budget_exhausted")

    async def sample(self, slot: Slot) -> list[Completion]:
        """A turn, in one piece unless new weights interrupted it; cut where one of the request's stop texts begins.

        What the sampler fails with ends the trajectory: it is raised, and kept for whoever runs the program.
        """
        pieces: list[Completion] = []
        most = self._most(slot)
        try:
            while not pieces or pieces[-1].interrupted:
                written = tuple(token for piece in pieces for token in piece.token_ids)
                if len(written) >= most:
                    break
                pieces.append(await self._sampler.generate(self._asked(slot, written, len(pieces), most)))
        except (InfrastructureError, ValueError) as error:
            self.failure = error
            raise
        return self._stopped(pieces, slot.request.stop)

    def _most(self, slot: Slot) -> int:
        limits = [self.job.max_new_tokens, self._max_length - len(slot.prompt)]
        if slot.request.max_tokens is not None:
            limits.append(slot.request.max_tokens)
        if self._budget.tokens is not None:
            limits.append(self._budget.tokens - self._tokens)
        return max(1, min(limits))

    def _asked(self, slot: Slot, written: tuple[int, ...], begun: int, most: int) -> SampleRequest:
        return SampleRequest(
            prompt_ids=(*slot.prompt, *written),
            max_new_tokens=most - len(written),
            temperature=slot.thread.temperature,
            seed=derive(slot.thread.seed, len(slot.thread.turns), *([begun] if begun else [])),
            stop_ids=(self._chat.end_id,),
        )

    def _stopped(self, pieces: list[Completion], stop: tuple[str, ...]) -> list[Completion]:
        """The turn up to the token that completes a stop text; what was sampled after it is as if it never was."""
        ids = [token for piece in pieces for token in piece.token_ids]

        def found(count: int) -> bool:
            text = self._chat.decode(ids[:count])
            return any(mark in text for mark in stop)

        if not stop or not found(len(ids)):
            return pieces
        keep = bisect_left(range(len(ids)), True, key=lambda count: found(count + 1)) + 1
        kept: list[Completion] = []
        for piece in pieces:
            size = keep - sum(len(one.token_ids) for one in kept)
            if size < len(piece.token_ids):
                ids, logprobs = piece.token_ids[:size], piece.logprobs[:size]
                piece = replace(piece, token_ids=ids, logprobs=logprobs, stopped=False, interrupted=False)
            kept.append(piece)
        return [piece for piece in kept if piece.token_ids]

    def commit(self, slot: Slot, pieces: Sequence[Completion]) -> Reply:
        """Record a turn and what led to it; what the program is told."""
        thread, prompt = slot.thread, slot.prompt
        if slot.appended is not None:
            thread.append(slot.seen, slot.appended)
        ids = tuple(token for piece in pieces for token in piece.token_ids)
        text, closed = self._chat.decode(ids), pieces[-1].stopped
        heard = self._hear(text, slot.request, closed=closed)
        thread.sampled(pieces, text, heard.parsed)
        thread.cut, thread.answer = heard.cut, None if heard.cut else heard.parsed.answer
        calls, turn = heard.parsed.calls, f"{thread.index}_{len(thread.turns)}"
        reply = Reply(
            id=slot.reply_id,
            content=heard.content,
            thought=heard.thought,
            calls=calls,
            call_ids=tuple(f"call_{turn}_{number}" for number in range(len(calls))),
            finish="length" if heard.cut else "tool_calls" if calls else "stop",
            prompt_ids=prompt,
            token_ids=ids,
            logprobs=tuple(value for piece in pieces for value in piece.logprobs),
            pieces=self._pieces(ids) if slot.request.logprobs else (),
        )
        self._mark(slot, reply, closed=closed)
        self._tokens += len(ids)
        self.release(slot)
        return reply

    def release(self, slot: Slot) -> None:
        """Let go of a request: one that wasn't committed leaves no trace. Of no effect the second time."""
        if not slot.settled:
            slot.settled, slot.thread.busy = True, False

    def _hear(self, text: str, request: ChatRequest, *, closed: bool) -> Heard:
        at = min((text.find(mark) for mark in request.stop if mark in text), default=None)
        shown, cut = text[:at], not closed and at is None
        parsed = self._chat.parse(shown)
        found = _THOUGHT.match(shown)
        thought = found[1].strip() if found else ""
        if not (parsed.error or cut or (parsed.calls and not request.calls_allowed)):
            content = "\n".join(part for part in (parsed.text, parsed.answer) if part)
            return Heard(parsed=parsed, content=content, thought=thought, cut=cut)
        rest = shown[found.end() :] if found else shown
        return Heard(parsed=replace(parsed, calls=()), content=rest.strip(), thought=thought, cut=cut)

    def _pieces(self, ids: Sequence[int]) -> tuple[str, ...]:
        """The text of each token by itself."""
        return tuple(str(self._chat.tokenizer.decode([token])) for token in ids)

    def _mark(self, slot: Slot, reply: Reply, *, closed: bool) -> None:
        thread = slot.thread
        keys = (*(said.key() for said in slot.request.said), reply.said().key())
        length, turns = len(thread.ids), len(thread.turns)
        thread.marks.append(Mark(keys=keys, call_ids=reply.call_ids, length=length, turns=turns, closed=closed))
