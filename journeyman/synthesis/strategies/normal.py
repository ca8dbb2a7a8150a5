"""Attempts in one normal form, without what errs or repeats, each replayed before it is taken."""

from collections.abc import Sequence
from itertools import zip_longest

from journeyman.expressions import Count
from journeyman.rollout.formats.base import TurnError, opened, split_thought
from journeyman.rollout.formats.hermes import Hermes
from journeyman.rollout.parse import parse_turn
from journeyman.synthesis.base import Lesson, Studio, refusal, signed
from journeyman.synthesis.strategies.replays import fault_of, replayed, reworked
from journeyman.trajectory import UNLEARNED, Trajectory, Turn


async def normalized(lesson: Lesson, studio: Studio, *, most_calls: Count = 5) -> Sequence[Lesson]:
    """Quality normalisation: calls that were made before are taken out, attempts with more calls than `most_calls` are
    refused, tags are written in one way. Tool-Star (#19, derived): its three steps; the number is ours.

    Replaces the attempts. A call was made before where name, arguments and output are the same; a turn left without a
    call goes with its thought. Each turn is written anew: thought, words, then calls or the answer. What changed is
    replayed: it has to be well formed, and right where it was. What can't be normalised is refused.
    """

    async def change(old: Trajectory) -> list[Trajectory]:
        try:
            texts = _normal_texts(old)
        except ValueError as error:  # of the parser and of what can't be written
            return [refusal(signed(old, "normalized"), f"no normal form: {error}")]
        calls = sum(len(parse_turn(text).calls) for text in texts)
        if calls > most_calls:
            return [refusal(signed(old, "normalized"), f"more than {most_calls} calls ({calls})")]
        if texts == [turn.text for turn in old.turns]:
            return [signed(old, "normalized")]
        made = await replayed(lesson.problem, texts, old, strategy="normalized", repeats=len(old.calls) - calls)
        reason = fault_of(made, old)
        return [refusal(made, reason) if reason else made]

    return [await reworked(lesson, change)]


def _normal_texts(attempt: Trajectory) -> list[str]:
    """The turns in normal form, without repeated calls. Raises `ValueError`."""
    seen: list[tuple[object, ...]] = []
    texts = []
    for turn in attempt.turns:
        parsed = parse_turn(turn.text)
        if parsed.error:
            raise TurnError(parsed.error)
        fresh = []
        for call, result in zip_longest(parsed.calls, turn.results[: len(parsed.calls)]):
            made = (call, result.output if result else None)
            if result is None or made not in seen:
                fresh.append(call)
            seen.append(made)
        if fresh or not parsed.calls or turn.reply:
            thought = split_thought(turn.text)[0].strip()
            said = Hermes().render("", fresh, parsed.answer)
            texts.append(opened(thought) + "\n".join(part for part in (parsed.text, said) if part))
    return texts


async def without_error_spans(
    lesson: Lesson,
    studio: Studio,
    *,
    errors: list[str] = [],  # noqa: B006
    remove: bool = False,
) -> Sequence[Lesson]:
    """Turns whose call failed are not learned from. TL-Training (#7, verified): mitigating the adverse effects of
    erroneous calls in demonstrations.

    Replaces the attempts. A turn errs where a result is not ok, or has one of the texts `errors` in it (case doesn't
    count; the authors' list is not ours). It stays in the context, and `provenance["unlearned_turns"]` names it for sft;
    with `remove` (ours) it is cut out and the rest is replayed, which has to be right where it was. An attempt of which
    nothing is left is refused.
    """
    patterns = [text.casefold() for text in errors]

    async def change(old: Trajectory) -> list[Trajectory]:
        erring = [at for at, turn in enumerate(old.turns) if _errs(turn, patterns)]
        if not erring:
            return [signed(old, "without_error_spans")]
        if len(erring) == len(old.turns):
            return [refusal(signed(old, "without_error_spans"), "every turn errs")]
        if not remove:
            before = old.provenance.get(UNLEARNED, [])
            return [signed(old, "without_error_spans", **{UNLEARNED: sorted({*before, *erring})})]
        texts = [turn.text for at, turn in enumerate(old.turns) if at not in erring]
        made = await replayed(lesson.problem, texts, old, strategy="without_error_spans", removed_turns=erring)
        reason = fault_of(made, old) or ("it errs again" if any(_errs(turn, patterns) for turn in made.turns) else "")
        return [refusal(made, reason) if reason else made]

    return [await reworked(lesson, change)]


def _errs(turn: Turn, patterns: Sequence[str]) -> bool:
    return any(not one.ok or any(text in one.output.casefold() for text in patterns) for one in turn.results)
