"""Rules that look at how a row is written: its form, its calls, its length, its characters."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from journeyman.curation.base import Each, Rows
from journeyman.curation.rules.sql import CALLS, RESULTS, attempts_only, blank, is_attempt, number, reason
from journeyman.errors import ConfigError
from journeyman.expressions import Count, Share

Most = Annotated[int, Field(ge=0)]
Script = Literal[
    "Arabic", "Cyrillic", "Devanagari", "Greek", "Han", "Hangul", "Hebrew", "Hiragana", "Katakana", "Latin", "Thai"
]

# What a turn may look like, after each well-formed block became one letter between control characters, which nobody
# types: at most one thought, then calls or an answer.
_BLOCKS = (("think", "T"), ("tool_call", "C"), ("answer", "A"))
_SHAPE = "^(\x01T)?((\x01C)+|\x01A)$"
# C0 but tab, line feed and carriage return; C1, which come from a wrong encoding; private use; the replacement mark.
_UNPRINTABLE = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}\p{Co}\x{FFFD}]"


def format_errors(rows: Rows, *, tags: bool = True) -> Each:
    """Attempts that a model must not learn to write: a turn that was rejected, no answer at the end, text outside of blocks.

    Blocks are `<think>`, `<tool_call>` and `<answer>`. What is said to a user needs none, and no answer where the world
    ended the attempt (`done`). `tags=False` leaves the blocks unread: for call formats that are written otherwise.
    Samples that are no attempts pass.
    """
    attempts_only(rows, "format")
    rejected = _first("coalesce(turn.error, '') <> ''")
    misshapen = _first(f"NOT ({_spoken()} OR regexp_matches({_outline('turn.text')}, '{_SHAPE}'))")
    outside = f"WHEN {misshapen} > 0 THEN {reason('text outside of thought, call and answer', 'turn {}', misshapen)}"
    return Each(
        reason=f"""CASE WHEN NOT ({is_attempt(rows)}) THEN NULL
            WHEN coalesce(len(turns), 0) = 0 THEN 'no turn'
            WHEN {rejected} > 0 THEN {reason("a turn was rejected", "turn {}", rejected)}
            WHEN coalesce(stop_reason, '') NOT IN ('answer', 'done')
                THEN {reason("did not end with an answer", "{}", "stop_reason")}
            WHEN stop_reason = 'answer' AND {blank("answer")} THEN 'no answer'
            {outside if tags else ""} END"""
    )


def _first(condition: str) -> str:
    """The number, from 1, of the first turn that a condition holds for; NULL or 0 where there is none."""
    return f"list_position([{condition} FOR turn, i IN turns], true)"


def _spoken() -> str:
    """Whether a turn was said to a user: the user replied, or left."""
    return "(coalesce(turn.reply, '') <> '' OR (stop_reason = 'done' AND i = len(turns)))"


def _outline(text: str) -> str:
    text = f"coalesce({text}, '')"
    for tag, letter in _BLOCKS:
        text = f"regexp_replace({text}, '<{tag}>.*?</{tag}>', '\x01{letter}', 'gs')"
    return f"regexp_replace({text}, '\\s', '', 'g')"


def errors(rows: Rows, *, share: Share = 0.0) -> Each:
    """Attempts in which a tool call failed; with `share`, those in which more than that share of the calls failed.

    Samples that are no attempts pass.
    """
    attempts_only(rows, "errors")
    failed = f"[result.name FOR result IN {RESULTS} IF NOT result.ok]"
    count, of = f"len({failed})", f"len({RESULTS})"
    many = reason(f"more than {share:g} of the tool calls failed", "{} of {}", count, of)
    return Each(
        reason=f"""CASE WHEN {is_attempt(rows)} AND {count} > 0 AND {count} / {of} > {number(share)}
            THEN {many if share else reason("a tool call failed", "{}", f"{failed}[1]")} END"""
    )


def length(
    rows: Rows,
    *,
    fewest: Most = 1,
    most: Count | None = None,
    most_turns: Count | None = None,
    most_tokens: Count | None = None,
) -> Each:
    """Texts that are too short or too long: of a problem its question, of an attempt that and what the policy wrote.

    `fewest` and `most` count characters; `most_turns` and `most_tokens` are of attempts. Tokens are all that the model
    saw; an attempt that was written and not sampled has none, and passes.
    """
    if most is not None and most < fewest:
        raise ConfigError(
            f"length keeps nothing: fewest={fewest}, most={most}", place="curate.rules", remedy="take a larger `most`"
        )
    characters = f"coalesce(length({rows.text}), 0)"
    cases = [f"WHEN {characters} < {fewest} THEN {reason('too short', '{} characters', characters)}"]
    for limit, size, unit in (
        (most, characters, "characters"),
        (most_turns, "len(turns)", "turns"),
        (most_tokens, "len(token_ids)", "tokens"),
    ):
        if limit is None:
            continue
        if unit != "characters":
            attempts_only(rows, f"most_{unit} of length")
        cases.append(f"WHEN {size} > {limit} THEN {reason('too long', '{} ' + unit, size)}")
    return Each(reason=f"CASE {' '.join(cases)} END")


def calls(rows: Rows, *, fewest: Most = 0, most: Most | None = None, needless: Most | None = None) -> Each:
    """Attempts with too few tool calls or too many; `needless`: most of them beyond what the shortest correct course has.

    Samples that are no attempts pass.
    """
    attempts_only(rows, "calls")
    if most is not None and most < fewest:
        raise ConfigError(
            f"calls keeps nothing: fewest={fewest}, most={most}", place="curate.rules", remedy="take a larger `most`"
        )
    made = f"coalesce(len({CALLS}), 0)"
    beyond = f"({made} - coalesce(min_calls, 0))"
    cases = [
        f"WHEN NOT ({is_attempt(rows)}) THEN NULL",
        f"WHEN {made} < {fewest} THEN {reason('too few calls', '{}', made)}",
    ]
    if most is not None:
        cases.append(f"WHEN {made} > {most} THEN {reason('too many calls', '{}', made)}")
    if needless is not None:
        cases.append(f"WHEN {beyond} > {needless} THEN {reason('needless calls', '{}', beyond)}")
    return Each(reason=f"CASE {' '.join(cases)} END")


def repeated_calls(rows: Rows, *, most: Most = 0) -> Each:
    """Attempts that make the same call with the same arguments again, more than `most` times.

    Arguments are the same where their JSON is. What this does not know: whether the world has changed in between.
    """
    attempts_only(rows, "repeated_calls")
    same = f"list_histogram([concat(call.name, chr(31), call.arguments) FOR call IN {CALLS}])"
    again = f"(list_max(map_values({same})) - 1)"
    return Each(reason=f"CASE WHEN {again} > {most} THEN {reason('the same call again', '{} times', again)} END")


def printable(rows: Rows, *, least: Share = 0.99) -> Each:
    """Texts that were read in a wrong encoding: less than `least` (ours) of their characters can be printed.

    Control characters other than tabs and line ends, private ones and the replacement mark can't. What this does not
    see: letters that were read as other letters. An empty text passes.
    """
    good = f"length(regexp_replace({rows.text}, '{_UNPRINTABLE}', '', 'g'))"
    whole = f"length({rows.text})"
    bad = reason("characters that can't be printed", "{} of {}", f"{whole} - {good}", whole)
    return Each(reason=f"CASE WHEN {good} / {whole} < {number(least)} THEN {bad} END")


def script(rows: Rows, *, of: Annotated[Sequence[Script], Field(min_length=1)], least: Share = 0.95) -> Each:
    """Texts in another script, or in a mix: less than `least` (ours) of their letters are of the scripts named.

    Languages that share a script are not told apart. A text without letters passes.
    """
    named = "".join(rf"\p{{{name}}}" for name in of)
    letters = rf"length(regexp_replace({rows.text}, '\P{{L}}+', '', 'g'))"
    # Letters of other scripts: what is neither no letter nor of a script named. Most rows have none, and are done.
    foreign = rf"(length({rows.text}) - length(regexp_replace({rows.text}, '[^\P{{L}}{named}]+', '', 'g')))"
    other = reason(f"letters that are not {' or '.join(of)}", "{} of {}", foreign, letters)
    share = f"({letters} - {foreign}) / {letters}"
    return Each(reason=f"CASE WHEN {foreign} = 0 THEN NULL WHEN {share} < {number(least)} THEN {other} END")


def complete(rows: Rows, *, answer: bool = True) -> Each:
    """Rows without a question or without an answer; `answer=False`: answers may be missing, as in worlds that grade a state."""
    cases = [f"WHEN {blank('question')} THEN 'no question'"]
    if answer:
        cases.append(f"WHEN {blank('answer')} THEN 'no answer'")
    return Each(reason=f"CASE {' '.join(cases)} END")
