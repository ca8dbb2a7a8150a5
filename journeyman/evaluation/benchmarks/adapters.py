"""The benchmarks: how each one's own files become problems of a world that is there already."""

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from journeyman.config.checks import Registered
from journeyman.environments import environment_with
from journeyman.environments.base import Generator
from journeyman.environments.gsm8k import Gsm8k, number
from journeyman.environments.maths import Maths
from journeyman.environments.multihop import MultiHop
from journeyman.environments.rows import BadRow, Reading, read_each
from journeyman.errors import ConfigError, DataError
from journeyman.evaluation.benchmarks.base import Questions, read_rows, required
from journeyman.formats import counts as counts_of
from journeyman.formats import import_path
from journeyman.problem import Problem, problem_id
from journeyman.synthesis.problems import read_problems

ANSWERS = ("answers", "golden_answers", "answer")
"""Columns of search questions that hold accepted answers, the first that is there: a text, or a list of texts."""
_BFCL = re.compile(r"^BFCL_v\d+_")


def bfcl(path: Path | None) -> Questions:
    """Berkeley Function-Calling Leaderboard (arXiv 2305.15334, derived): which calls to make, graded call by call.

    The path is a question file or the folder that `possible_answer/` lies in; a part is a category. Multi-turn
    categories are judged by their calls, not by states: the figures are not those of the leaderboard.
    """
    read = _imported("bfcl", required(path, "the folder that possible_answer/ lies in"))
    parts = {p.id: _BFCL.sub("", Path(str(p.data["source"].get("file", ""))).stem) for p in read.problems}
    return replace(read, parts=parts)


def tau2(path: Path | None, *, world: dict[str, Any] | None = None) -> Questions:
    """tau2-bench (arXiv 2506.07982, derived): tasks of a service desk with a policy, a database and a user.

    The path is a domain's folder, or one of several; a part is a domain. Users speak by script unless a model plays
    them. Tools of a domain beyond those of `journeyman.environments.tau2` are not there.

    Args:
        world: options of the desk: `{"chat": {...}}` names the model that plays users, `{"basis": [...]}` what counts.
    """
    read = _imported("tau2", required(path, "the folder of a domain"))
    problems = tuple(replace(p, world={**p.world, **(world or {})}) for p in read.problems)
    return replace(read, problems=problems, parts={p.id: Path(str(p.world["folder"])).name for p in problems})


def gsm8k(path: Path | None) -> Questions:
    """GSM8K (arXiv 2110.14168, derived): grade-school word problems with a calculator; the final number decides.

    Rows have `question` and `answer`, with the final number behind `####`. Rows whose worked solution can't be
    followed are asked all the same: a test set is not thinned out.
    """
    world = Gsm8k()

    def read(rows: Iterable[Mapping[str, Any]]) -> Reading:
        followed = world.read([{"question": None, "answer": None, **row} for row in rows])
        return followed if not followed.apart else read_each(rows, _final_number)

    return read_rows(required(path, "GSM8K's test.jsonl"), read)


def _final_number(row: Mapping[str, Any]) -> Problem:
    """A problem of a row whose steps don't matter. Raises `BadRow`."""
    question, worked = row.get("question"), str(row.get("answer", ""))
    value = number(worked.rpartition("####")[2])
    if not isinstance(question, str) or not question.strip():
        raise BadRow("no question")
    if value is None:
        raise BadRow("no final number behind ####", worked[-100:])
    return Problem(
        id=problem_id(Gsm8k.name, question),
        family=Gsm8k.name,
        question=question.strip(),
        answer=str(value),
        tools=("calculator",),
        min_calls=worked.count("<<"),
        data={"steps": []},
    )


def math(path: Path | None, *, python: bool = False) -> Questions:
    """MATH (arXiv 2103.03874, derived) and others of its form: a final answer, compared by value.

    Rows have `problem` or `question`, and `answer` or a `solution` with its answer in `\\boxed{}`. A part is a subject,
    or else a level.

    Args:
        python: an interpreter in the box instead of a calculator.
    """
    read = read_rows(required(path, "a file of problems with answers"), Maths(python=python).read)
    parts = {p.id: part for p in read.problems if (part := p.data.get("subject") or p.data.get("level"))}
    return replace(read, parts=parts)


