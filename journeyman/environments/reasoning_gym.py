"""The data sets of the package reasoning-gym: puzzles of a hundred kinds, made and scored by their own code."""

import ast
import asyncio
import builtins
import inspect
import json
import random
import re
import secrets
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Any

from journeyman.environments.base import Course, Environment
from journeyman.environments.episode import Episode, Verdict
from journeyman.errors import ConfigError, DataError, InfrastructureError, UserError
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import CallContext

LEFT_OUT = ("composite",)
"""Data sets that are only made of others."""
MAX_ANSWER = 20_000
"""Characters of an answer that are scored; a longer one is wrong. Ours."""
SCORE_SECONDS = 20.0
"""Longest that an answer may take to score where that evaluates it. Ours."""

_EVALUATES = re.compile(r"\b(?:eval|exec|parse_expr|sympify)\(\s*\w*answer")
"""In the source of a data set: it runs the model's answer as Python."""
_PROGRAM = """
import ast, json, sys
import reasoning_gym
asked = json.load(sys.stdin)
made = reasoning_gym.create_dataset(asked["dataset"], seed=asked["seed"], size=1, **asked["config"])
entry = ast.literal_eval(asked["entry"])
print(asked["mark"], flush=True)
print(asked["mark"], float(made.score_answer(asked["answer"], entry)))
"""


class ReasoningGym(Environment):
    """Problems of reasoning-gym. An answer is right where its score reaches `correct_at`.

    Args:
        datasets: which to draw from; none: all that there are.
        config: data set -> its options, as reasoning-gym's config class takes them.
        level: difficulty by the data sets' own curricula, 0 the easiest; none: their defaults. Options go before it.
        correct_at: the score from which an answer is right.
    """

    name = "reasoning-gym"

    def __init__(
        self,
        *,
        datasets: Sequence[str] = (),
        config: Mapping[str, Mapping[str, Any]] | None = None,
        level: int | None = None,
        correct_at: float = 1.0,
    ) -> None:
        self._chosen, self._config = tuple(datasets), {name: dict(one) for name, one in (config or {}).items()}
        self._level, self._correct_at = level, correct_at
        self._world = {
            **({"datasets": list(datasets)} if datasets else {}),
            **({"config": self._config} if config else {}),
            **({} if level is None else {"level": level}),
            **({} if correct_at == 1.0 else {"correct_at": correct_at}),
        }

    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets that problems are drawn from. Raises `ConfigError` for unknown ones."""
        known = tuple(name for name in _package().factory.DATASETS if name not in LEFT_OUT)
        wrong = [name for name in (*self._chosen, *self._config) if name not in known]
        if wrong:
            raise ConfigError(
                f"reasoning-gym has no data set {', '.join(wrong)}", remedy=f"there are {', '.join(sorted(known))}"
            )
        return self._chosen or tuple(sorted(known))

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        names = self.datasets()
        while True:
            yield self.problem(rng.choice(names), rng.getrandbits(31))

    def problem(self, dataset: str, seed: int) -> Problem:
        """The problem of a data set for a seed."""
        config = _config_of(dataset, self._level, self._config.get(dataset, {}))
        entry = _make(dataset, seed, json.dumps(config, sort_keys=True))[0]
        text = _written(entry)
        data = {"key": f"{dataset}: {entry['question']}", "dataset": dataset, "seed": seed, "config": config}
        return Problem(
            id=problem_id(self.name, entry["question"], {"dataset": dataset, "seed": seed, "config": config}),
            family=self.name,
            question=entry["question"],
            answer="" if entry["answer"] is None else str(entry["answer"]),
            data={**data, "entry": text} if text else data,
            world=self._world,
        )

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return _Puzzle(self, problem, context)

    def courses(self, problem: Problem) -> Sequence[Course]:
        """The gold answer, where the data set gives one: some have puzzles with many solutions and none written out."""
        return (Course(steps=(), answer=problem.answer),) if problem.answer else ()

    def verify(self, problem: Problem, answer: str) -> bool:
        with ThreadPoolExecutor(1) as thread:  # there may be an event loop in this one
            score = thread.submit(asyncio.run, self.score(problem, answer)).result()
        return score >= self._correct_at

    async def score(self, problem: Problem, answer: str | None) -> float:
        """What the data set gives for an answer, in [0, 1].

        Where its code evaluates the answer as Python, that happens in a box, and only for what looks like an expression.
        """
        if answer is None or len(answer) > MAX_ANSWER:
            return 0.0
        dataset, data = problem.data["dataset"], problem.data
        if evaluates(dataset):
            score = await _score_boxed(problem, answer) if is_expression(answer) else 0.0
        else:
            made = _make(dataset, data["seed"], json.dumps(data["config"], sort_keys=True))
            score = _score_here(made, answer, _entry(problem, made))
        return min(1.0, max(0.0, score))

    @property
    def correct_at(self) -> float:
        return self._correct_at

    def validate(self) -> None:
        """Every data set: the gold answer has full score, an empty one has not."""
        for name in self.datasets():
            problem = self.problem(name, 1)
            if not problem.answer or evaluates(name):
                continue
            if not self.verify(problem, problem.answer) or self.verify(problem, ""):
                raise ValueError(f"{self.name}: {name} does not tell its own answer from an empty one")


class _Puzzle(Episode):
    environment: ReasoningGym

    async def verify(self, answer: str | None) -> Verdict:
        score = await self.environment.score(self.problem, answer)
        return Verdict(correct=score >= self.environment.correct_at, score=score)


def is_expression(answer: str) -> bool:
    """Whether an answer that will be evaluated is arithmetic, algebra or a literal: no attributes, no functions of Python.

    The box holds whatever gets past; this keeps an answer from telling the scorer what to say.
    """
    if "__" in answer or "\\" in answer or re.search(r"\.\s*[A-Za-z_]", answer):
        return False
    return not _FORBIDDEN.intersection(re.findall(r"[A-Za-z_]\w*", answer))


_FORBIDDEN = (
    set(dir(builtins))
    | {"lambda", "import", "yield", "await", "async", "class", "def", "del", "global", "nonlocal", "with", "raise"}
    | {"sympify", "parse_expr", "lambdify", "preview", "pprint", "pretty_print", "print_tree", "source", "S"}
) - {"abs", "min", "max", "pow", "round", "sum"}


@cache
def evaluates(dataset: str) -> bool:
    """Whether scoring an answer of the data set runs it as Python."""
    made, _ = _package().factory.DATASETS[dataset]
    return bool(_EVALUATES.search(inspect.getsource(sys.modules[made.__module__])))


def _score_here(made: Any, answer: str, entry: Mapping[str, Any]) -> float:
    try:
        return float(made.score_answer(answer, entry))
    except Exception:  # the boundary: scorers of the package raise what they like at answers that they can't read
        return 0.0


async def _score_boxed(problem: Problem, answer: str) -> float:
    from journeyman.tools.sandbox import Bounds, run_program

    data, mark = problem.data, secrets.token_hex(16)
    if "entry" not in data:
        raise DataError(f"problem {problem.id} has no entry that could be scored away from this process")
    asked = {name: data[name] for name in ("dataset", "seed", "config", "entry")} | {"answer": answer, "mark": mark}
    limits = Bounds(seconds=SCORE_SECONDS, memory=2 * 2**30)
    outcome = await run_program(_PROGRAM, stdin=json.dumps(asked), limits=limits, packages=("reasoning-gym",))
    shown = outcome.stdout.split(mark)
    if len(shown) < 2:
        raise InfrastructureError(f"reasoning-gym did not come up in a box: {outcome.killed} {outcome.stderr[-300:]}")
    return float(shown[2]) if len(shown) > 2 else 0.0


def _entry(problem: Problem, made: Any) -> Mapping[str, Any]:
    """The data set's entry for a problem. Raises `DataError` where another version makes another of the same seed."""
    if text := problem.data.get("entry"):
        return ast.literal_eval(text)
    entry = made[0]
    if entry["question"] != problem.question:
        raise DataError(
            f"reasoning-gym makes another {problem.data['dataset']} of seed {problem.data['seed']} than problem "
            f"{problem.id} has",
            remedy="install the version that the problem was made with, or make problems anew",
        )
    return entry


