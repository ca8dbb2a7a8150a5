"""The report as Markdown, and how an attempt is shown as text.

Text from a model is untrusted: it stays inside of its code block.
"""

import re

from journeyman.evaluation.ladder import Report
from journeyman.evaluation.tables import Table, count_rows, family_table, table
from journeyman.trajectory import Trajectory

MOST_CHARACTERS = 1500
"""Of one text in a transcript."""


def markdown(report: Report) -> str:
    """The report as Markdown; text from a model stands in code fences that it can't close."""
    parts = [f"# {code(report.pipeline)}: every policy on the held-out problems", f"Seed {report.seed}."]
    parts += [_markdown_table(table(report.stages)), *report.notes, "## By family", "Greedy / sampled, in percent."]
    parts.append(_markdown_table(family_table(report.stages)))
    if report.counts:
        counts = Table(columns=("what", "count"), rows=tuple(count_rows(report.counts)))
        parts += ["## Counts", _markdown_table(counts)]
    if report.examples:
        parts.append("## Examples")
    for example in report.examples:
        parts += [
            f"### {code(example.family)}",
            fenced(f"{clipped(example.question)}\nreference: {clipped(example.reference)}"),
        ]
        for name, trajectory in example.attempts:
            parts += [f"{code(name)}, {verdict(trajectory)}:", fenced(transcript(trajectory))]
    return "\n\n".join(parts) + "\n"


def _markdown_table(shown: Table) -> str:
    lines = [shown.columns, ("---", *("---:" for _ in shown.columns[1:])), *shown.rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    for mark in "\\`|<>*_":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def code(text: str) -> str:
    """Inline code that holds any text."""
    return "`" + " ".join(text.replace("`", "'").split()) + "`"


def fenced(text: str) -> str:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def verdict(trajectory: Trajectory) -> str:
    """One word or two on how an attempt went."""
    if trajectory.correct is None:
        return "not scored"
    if trajectory.correct:
        needless = trajectory.needless_calls
        return "right" if not needless else f"right, {needless} needless call{'s' if needless > 1 else ''}"
    return "wrong" if trajectory.answer is not None else f"no answer ({trajectory.stop_reason})"


def transcript(trajectory: Trajectory) -> str:
    """What the policy wrote and what the tools returned, turn by turn, long texts cut."""
    lines = []
    for turn in trajectory.turns:
        lines.append(clipped(turn.text))
        lines += [f"-> {clipped(result.output)}" for result in turn.results]
        if turn.error:
            lines.append(f"-> rejected: {clipped(turn.error)}")
    return "\n".join(lines)


def clipped(text: str) -> str:
    """Printable and not too long: control characters and lone surrogates become a replacement mark."""
    shown = "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text[:MOST_CHARACTERS])
    return shown if len(text) <= MOST_CHARACTERS else f"{shown} ... ({len(text) - MOST_CHARACTERS} more characters)"
