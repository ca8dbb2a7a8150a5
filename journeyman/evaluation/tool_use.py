"""What logged attempts say of tool use: whether to call, which tool, and which evidence they came by.

All of it is counted attempt by attempt as (numerator, denominator), as in `evaluation.measures`; no judge but the
verdict. Gold comes from `Problem.data`:

- `needs_call`: whether a call is needed; without it `min_calls` > 0 says so. Awareness (#23, derived).
- `selection`: `{"subtask": ..., "tools": [names]}`, the tools to call; empty where none fits. The subtasks of MetaTool
  (#23, derived) are `similar`, `scenario`, `reliability` (none fits) and `multi`. Selected right: exactly these were
  called, in any order; tries with wrong arguments count as calls.
- `tool_set`: `{"level": ..., "tools": [numbers]}`, the numbers of a catalogue that the answer is to name; levels are
  `recognition`, `understanding` and `creation`: PhysToolBench (#57, verified) as text; family `tool_choice` makes such
  problems.
- `gold_evidence`: a list of what tool results must show, each a text (as words, `answer_form`) or
  `{"regex": pattern}`; `evidence_order`: pairs [i, j], i is to be seen before j. Reach, order and redundancy of evidence,
  integration and luck: GeoBrowse (#129, derived); its release ships no measure of traces.

Evidence counts in tool results only, never in what the model says. NOT covered: evidence in pictures.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from journeyman.curation.normal_form import answer_form
from journeyman.environments.tool_choice import named
from journeyman.evaluation.statistics import Ratio
from journeyman.problem import Problem
from journeyman.trajectory import Trajectory

NOTHING: Ratio = (0.0, 0.0)
SUBTASKS = ("similar", "scenario", "reliability", "multi")
LEVELS = ("recognition", "understanding", "creation")
LONGEST_RESULT = 100_000
"""Characters of a tool result that a pattern is looked for in."""
Count = Callable[[Trajectory, Problem | None], Ratio]


def awareness_accuracy(trajectory: Trajectory, problem: Problem | None = None) -> Ratio:
    """Awareness of tools, accuracy (#23, derived): attempts that call where a call is needed and don't where none is.

    Attempts without tools on offer don't count.
    """
    needed, called = _needed(trajectory, problem), _called(trajectory)
    return (float(needed == called), 1.0) if trajectory.tools else NOTHING


def awareness_precision(trajectory: Trajectory, problem: Problem | None = None) -> Ratio:
    """Awareness of tools, precision (#23, derived): among attempts that call those that need to."""
    called = bool(trajectory.tools) and _called(trajectory)
    return (float(_needed(trajectory, problem)), 1.0) if called else NOTHING


def awareness_recall(trajectory: Trajectory, problem: Problem | None = None) -> Ratio:
    """Awareness of tools, recall (#23, derived): among attempts that need a call those that make one."""
    needed = bool(trajectory.tools) and _needed(trajectory, problem)
    return (float(_called(trajectory)), 1.0) if needed else NOTHING


def awareness_f1(trajectory: Trajectory, problem: Problem | None = None) -> Ratio:
    """Awareness of tools, F1 (#23, derived): 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall."""
    if not trajectory.tools:
        return NOTHING
    needed, called = _needed(trajectory, problem), _called(trajectory)
    return 2.0 * (needed and called), float(needed + called)  # 2 TP + FP + FN = (TP + FN) + (TP + FP)


def selection(trajectory: Trajectory, problem: Problem | None, subtask: str) -> Ratio:
    """Selection of tools, CSR of a subtask (#23, derived): share of attempts that call exactly the gold tools."""
    gold = problem.data.get("selection") if problem else None
    if not gold or gold.get("subtask") != subtask:
        return NOTHING
    return float({call.name for call in trajectory.calls} == set(gold["tools"])), 1.0


def tool_set_accuracy(trajectory: Trajectory, problem: Problem | None, level: str) -> Ratio:
    """Set accuracy of a level (#57, verified): share of answers that name exactly the gold tools, in any order."""
    gold = _gold_set(problem, level)
    return NOTHING if gold is None else (float(_numbers(trajectory) == gold), 1.0)


def tool_set_f1(trajectory: Trajectory, problem: Problem | None, level: str) -> Ratio:
    """Set F1 of a level, the mean over answers: 2 |named and gold| / (|named| + |gold|). Accuracy is what counts in
    PhysToolBench (#57, verified); F1 is ours.
    """
    gold, named = _gold_set(problem, level), _numbers(trajectory)
    if gold is None:
        return NOTHING
    return (2 * len(gold & named) / (len(gold) + len(named)) if gold or named else 1.0), 1.0


def first_seen(trajectory: Trajectory, evidence: Sequence[str | Mapping[str, Any]]) -> list[int | None]:
    """For each piece of evidence the turn whose tool results show it first; None: never."""
    if not evidence:
        return []
    shown = [[result.output[:LONGEST_RESULT] for result in turn.results] for turn in trajectory.turns]
    words = [[answer_form(output) for output in outputs] for outputs in shown]

    def shows(piece: str | Mapping[str, Any], turn: int) -> bool:
        if isinstance(piece, str):
            return any(answer_form(piece) in output for output in words[turn])
        return any(re.search(piece["regex"], output) for output in shown[turn])

    return [next((turn for turn in range(len(shown)) if shows(piece, turn)), None) for piece in evidence]


def evidence_reach(trajectory: Trajectory, problem: Problem | None) -> Ratio:
    """Reach of evidence (#129, derived): share of the gold evidence that tool results have shown."""
    seen = _seen(trajectory, problem)
    return (sum(turn is not None for turn in seen) / len(seen), 1.0) if seen else NOTHING


def evidence_complete(trajectory: Trajectory, problem: Problem | None) -> Ratio:
    """Complete evidence (#129, derived): share of attempts that have seen all of it, P(reach = 1)."""
    seen = _seen(trajectory, problem)
    return (float(None not in seen), 1.0) if seen else NOTHING


def evidence_order(trajectory: Trajectory, problem: Problem | None) -> Ratio:
    """Order of evidence (#129, derived): share of the pairs of `evidence_order` that were both seen, the first in an earlier
    turn than the second.
    """
    seen = _seen(trajectory, problem)
    pairs = problem.data.get("evidence_order", ()) if seen and problem else ()
    kept = sum(_before(seen[i], seen[j]) for i, j in pairs)
    return (kept / len(pairs), 1.0) if pairs else NOTHING


def evidence_redundancy(trajectory: Trajectory, problem: Problem | None) -> Ratio:
    """Redundancy of calls (#129, derived): calls for each piece of evidence seen; all calls where none was."""
    seen = _seen(trajectory, problem)
    return (len(trajectory.calls) / max(1, sum(turn is not None for turn in seen)), 1.0) if seen else NOTHING


def integration(trajectory: Trajectory, problem: Problem | None) -> Ratio:
    """Integration of evidence (#129, derived): P(correct | reach = 1).

    Accuracy = P(reach = 1) integration + P(reach < 1) luck.
    """
    seen = _seen(trajectory, problem)
    return (float(bool(trajectory.correct)), 1.0) if seen and None not in seen else NOTHING


def luck(trajectory: Trajectory, problem: Problem | None) -> Ratio:
    """Luck without evidence (#129, derived): P(correct | reach < 1)."""
    return (float(bool(trajectory.correct)), 1.0) if None in _seen(trajectory, problem) else NOTHING


AWARENESS: Mapping[str, Count] = {
    "awareness_accuracy": awareness_accuracy,
    "awareness_precision": awareness_precision,
    "awareness_recall": awareness_recall,
    "awareness_f1": awareness_f1,
}
EVIDENCE: Mapping[str, Count] = {
    "evidence_reach": evidence_reach,
    "evidence_complete": evidence_complete,
    "evidence_order": evidence_order,
    "evidence_redundancy": evidence_redundancy,
    "integration": integration,
    "luck": luck,
}

TOOL_MEASURES: Mapping[str, Callable[..., Ratio]] = {
    **AWARENESS,
    "selection": selection,
    "tool_set_accuracy": tool_set_accuracy,
    "tool_set_f1": tool_set_f1,
    **EVIDENCE,
}


def counts(problems: Mapping[str, Problem]) -> dict[str, Callable[[Trajectory], Ratio]]:
    """The measures that some of the problems have gold for, by name."""
    subtasks, levels = _kinds(problems, "selection", "subtask"), _kinds(problems, "tool_set", "level")
    made: dict[str, Count] = dict(AWARENESS)
    made |= {f"csr_{name}": partial(_of, selection, name) for name in SUBTASKS if name in subtasks}
    for level in (name for name in LEVELS if name in levels):
        made[f"tool_set_accuracy_{level}"] = partial(_of, tool_set_accuracy, level)
        made[f"tool_set_f1_{level}"] = partial(_of, tool_set_f1, level)
    if any(problem.data.get("gold_evidence") for problem in problems.values()):
        made |= EVIDENCE
    return {name: partial(_at, count, problems) for name, count in made.items()}


def _kinds(problems: Mapping[str, Problem], key: str, kind: str) -> set[str]:
    return {problem.data[key].get(kind) for problem in problems.values() if problem.data.get(key)}


def _of(count: Callable[..., Ratio], kind: str, trajectory: Trajectory, problem: Problem | None) -> Ratio:
    return count(trajectory, problem, kind)


def _at(count: Count, problems: Mapping[str, Problem], trajectory: Trajectory) -> Ratio:
    return count(trajectory, problems.get(trajectory.problem_id))


def _gold_set(problem: Problem | None, level: str) -> set[int] | None:
    gold = problem.data.get("tool_set") if problem else None
    return set(gold["tools"]) if gold and gold.get("level") == level else None


def _numbers(trajectory: Trajectory) -> set[int]:
    return named((trajectory.answer or "")[:LONGEST_RESULT])


def _called(trajectory: Trajectory) -> bool:
    return any(turn.calls for turn in trajectory.turns)


def _needed(trajectory: Trajectory, problem: Problem | None) -> bool:
    return bool(problem.data.get("needs_call", trajectory.min_calls) if problem else trajectory.min_calls)


def _seen(trajectory: Trajectory, problem: Problem | None) -> list[int | None]:
    return first_seen(trajectory, problem.data.get("gold_evidence", ())) if problem else []


def _before(first: int | None, second: int | None) -> bool:
    return first is not None and second is not None and first < second
