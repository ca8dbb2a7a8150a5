"""docs/catalog.md: the parts that a pipeline is made of, with their papers, options and tests."""

from collections.abc import Iterator, Sequence

from journeyman.catalog.entries import Entry

KINDS = (
    *("strategy", "curation rule", "merge", "curriculum", "proposal", "replay", "monitor", "rollout"),
    *("reward", "reward combinator", "credit", "credit combinator", "objective"),
    *("measure", "inference", "benchmark", "judge measure"),
)
PLURALS = {
    "strategy": "Strategies of synthesis",
    "curriculum": "Curricula",
    "replay": "Replay",
    "inference": "Inference",
}
HEAD = """# The parts of a pipeline

Made by `journeyman catalog --markdown`; a test holds it against the code. `#N` is a number in the ledger of papers.

**Source** says how surely a part does what its paper says: *verified* (read in the authors' own code), *secondary* (in other
people's accounts or re-implementations), *derived* (from the abstract and what is generally known). A constant of ours is
called so where it stands. **Needs** are supplied by the pipeline, or it refuses to start: `journeyman.rewards.base.NEEDS`,
`journeyman.credit.base.NEEDS`.
"""


def page(entries: Sequence[Entry]) -> str:
    """The page as Markdown."""
    return "\n".join([HEAD, *(line for kind in KINDS for line in _section(kind, entries))])


def _section(kind: str, entries: Sequence[Entry]) -> Iterator[str]:
    parts = [entry for entry in entries if entry.kind == kind]
    title = PLURALS.get(kind, f"{kind.capitalize()}s")
    yield f"## {title} ({len(parts)})\n"
    for part in parts:
        yield from _lines(part)


def _lines(part: Entry) -> Iterator[str]:
    yield f"### `{part.name}`\n"
    yield f"{_escaped(part.doc)}\n"
    if part.bias:
        yield f"- bias: {_escaped(part.bias)}"
    if part.source:
        yield "- source: " + ", ".join(f"{paper} {status}" for paper, status in part.source.items())
    if part.options:
        yield "- options: " + ", ".join(f"`{option}`" for option in part.options)
    if part.needs:
        yield "- needs: " + ", ".join(f"`{need}`" for need in part.needs)
    yield f"- code: `{part.module}`" + (f", test: `{part.test}`" if part.test else "")
    yield ""


def _escaped(text: str) -> str:
    """Underscores and stars of formulas are no emphasis."""
    return text.replace("*", r"\*").replace("<", r"\<").replace("|", r"\|")
