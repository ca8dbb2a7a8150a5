"""New problems during training: proposed, tried by the policy, and taken into the curriculum where they are worth it.

To add a source: a class, its options in `journeyman.config.proposals`, a line in `PROPOSALS`, a test.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean
from typing import Any, Protocol

from journeyman.config import RlConfig
from journeyman.config.proposals import (
    ConjecturedProposals,
    MutatedProposals,
    WrittenProposals,
)
from journeyman.curation.normal_form import question_form
from journeyman.curriculum.base import Curriculum, Growing, check_keys
from journeyman.environments import Generator, environment_of
from journeyman.environments.base import same_answer
from journeyman.errors import ConfigError
from journeyman.problem import Problem, problem_id
from journeyman.rewards.base import Judge
from journeyman.rollout.job import RolloutJob, SamplerPool
from journeyman.seeds import derive
from journeyman.synthesis.base import tagged_text
from journeyman.training.handle import LearnerHandle
from journeyman.trajectory import StopReason, Trajectory

DRAWN = 50
"""Problems that a family's generator is asked for, for each one wanted."""
KEPT = 500
"""Failed problems that are remembered, the last ones."""
TEMPERATURE = 0.8
"""Of writing."""

MUTATE = """Write a new task in the style of this one, a little easier or different, that the same tools can solve.
It has one short answer. Write nothing but the task, between <task> and </task>.

Tools: {tools}
Task: {question}"""
PROPOSE = """Think of a new task that somebody may have for these tools, unlike the examples. It has one short answer.
Write nothing but the task, between <task> and </task>.

Tools: {tools}
Examples:
{examples}"""
FEASIBLE = """Can this task be solved with these tools? Answer YES or NO.

Tools: {tools}
Task: {question}"""
SUCCEEDED = """Does this answer solve the task, judged by what the tools said? Answer YES or NO.

Task: {question}
The tools said:
{seen}
Answer: {answer}"""


