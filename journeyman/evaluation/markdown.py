"""The report as Markdown, and how an attempt is shown as text.

Text from a model is untrusted: it stays inside of its code block.
"""

from journeyman.evaluation.ladder import Report
from journeyman.evaluation.tables import MEASURES, family_table, further_tables, measure_table, table
from journeyman.pages.table import Table, as_markdown, count_rows
from journeyman.pages.text import clipped, code, fenced
from journeyman.trajectory import Trajectory


def markdown(report: Report) -> str:
    """The report as Markdown; text from a model stands in code fences that it can't close."""
    parts = [f"# {code(report.pipeline)}: every policy on the held-out problems", f"Seed {report.seed}."]
    parts += [as_markdown(table(report.stages)), *report.notes, "## By family", "Greedy / sampled, in percent."]
    parts.append(as_markdown(family_table(report.stages)))
    if (measured := measure_table(report.stages)).rows:
        parts += ["## Measures", MEASURES, as_markdown(measured)]
    for title, note, further in further_tables(report.stages):
        parts += [f"## {title}", note, as_markdown(further)]
    if report.counts:
        counts = Table(columns=("what", "count"), rows=tuple(count_rows(report.counts)))
        parts += ["## Counts", as_markdown(counts)]
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