def search_qa(path: Path | None, *, documents: str = "", results: int = 3) -> Questions:
    """Questions that are answered by searching, in any file: exact match as SQuAD has it (arXiv 1606.05250, derived).

    Rows have `question`, and `answer`, `answers` or `golden_answers`: a text or a list of accepted ones. Pages come with
    each row (`context`, as HotpotQA has it, or `corpus`), or from a folder or file for all.

    Args:
        documents: text, Markdown, JSONL or Parquet to search in, for rows that bring no pages of their own.
        results: pages that a search finds.
    """
    world: dict[str, Any] = {"judging": "off", "results": results}
    if documents:
        if not Path(documents).exists():
            raise DataError("there is nothing to search", place=documents, remedy="give documents=FOLDER or FILE")
        world["corpus"] = str(Path(documents).resolve())
    home = MultiHop(**world)

    def read(rows: Iterable[Mapping[str, Any]]) -> Reading:
        return home.read([_one_answer(row) for row in rows])

    read_all = read_rows(required(path, "a file of questions and answers"), read)
    if not documents and (bare := [p for p in read_all.problems if not p.data["corpus"]]):
        raise DataError(
            f"{len(bare)} questions bring no pages, the first: {bare[0].question[:100]}",
            place=str(path),
            remedy="give --option documents=FOLDER or FILE",
        )
    return replace(read_all, problems=tuple(replace(p, world=world) for p in read_all.problems))


def _one_answer(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row with one answer and the others as its aliases."""
    given = next((row[name] for name in ANSWERS if row.get(name) not in (None, [], "")), None)
    accepted = given if isinstance(given, list) else [given]
    return {"question": None, **row, "answer": accepted[0], "aliases": [*accepted[1:], *(row.get("aliases") or ())]}


def environment(
    path: Path | None,
    *,
    family: str = "",
    world: dict[str, Any] | None = None,
    count: int = 200,
    seed: int = 0,
) -> Questions:
    """Any registered environment: what its generator makes, its own rows, or a problems.parquet of a pipeline.

    Args:
        family: key of `journeyman.environments.ENVIRONMENTS`; not needed for a problems.parquet.
        world: options of the environment, as its class takes them.
        count: problems to generate.
        seed: of the generator.
    """
    if not family:
        problems = tuple(read_problems(required(path, "a problems.parquet, or name a family")))
        return Questions(problems=problems, counts={"rows": len(problems), "problems": len(problems)})
    if fault := Registered("journeyman.environments:ENVIRONMENTS").fault(family):
        raise ConfigError(fault[0], place="family", remedy=fault[1])
    home = environment_with(family, {family: world or {}})
    if path is not None:
        reader = getattr(home, "read", None)
        if reader is None:
            raise ConfigError(f"`{family}` reads no rows", place="family", remedy="leave --path away")
        read = read_rows(path, reader)
    elif isinstance(home, Generator):
        read = Questions(problems=tuple(_generated(home, count, seed)), counts={"generated": count})
    else:
        raise ConfigError(f"`{family}` makes no problems by itself", place="family", remedy="give --path FILE")
    tools = tuple(home.tools())
    offered = (replace(p, tools=p.tools or tools, world=p.world or (world or {})) for p in read.problems)
    return replace(read, problems=tuple(offered))


def _generated(home: Generator, count: int, seed: int) -> list[Problem]:
    """So many problems that ask different things, or those among the first hundred times as many (ours)."""
    found: dict[str, Problem] = {}
    for problem in islice(home.generate(random.Random(seed)), 100 * count):
        found.setdefault(str(problem.data.get("key", problem.id)), problem)
        if len(found) == count:
            break
    return list(found.values())


def _imported(name: str, path: Path) -> Questions:
    """Problems of an import format. Raises `DataError` where there is none."""
    imported = import_path(name, path)
    if not imported.problems:
        if not imported.apart:
            raise DataError("there are no rows", place=str(path), remedy="give a file with some")
        first = imported.apart[0]
        message = f"{first.reason}: {first.detail}" if first.detail else first.reason
        place = f"{first.row.file}:{first.row.line}"
        raise DataError(message, place=place, remedy="mend the rows: not one of them can be used")
    return Questions(problems=imported.problems, counts=counts_of(imported))