def _written(entry: Mapping[str, Any]) -> str:
    """An entry as Python literals, which keep tuples and keys that are no text; empty where there are objects in it."""
    text = repr(dict(entry))
    try:
        return text if ast.literal_eval(text) == entry else ""
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""


def _config_of(dataset: str, level: int | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a data set at a level of its curriculum, as JSON; those that are given go before the level's."""
    package = _package()
    if level is None or not package.factory.has_curriculum(dataset):
        return dict(options)
    curriculum = package.factory.create_curriculum(dataset)
    curriculum.set_global_level(level)
    made = curriculum.generate_configuration()
    default = package.factory.DATASETS[dataset][1]()
    changed = {name: value for name, value in vars(made).items() if value != getattr(default, name)}
    return {**{name: value for name, value in changed.items() if name not in ("seed", "size")}, **options}


@lru_cache(maxsize=256)
def _make(dataset: str, seed: int, config: str) -> Any:
    """A data set of one entry. Raises `ConfigError` for options that it doesn't take."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # some leave files open that they have read
            return _package().create_dataset(dataset, seed=seed, size=1, **json.loads(config))
    except (TypeError, AssertionError, ValueError) as error:
        raise ConfigError(
            f"{dataset} can't be made: {error}", place=f"problems.worlds.reasoning-gym.config.{dataset}"
        ) from error


@cache
def _package() -> Any:
    """The package, imported when it is first needed. Raises `UserError`."""
    try:
        import reasoning_gym
        import reasoning_gym.factory
    except ImportError as error:
        raise UserError("reasoning-gym is not installed", remedy="pip install reasoning-gym") from error
    return reasoning_gym
