"""Rewards for changes of files that are like the true change."""

import json
from collections.abc import Mapping, Sequence
from difflib import unified_diff

from journeyman.rewards.base import UNSCORED, Group, Score, Scores
from journeyman.rewards.outcome import is_well_formed, told
from journeyman.rewards.similarity import text_ratio
from journeyman.trajectory import Trajectory

LARGEST = 1_000_000
"""Characters that a file may have after a change (ours)."""
_SEARCH, _MIDDLE, _REPLACE = "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE"


class ChangeError(ValueError):
    """An answer that is no change of files."""


def swe_rl(group: Group) -> Scores:
    """SWE-RL (#203, verified): how alike the answer's change of files and the true one are, -1 for what is no change.

    The mean over the files that either changes of difflib's ratio of the two unified diffs (three lines of context), 0
    for a file that only one of them changes. data["files"] has the files before, data["reference_files"] those of the
    true change after it, path to text. The answer has blocks of `### PATH`, `<<<<<<< SEARCH`, `=======`, `>>>>>>>
    REPLACE`, or is a JSON object of paths and whole texts (ours). -1: a turn's form was rejected, there is no answer or
    no block, a text to be replaced is not in its file or is replaced by itself. An empty one makes a new file (ours).
    Long diffs are compared line by line (ours).
    """
    before, after = group.data.get("files"), group.data.get("reference_files")
    if before is None or after is None:
        return [UNSCORED for _ in group]
    scores: list[Score] = []
    for t in group:
        value = _change_reward(t, before, after)
        scores.append(Score(total=value, parts={"swe_rl": value}) if told(t) else UNSCORED)
    return scores


def _change_reward(t: Trajectory, before: Mapping[str, str], after: Mapping[str, str]) -> float:
    if t.answer is None or not is_well_formed(t):
        return -1.0
    try:
        return change_similarity(before, changed_files(t.answer, before), after)
    except ChangeError:
        return -1.0


def change_similarity(before: Mapping[str, str], made: Mapping[str, str], wanted: Mapping[str, str]) -> float:
    """The mean likeness of two changes over the files of either; 0 where neither changes any."""
    one, other = _diffs(before, made), _diffs(before, wanted)
    files = one.keys() | other.keys()
    return sum(text_ratio(one[f], other[f]) for f in one.keys() & other.keys()) / len(files) if files else 0.0


def _diffs(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """The diff of each file that changes, without its two header lines."""
    made = {
        path: unified_diff(before.get(path, "").splitlines(), text.splitlines(), lineterm="")
        for path, text in after.items()
    }
    diffs = {path: "\n".join(list(lines)[2:]) for path, lines in made.items()}
    return {path: diff for path, diff in diffs.items() if diff}


def changed_files(answer: str, before: Mapping[str, str]) -> dict[str, str]:
    """The files that an answer changes, as they are after it. Raises `ChangeError`."""
    if answer.lstrip().startswith("{"):
        return _whole_files(answer)
    blocks = _blocks(answer)
    if not blocks:
        raise ChangeError("no block")
    files: dict[str, str] = {}
    for path, search, replacement in blocks:
        # Text is looked for from the start of a line, so that its indentation counts.
        text = "\n" + files.get(path, before.get(path, ""))
        if search == replacement:
            raise ChangeError("a text is replaced by itself")
        if (not search and text != "\n") or f"\n{search}" not in text:
            raise ChangeError("the text to be replaced is not there")
        if len(text) + text.count(f"\n{search}") * len(replacement) > LARGEST:
            raise ChangeError("the file gets too large")
        files[path] = text.replace(f"\n{search}", f"\n{replacement}")[1:]
    return files


def _whole_files(answer: str) -> dict[str, str]:
    try:
        files = json.loads(answer)
    except (ValueError, RecursionError):
        raise ChangeError("no JSON") from None
    if not isinstance(files, dict) or not all(isinstance(text, str) for text in files.values()):
        raise ChangeError("not paths and texts")
    return files


def _blocks(answer: str) -> list[tuple[str, str, str]]:
    """(path, text to be replaced, what stands there then) of each complete block."""
    lines, found, at = answer.splitlines(), [], 0
    starts = [i for i, line in enumerate(lines) if line == _SEARCH and i and lines[i - 1].startswith("### ")]
    for start in starts:
        if start < at:
            continue
        middle = _next(lines, _MIDDLE, start)
        at = _next(lines, _REPLACE, middle)
        if at == len(lines):
            break
        texts = "\n".join(lines[start + 1 : middle]), "\n".join(lines[middle + 1 : at])
        found.append((lines[start - 1].removeprefix("### ").strip(), *texts))
    return found


def _next(lines: Sequence[str], mark: str, after: int) -> int:
    """Where a mark stands next; the number of lines where it doesn't."""
    return next((i for i in range(after + 1, len(lines)) if lines[i] == mark), len(lines))
