"""Judges in front of a sampler: another model in this process, or the policy itself behind the stage's samplers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

from journeyman.config import ComputeConfig
from journeyman.config.judge import EndpointJudge, JudgeConfig, ModelJudge
from journeyman.messages import Message
from journeyman.problem import Problem, problem_id
from journeyman.rewards.base import Judge
from journeyman.rewards.judge import ChatJudge
from journeyman.rollout.chat import ChatFormat
from journeyman.rollout.job import RolloutJob, SamplerPool, attempt_all
from journeyman.rollout.sampler import Completion, Sampler, SampleRequest
from journeyman.seeds import derive
from journeyman.trajectory import StopReason

FAMILY = "arithmetic"
"""A family in which a question without tools is shown as it is."""


class SamplerChat:
    """A `Chat` on a sampler. All requests run on the event loop of whoever asks first."""

    def __init__(self, sampler: Sampler, chat: ChatFormat, *, max_length: int) -> None:
        self._sampler, self._chat, self._max_length = sampler, chat, max_length

    async def complete(
        self, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
    ) -> str:
        """Empty where the question leaves no room for an answer."""
        prompt = self._chat.prompt(messages, ())
        room = min(max_tokens, self._max_length - len(prompt))
        pieces: list[Completion] = []
        while room > 0 and (not pieces or pieces[-1].interrupted):
            written = tuple(token for piece in pieces for token in piece.token_ids)
            if len(written) >= room:
                break
            request = SampleRequest(
                prompt_ids=(*prompt, *written),
                max_new_tokens=room - len(written),
                temperature=temperature,
                seed=derive(seed, len(pieces)) if pieces else seed,
                stop_ids=self._chat.stop_ids,
            )
            pieces.append(await self._sampler.generate(request))
        return self._chat.decode([token for piece in pieces for token in piece.token_ids])


class PoolJudge:
    """The policy as its own judge: each question is an attempt of one turn on the stage's samplers.

    An answer that the samplers fail to give is empty, which nobody can read; where none comes, `InfrastructureError`.
    One asks at a time, for a pool plays one rollout at a time.
    """

    def __init__(self, pool: SamplerPool, *, seed: int = 0, max_tokens: int = 128) -> None:
        self._pool, self._seed, self._max_tokens = pool, seed, max_tokens
        self._one_at_a_time = Lock()

    def ask(self, questions: Sequence[str], *, samples: int = 1, temperature: float = 0.0) -> list[list[str]]:
        """At temperature 0 one answer stands for all samples."""
        if not questions:
            return []
        drawn = samples if temperature > 0 else 1
        jobs = [self._job(question, number, temperature) for question in questions for number in range(drawn)]
        with self._one_at_a_time:
            made = attempt_all(self._pool, jobs)
        said = [t.turns[0].text if t.turns and t.stop_reason is not StopReason.INFRASTRUCTURE else "" for t in made]
        return [said[start : start + drawn] * (samples // drawn) for start in range(0, len(said), drawn)]

    def _job(self, question: str, number: int, temperature: float) -> RolloutJob:
        asked = Problem(id=problem_id(FAMILY, question), family=FAMILY, question=question, answer="")
        return RolloutJob(
            problem=asked,
            sample=number,
            seed=derive(self._seed, "judge", number),
            temperature=temperature,
            max_turns=1,
            max_new_tokens=self._max_tokens,
            source="judge",
        )


class LazyJudge:
    """A judge that is made when it is first asked: models are not read before they are needed."""

    def __init__(self, make: Callable[[], Judge]) -> None:
        self._make, self._made, self._making = make, None, Lock()

    def ask(self, questions: Sequence[str], *, samples: int = 1, temperature: float = 0.0) -> list[list[str]]:
        with self._making:
            self._made = self._made or self._make()
        return self._made.ask(questions, samples=samples, temperature=temperature)


def build_judge(config: JudgeConfig, *, pool: SamplerPool, compute: ComputeConfig, seed: int = 0) -> Judge:
    """The one that pipelines.yaml describes; `pool` are the stage's samplers, `compute` is for a model of its own."""
    if isinstance(config, EndpointJudge):
        return ChatJudge.of(config, seed=seed)
    if isinstance(config, ModelJudge):
        return LazyJudge(lambda: model_judge(config, compute, seed=seed))
    return PoolJudge(pool, seed=seed, max_tokens=config.max_tokens)


def model_judge(config: ModelJudge, compute: ComputeConfig, *, seed: int = 0) -> ChatJudge:
    """A model of its own in this process; it is read here."""
    from journeyman.rollout.worker import build_sampler

    folder = Path(config.path)
    sampler = build_sampler(folder, compute, config.max_length)
    return ChatJudge(
        SamplerChat(sampler, ChatFormat.of_folder(folder), max_length=config.max_length),
        cache=Path(config.cache) if config.cache else None,
        name=str(folder),
        concurrency=config.concurrency,
        seed=seed,
        max_tokens=config.max_tokens,
    )
