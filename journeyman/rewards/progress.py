"""Rewards for coming closer to the goal, turn by turn."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any, Literal

from journeyman.environments.solve_score import shows
from journeyman.expressions import Count, NotNegative, Positive, Share
from journeyman.messages import Fault, ToolResult
from journeyman.rewards.base import UNSCORED, Group, Judge, Score, TurnScores
from journeyman.trajectory import Trajectory, Turn

LEAST_PROBABILITY = 0.01
DIGEST = 4000
"""Characters of a state that a judge is shown, the latest ones (ours)."""
NOTHING, FINISHED = "(nothing has been done yet)", "(the task is finished: all success criteria hold)"

# --- CaRL -------------------------------------------------------------------------------------------------------------


def carl(
    group: Group,
    *,
    progress: Literal["goals", "world"] = "goals",
    malformed: Share = 0.5,
    repeated: Share = 0.8,
    unneeded_write: Share = 0.5,
    writes: tuple[str, ...] = (),
    forbidden: tuple[str, ...] = (),
    terminal_penalty: NotNegative = 0.0,
) -> TurnScores:
    """CaRL (#93, verified): a turn earns its new share of the route, times soft factors, and nothing after a hard violation.

    The route (ours, as are the factors): with `goals` the problem's data["goals"], {tool, answer} each, reached by a
    result of that tool that went well and holds the answer, one goal a result (None where the problem has no goals);
    with `world` what the world paid so far, within [0, 1]. Progress never counts twice. A turn with a malformed call,
    with a call that was made before, or with a call of `writes` (names, `*` for any letters) to a tool that no goal
    asks for is multiplied by its factor. A call of `forbidden` ends it: that turn and all later ones earn 0, and
    `terminal_penalty` is taken off. The authors pay 100 times as much. Fabricated tool output is not covered.
    """
    goals = [goal for goal in _list(group.data.get("goals")) if isinstance(goal, Mapping) and "tool" in goal]
    if progress == "goals" and not goals:
        return [UNSCORED for _ in group]
    unneeded = [name for name in writes if name not in {goal["tool"] for goal in goals}]
    factors = {"malformed": malformed, "repeated": repeated, "unneeded_write": unneeded_write}
    return [
        _drive(t, goals if progress == "goals" else None, factors, unneeded, forbidden, terminal_penalty) for t in group
    ]


def _drive(
    trajectory: Trajectory,
    goals: Sequence[Mapping[str, Any]] | None,
    factors: Mapping[str, float],
    unneeded: Sequence[str],
    forbidden: Sequence[str],
    penalty: float,
) -> Score:
    if not trajectory.stop_reason.scorable:
        return UNSCORED
    route = _world_route(trajectory) if goals is None else _goal_route(trajectory, goals)
    faults = _faults(trajectory, unneeded)
    earned, violated, before = list[float](), False, 0.0
    for turn, reached, kinds in zip(trajectory.turns, route, faults, strict=True):
        new_violation = not violated and _called(turn, forbidden)
        violated = violated or new_violation
        gain = max(0.0, reached - before) * math.prod(factors[kind] for kind in kinds)
        earned.append(-penalty if new_violation else 0.0 if violated else gain)
        before = max(before, reached)
    parts = {"carl": sum(earned), "route": before, "hard_violation": float(violated)}
    return Score(total=sum(earned), parts=parts, turns=tuple(earned), turn_parts={"carl": tuple(earned)})


def _world_route(trajectory: Trajectory) -> list[float]:
    paid = [sum(turn.reward for turn in trajectory.turns[: i + 1]) for i in range(len(trajectory.turns))]
    return [min(max(total, 0.0), 1.0) for total in paid]


def _goal_route(trajectory: Trajectory, goals: Sequence[Mapping[str, Any]]) -> Iterator[float]:
    left = list(goals)
    for turn in trajectory.turns:
        for result in turn.results:
            reached = next((goal for goal in left if _reaches(result, goal)), None)
            if reached is not None:
                left.remove(reached)
        yield 1 - len(left) / len(goals)


def _reaches(result: ToolResult, goal: Mapping[str, Any]) -> bool:
    its_own = result.ok and result.name == goal["tool"]
    return its_own and ("answer" not in goal or shows(result.output, str(goal["answer"])))


def _faults(trajectory: Trajectory, unneeded: Sequence[str]) -> Iterator[list[str]]:
    """The kinds of soft faults in each turn, each kind once."""
    made: set[str] = set()
    for turn in trajectory.turns:
        calls = [f"{call.name} {json.dumps(call.arguments, sort_keys=True, default=str)}" for call in turn.calls]
        again = len(made | set(calls)) < len(made) + len(calls)
        made |= set(calls)
        broken = bool(turn.error) or any(result.fault is Fault.POLICY for result in turn.results)
        kinds = {"malformed": broken, "repeated": again, "unneeded_write": _called(turn, unneeded)}
        yield [kind for kind, there in kinds.items() if there]


def _called(turn: Turn, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(call.name, pattern) for call in turn.calls for pattern in patterns)


# --- Robo-Dopamine ----------------------------------------------------------------------------------------------------


def progress(
    group: Group,
    *,
    views: Literal["incremental", "mean", "consistent"] = "mean",
    alpha: NotNegative = 1.0,
    pays: Literal["level", "gain"] = "level",
    judge: Judge,
) -> TurnScores:
    """Robo-Dopamine's general reward model (#131, verified; fusion secondary): how far a judge sees the task after each turn.

    The judge says by how many percent of what was left a state is nearer to the goal, h in [-1, 1]; then
    Phi <- Phi + (1 - Phi) h for h >= 0, Phi + Phi h below, so that Phi stays in [0, 1]. `mean` is the mean of three
    views: from the turn before, from the start, h, and back from the finished task, 1 + h. `consistent` moves Phi by
    (w/2) (mean of the two anchored views - Phi + the incremental step), w = exp(-alpha D^2), D their distance over
    their mean; alpha = 1 is ours. States are texts here, and the judge's words are ours.

    `level` pays Phi itself with each turn: a potential for `shaped(progress, gamma=...)`, which pays for lingering if
    it is added up as it is. `gain` pays its increase. A trajectory is None where an answer can't be read. Three
    questions a turn, one with `incremental`.
    """
    asked = [list(_hop_questions(t, group, views != "incremental")) for t in group]
    answers = iter(judge.ask([question for questions in asked for question in questions]))
    hops = [[_hop(next(answers)) for _ in questions] for questions in asked]
    return [_progress(t, own, views, alpha, pays) for t, own in zip(group, hops, strict=True)]


def hopped(phi: float, h: float) -> float:
    """Progress after a hop: h of what is left, or of what there is."""
    return phi + (1 - phi) * h if h >= 0 else phi + phi * h


def fused(phi: float, hops: Sequence[float], views: str, alpha: float) -> float:
    """Progress after a turn, from progress before it and the hops of the views: from before, from the start, from the end."""
    step = hopped(phi, hops[0])
    if views == "incremental":
        return step
    forward, backward = max(0.0, hops[1]), 1 + min(0.0, hops[2])
    if views == "mean":
        return (step + forward + backward) / 3
    anchored = (forward + backward) / 2
    distance = abs(backward - forward) / (anchored + 1e-6)
    moved = phi + math.exp(-alpha * distance**2) / 2 * (anchored - phi + step - phi)
    return min(max(moved, 0.0), 1.0)


def _progress(trajectory: Trajectory, hops: Sequence[float | None], views: str, alpha: float, pays: str) -> Score:
    known = [hop for hop in hops if hop is not None]
    if len(known) < len(hops) or not trajectory.stop_reason.scorable:
        return UNSCORED
    each = 1 if views == "incremental" else 3
    path = [0.0]
    for i in range(0, len(known), each):
        path.append(fused(path[-1], known[i : i + each], views, alpha))
    turns = path[1:] if pays == "level" else [after - before for before, after in pairwise(path)]
    parts = {"progress": path[-1]}
    return Score(total=sum(turns), parts=parts, turns=tuple(turns), turn_parts={"progress": tuple(path[1:])})


def _hop_questions(trajectory: Trajectory, group: Group, anchored: bool) -> Iterator[str]:
    states = [NOTHING, *(_digest(trajectory.turns[: i + 1]) for i in range(len(trajectory.turns)))]
    criteria = "\n".join(item for item in checklist(group.data)) or "The task is done as it was asked for."
    for before, after in pairwise(states):
        yield _hop_question(trajectory.question, criteria, before, after)
        if anchored:
            yield _hop_question(trajectory.question, criteria, NOTHING, after)
            yield _hop_question(trajectory.question, criteria, FINISHED, after)


def _hop_question(task: str, criteria: str, before: str, after: str) -> str:
    return (
        f"Task:\n{task}\n\nSuccess criteria:\n{criteria}\n\nState A:\n{before}\n\nState B:\n{after}\n\n"
        "Compare how far the task has come in B with how far it had come in A. If B is further: how many percent of "
        "what was left to do in A are done in B (0 to 100)? If B is further back: how many percent of what had been "
        "done in A are lost in B, as a negative number (-100 to 0)? Answer with one whole number."
    )


def _digest(turns: Sequence[Turn]) -> str:
    return "\n".join(text for turn in turns for text in [turn.text, *turn.outputs()])[-DIGEST:]


def _hop(answers: Sequence[str]) -> float | None:
    """The last whole number of an answer as a share; None where there is none in [-100, 100]."""
    numbers = re.findall(r"(?<![\w.])-?\d{1,3}(?![\w]|\.\d)", answers[0] if answers else "")
    value = int(numbers[-1]) if numbers else 101
    return value / 100 if -100 <= value <= 100 else None


# --- relative gain ----------------------------------------------------------------------------------------------------


def relative_gain(
    group: Group, *, samples: Count = 1, prior: Share = 0.5, boundary: Positive = 2.0, judge: Judge
) -> TurnScores:
    """Relative cross-entropy gain of iterative refinement (#145, derived): sum over i of w_i (ce_i before - ce_i after) / sum w.

    Items are those of the problem's data["checklist"] (None where there is none), turns with words are the drafts, and
    ce_i = -log of the probability p_i, at least 0.01, that item i holds of the draft (ours from here on): of `samples`
    yes-or-no answers of the judge, p = (yes + 1) / (n + 2), and `prior` before the first draft. The boundary, items
    that some of the group's last drafts have and others lack, weighs `boundary` (2), all else 1, so the sum over a
    trajectory telescopes. A trajectory is None where no answer about an item can be read.
    """
    items = checklist(group.data)
    if not items:
        return [UNSCORED for _ in group]
    asked = [_item_questions(t, items) for t in group]
    questions = [question for own in asked for question in own]
    answers = iter(judge.ask(questions, samples=samples, temperature=0.0 if samples == 1 else 1.0))
    shares = [[_yes_share(next(answers)) for _ in own] for own in asked]
    paths = [_path(t, own, prior, len(items)) for t, own in zip(group, shares, strict=True)]
    weights = _boundary_weights([path[-1] for path in paths if path is not None], boundary, len(items))
    return [_gained(path, weights) for path in paths]


def gains(path: Sequence[Sequence[float]], weights: Sequence[float]) -> list[float]:
    """What each draft gained over the one before; `path` holds the items' probabilities, draft by draft."""
    losses = [[-math.log(min(max(p, LEAST_PROBABILITY), 1.0)) for p in row] for row in path]
    means = [sum(w * loss for w, loss in zip(weights, row, strict=True)) / sum(weights) for row in losses]
    return [before - after for before, after in pairwise(means)]


def _item_questions(trajectory: Trajectory, items: Sequence[str]) -> list[str]:
    return [
        f"Task:\n{trajectory.question}\n\nDraft:\n{turn.text}\n\nDoes this hold of the draft: {item}\nAnswer yes or no."
        for turn in trajectory.turns
        if turn.text.strip()
        for item in items
    ]


def _yes_share(answers: Sequence[str]) -> float | None:
    found = [word.lower() for answer in answers for word in re.findall(r"\b(?:yes|no)\b", answer, re.I)[-1:]]
    return (found.count("yes") + 1) / (len(found) + 2) if found else None


def _path(trajectory: Trajectory, shares: Sequence[float | None], prior: float, n: int) -> list[list[float]] | None:
    """The items' probabilities before the first turn and after each; a turn without words leaves them as they are."""
    known = [share for share in shares if share is not None]
    if len(known) < len(shares) or not trajectory.stop_reason.scorable:
        return None
    path, drafts = [[prior] * n], iter(range(0, len(known), n))
    for turn in trajectory.turns:
        path.append(known[(at := next(drafts)) : at + n] if turn.text.strip() else path[-1])
    return path


def _boundary_weights(last: Sequence[Sequence[float]], boundary: float, n: int) -> list[float]:
    passed = [sum(row[i] > 0.5 for row in last) for i in range(n)]
    return [boundary if 0 < count < len(last) else 1.0 for count in passed]


def _gained(path: Sequence[Sequence[float]] | None, weights: Sequence[float]) -> Score:
    if path is None:
        return UNSCORED
    turns = gains(path, weights)
    held = sum(p > 0.5 for p in path[-1]) / len(weights)
    parts = {"relative_gain": sum(turns), "items_held": held}
    return Score(total=sum(turns), parts=parts, turns=tuple(turns), turn_parts={"relative_gain": tuple(turns)})


def checklist(data: Mapping[str, Any]) -> list[str]:
    """The criteria of a problem's data["checklist"]: texts, or mappings with a `question`."""
    found = [item.get("question") if isinstance(item, Mapping) else item for item in _list(data.get("checklist"))]
    return [item for item in found if isinstance(item, str) and item.strip()]


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