class Source(Protocol):
    """Where proposals come from. Its state is JSON, its draws follow from seed and step."""

    def candidates(self, count: int, *, step: int) -> list[Problem]:
        """Up to so many problems; without a reference answer where that is yet to be found."""
        ...

    def settled(self, candidate: Problem, attempts: Sequence[Trajectory]) -> tuple[Problem, float]:
        """(the candidate with its reference answer, its pass rate); a rate of 0 where it has none."""
        ...

    def wants(self, level: float) -> bool:
        """Whether a problem of such a pass rate, or value, is worth it."""
        ...

    def update(self, trajectories: Sequence[Trajectory]) -> None:
        """Take note of a step's attempts."""
        ...

    def pay(self, candidate: Problem, *, accepted: bool) -> None:
        """Take note of what became of a candidate."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Written:
    """What sources have in common in which a model writes: questions, whether they can be done, no answers."""

    def __init__(
        self, config: WrittenProposals, problems: Sequence[Problem], seed: int, writer: Judge | None = None
    ) -> None:
        assert writer is not None, "the block's writer"
        self._config, self._seed, self._writer = config, seed, writer
        self._problems = {problem.id: problem for problem in problems}

    def candidates(self, count: int, *, step: int) -> list[Problem]:
        origins = self._origins(count, random.Random(derive(self._seed, "step", step)))
        replies = self._writer.ask([self._prompt(one) for one in origins], temperature=TEMPERATURE)
        texts = [tagged_text(reply, "task") for [reply] in replies]
        written = [_written(one, text) for one, text in zip(origins, texts, strict=True) if text]
        return [one for one, yes in zip(written, self._feasible(written), strict=True) if yes]

    def _origins(self, count: int, rng: random.Random) -> list[Problem]:
        raise NotImplementedError

    def _prompt(self, origin: Problem) -> str:
        raise NotImplementedError

    def _feasible(self, written: Sequence[Problem]) -> list[bool]:
        return self._yes([FEASIBLE.format(tools=", ".join(one.tools), question=one.question) for one in written])

    def _yes(self, questions: Sequence[str]) -> list[bool]:
        return [reply.strip().upper().startswith("YES") for [reply] in self._writer.ask(questions)]

    def settled(self, candidate: Problem, attempts: Sequence[Trajectory]) -> tuple[Problem, float]:
        """What most attempts that count agree on, two at least, is the answer; the shortest one's calls are the reference."""
        answered = [t for t in attempts if t.stop_reason is StopReason.ANSWER and t.answer]
        counted = self._counted(candidate, answered)
        agreed = max((_agreeing(counted, str(t.answer)) for t in counted), key=len, default=[])
        if len(agreed) < 2:
            return candidate, 0.0
        shortest = min(agreed, key=lambda t: len(t.calls))
        calls = [{"name": call.name, "arguments": dict(call.arguments)} for call in shortest.calls]
        problem = replace(
            candidate,
            answer=str(shortest.answer),
            min_calls=len(calls),
            data={**candidate.data, "reference_calls": calls},
        )
        return problem, len(agreed) / len(attempts) if _verifiable(problem) else 0.0

    def _counted(self, candidate: Problem, answered: Sequence[Trajectory]) -> Sequence[Trajectory]:
        return answered

    def wants(self, level: float) -> bool:
        return self._config.low <= level <= self._config.high

    def update(self, trajectories: Sequence[Trajectory]) -> None:
        """Nothing to note."""

    def pay(self, candidate: Problem, *, accepted: bool) -> None:
        """Nobody is paid."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_keys(state, set())


class Mutated(Written):
    """A model writes variants of problems that the policy failed.

    WebRL (#223, verified): tasks from failed ones, a filter that asks whether they can be done, and those alone whose
    value V(s0) by the critic lies from .05 to .75. Without a critic the pass rate stands for it, and the answer is what
    most attempts agree on: both ours, for nobody writes a reference answer here.
    """

    def __init__(
        self, config: MutatedProposals, problems: Sequence[Problem], seed: int, writer: Judge | None = None
    ) -> None:
        super().__init__(config, problems, seed, writer)
        self._failed: dict[str, None] = {}
        """Ids of problems that a whole group failed last, the oldest first."""

    def update(self, trajectories: Sequence[Trajectory]) -> None:
        for id, solved in _solved(trajectories).items():
            self._failed.pop(id, None)
            if not solved and id in self._problems:
                self._failed[id] = None
        self._failed = dict.fromkeys(list(self._failed)[-KEPT:])

    def _origins(self, count: int, rng: random.Random) -> list[Problem]:
        ids = list(self._failed)
        return [self._problems[id] for id in rng.sample(ids, min(count, len(ids)))]

    def _prompt(self, origin: Problem) -> str:
        return MUTATE.format(tools=", ".join(origin.tools), question=origin.question)

    def state_dict(self) -> dict[str, Any]:
        return {"failed": list(self._failed)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_keys(state, {"failed"})
        self._failed = dict.fromkeys(state["failed"])


class Proposed(Written):
    """A model thinks of tasks for a world's tools, and says which attempts at them succeeded.

    PAE (#102, derived): a proposer that knows the site's name and demonstrations, and an evaluator's 0 or 1 on the
    outcome. Here it knows the tools' names and three problems of a family; the answer is what most successful attempts
    agree on. The band of pass rates is WebRL's (#223, verified). Not covered: pictures of the screen.
    """

    def _origins(self, count: int, rng: random.Random) -> list[Problem]:
        return rng.sample(list(self._problems.values()), min(count, len(self._problems)))

    def _prompt(self, origin: Problem) -> str:
        family = [one.question for one in self._problems.values() if one.family == origin.family]
        shown = random.Random(derive(self._seed, origin.id)).sample(family, min(3, len(family)))
        return PROPOSE.format(tools=", ".join(origin.tools), examples="\n".join(f"- {one}" for one in shown))

    def _counted(self, candidate: Problem, answered: Sequence[Trajectory]) -> Sequence[Trajectory]:
        seen = ["\n".join(output for turn in t.turns for output in turn.outputs()) for t in answered]
        questions = [
            SUCCEEDED.format(question=candidate.question, seen=outputs, answer=t.answer)
            for t, outputs in zip(answered, seen, strict=True)
        ]
        return [t for t, yes in zip(answered, self._yes(questions), strict=True) if yes]


class Conjectured:
    """Worlds generate problems; the sorts that give barely solvable ones come more often.

    STP (#201, derived): a conjecturer is trained on its conjectures with a pass rate in (0, 1/4], without doubles, and
    weighted towards targets that nobody has proved. Here it is no model but a choice among sorts, a family and a number
    of calls: weight (paid + 1) / (tried + 2), times 1 + the share of the sort's problems that were attempted and never
    solved. Both are ours. It needs families that generate.
    """

    def __init__(
        self, config: ConjecturedProposals, problems: Sequence[Problem], seed: int, writer: Judge | None = None
    ) -> None:
        """Raises `ConfigError` where no family of the problems generates any."""
        self._config, self._seed = config, seed
        self._sorts = {problem.id: _sort(problem) for problem in problems}
        self._patterns = {p.family: p for p in problems if isinstance(environment_of(p), Generator)}
        if not self._patterns:
            raise ConfigError(
                "no family of the problems generates new ones", place="rl.proposals", remedy="leave it out"
            )
        self._paid, self._tried = Counter[str](), Counter[str]()
        self._solved: dict[str, bool] = {}
        """Of each attempted problem whether it was ever solved."""

    def candidates(self, count: int, *, step: int) -> list[Problem]:
        rng = random.Random(derive(self._seed, "step", step))
        drawn: dict[str, list[Problem]] = {}
        for problem in self._drawn(count, step):
            drawn.setdefault(_sort(problem), []).append(problem)
        weights = self.weights(sorted(drawn))
        chosen: list[Problem] = []
        while len(chosen) < count and weights:
            [sort] = rng.choices(list(weights), list(weights.values()))
            chosen.append(drawn[sort].pop())
            if not drawn[sort]:
                del weights[sort]
        return chosen

    def _drawn(self, count: int, step: int) -> Iterator[Problem]:
        for family, pattern in sorted(self._patterns.items()):
            world = environment_of(pattern)
            assert isinstance(world, Generator)
            stream = world.generate(random.Random(derive(self._seed, "stream", step, family)))
            for problem in islice(stream, DRAWN * count):
                yield replace(problem, tools=pattern.tools, world=pattern.world)

    def weights(self, sorts: Sequence[str]) -> dict[str, float]:
        """How often each sort is drawn, against the others."""
        attempted = Counter(self._sorts[id] for id in self._solved)
        unproved = Counter(self._sorts[id] for id, solved in self._solved.items() if not solved)
        return {
            sort: (self._paid[sort] + 1) / (self._tried[sort] + 2) * (1 + unproved[sort] / max(1, attempted[sort]))
            for sort in sorts
        }

    def settled(self, candidate: Problem, attempts: Sequence[Trajectory]) -> tuple[Problem, float]:
        verdicts = [bool(t.correct) for t in attempts if t.correct is not None]
        return candidate, fmean(verdicts) if verdicts else 0.0

    def wants(self, level: float) -> bool:
        return 0 < level <= self._config.high

    def update(self, trajectories: Sequence[Trajectory]) -> None:
        for id, solved in _solved(trajectories).items():
            if id in self._sorts:
                self._solved[id] = self._solved.get(id, False) or solved

    def pay(self, candidate: Problem, *, accepted: bool) -> None:
        self._tried[_sort(candidate)] += 1
        self._paid[_sort(candidate)] += accepted

    def state_dict(self) -> dict[str, Any]:
        return {"paid": dict(self._paid), "tried": dict(self._tried), "solved": dict(self._solved)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_keys(state, {"paid", "tried", "solved"})
        self._paid, self._tried = Counter(state["paid"]), Counter(state["tried"])
        self._solved = dict(state["solved"])


PROPOSALS: dict[str, Callable[..., Source]] = {
    "mutated": Mutated,
    "proposed": Proposed,
    "conjectured": Conjectured,
}
"""What makes one of its block of the config, the problems, a seed and the writer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForProposals:
    """What a block's proposals are supplied with."""

    apart: Sequence[Problem] = ()
    """Problems that are evaluated on: none of them is proposed, nor one that asks the same."""
    writer: Judge | None = None


class Proposing:
    """The proposals of a block, and the problems that came of them. Without a source it holds inherited ones."""

    def __init__(
        self,
        stage: RlConfig,
        problems: Sequence[Problem],
        curriculum: Curriculum,
        *,
        pool: SamplerPool,
        learner: LearnerHandle,
        seed: int,
        supplies: ForProposals,
    ) -> None:
        self._stage, self._config, self._curriculum = stage, stage.proposals, curriculum
        self._pool, self._learner, self._seed = pool, learner, derive(seed, "proposals")
        self._source = (
            PROPOSALS[self._config.type](self._config, problems, self._seed, supplies.writer) if self._config else None
        )
        self._known = {form for one in (*problems, *supplies.apart) for form in _forms(one)} if self._config else set()
        self.added: list[Problem] = []
        """What was taken in, in order."""

    def advance(self, trajectories: Sequence[Trajectory], *, step: int) -> dict[str, float]:
        """Behind a step: take note of it and, every so many steps, propose. No attempt may be under way.

        Returns metrics.
        """
        config = self._config
        if config is None or self._source is None:
            return {}
        self._source.update(trajectories)
        if step % config.every or len(self.added) >= config.most:
            return {}
        candidates = self._new(self._source.candidates(config.count, step=step))
        tried = [self._judged(one, attempts) for one, attempts in self._attempted(candidates, step)]
        accepted = [problem for problem, _, good in tried if good][: config.most - len(self.added)]
        self.take(accepted)
        rates = [rate for _, rate, _ in tried]
        return {
            "proposals/tried": float(len(tried)),
            "proposals/accepted": float(len(accepted)),
            "proposals/added": float(len(self.added)),
            **({"proposals/pass_rate_mean": fmean(rates)} if rates else {}),
        }

    def take(self, problems: Sequence[Problem]) -> None:
        """Into the curriculum. Raises `ConfigError` where that can't grow."""
        if not problems:
            return
        if not isinstance(self._curriculum, Growing):
            raise ConfigError(
                "the curriculum takes no problems in", place="rl.curriculum", remedy="take `bands` or `edge`"
            )
        self._curriculum.add(list(problems))
        self._known |= {form for one in problems for form in _forms(one)}
        self.added += problems

    def _new(self, candidates: Sequence[Problem]) -> list[Problem]:
        found, seen = list[Problem](), set(self._known)
        for one in candidates:
            if seen.isdisjoint(_forms(one)):
                found.append(one)
                seen |= _forms(one)
        return found

    def _attempted(self, candidates: Sequence[Problem], step: int) -> list[tuple[Problem, list[Trajectory]]]:
        """Each candidate with attempts. What fails is not tried again: another candidate will come."""
        assert self._config is not None
        size = self._config.attempts
        jobs = [
            RolloutJob(
                problem=problem,
                sample=sample,
                seed=derive(self._seed, step, problem.id, sample),
                temperature=self._stage.temperature,
                source="proposal",
                **self._stage.limits(),
            )
            for problem in candidates
            for sample in range(size)
        ]
        made = self._pool.rollout(jobs) if jobs else []
        return [(problem, made[i * size : (i + 1) * size]) for i, problem in enumerate(candidates)]

    def _judged(self, candidate: Problem, attempts: Sequence[Trajectory]) -> tuple[Problem, float, bool]:
        """(the problem, its pass rate, whether it is taken in)."""
        assert self._source is not None
        problem, rate = self._source.settled(candidate, attempts)
        by_value = rate > 0 and self._stage.critic and isinstance(self._source, Written)
        accepted = rate > 0 and self._source.wants(self._value(attempts) if by_value else rate)
        self._source.pay(candidate, accepted=accepted)
        return problem, rate, accepted

    def _value(self, attempts: Sequence[Trajectory]) -> float:
        """V(s0) by the critic: of the prompt that all attempts share."""
        prompt = next(t.token_ids[: t.loss_mask.index(1)] for t in attempts if 1 in t.loss_mask)
        return self._learner.values([prompt])["value"][0][-1]

    def state_dict(self) -> dict[str, Any]:
        source = self._source.state_dict() if self._source else {}
        return {"added": [problem.to_json() for problem in self.added], "source": source}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Before the curriculum's state is loaded, which speaks of what was added."""
        check_keys(state, {"added", "source"})
        self.take([Problem.from_json(one) for one in state["added"]])
        if self._source:
            self._source.load_state_dict(state["source"])


def _forms(problem: Problem) -> set[str]:
    """Two problems that share one ask the same."""
    key = problem.data.get("key")
    return {question_form(problem.question), *([f"{problem.family}:{key}"] if key else [])}


def _sort(problem: Problem) -> str:
    return f"{problem.family}:{problem.min_calls}"


def _solved(trajectories: Sequence[Trajectory]) -> dict[str, bool]:
    """Of each problem with a verdict whether an attempt was right."""
    found: dict[str, bool] = {}
    for t in trajectories:
        if t.correct is not None:
            found[t.problem_id] = found.get(t.problem_id, False) or bool(t.correct)
    return found


def _written(origin: Problem, question: str) -> Problem:
    """A problem of the same family and tools that asks something else; its answer is yet to be found."""
    id = problem_id(origin.family, question)
    return replace(origin, id=id, question=question, answer="", data={"key": id, "proposed_from": origin.id})


def _agreeing(attempts: Sequence[Trajectory], answer: str) -> list[Trajectory]:
    return [t for t in attempts if same_answer(answer, str(t.answer))]


def _verifiable(problem: Problem) -> bool:
    """Whether its world can tell a right answer by the reference alone: some need more of a problem than was written."""
    try:
        return environment_of(problem).verify(problem, problem.answer)
    except (KeyError, TypeError, ValueError):
        return False
