"""Rewards for texts that are alike: by words, by sequences, by vectors."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from journeyman.environments.multihop import accepted, exact
from journeyman.environments.multihop import f1 as token_f1
from journeyman.expressions import NotNegative, Positive
from journeyman.rewards.base import UNSCORED, Encoder, Group, Score, Scores
from journeyman.tools.similarity import bleu, words
from journeyman.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy as np

LONGEST = 10_000
"""Characters up to which texts are compared letter by letter, which takes quadratic time; longer ones line by line (ours)."""
MOST_WORDS = 512
"""Words of a text that BERTScore looks at, as many as its models have places for."""

Measure = Literal["ratio", "rouge_l", "bleu", "f1"]

# --- words and sequences ----------------------------------------------------------------------------------------------


def f1(group: Group) -> Scores:
    """F1 of the answer's words against the reference answer, as SQuAD counts it (arXiv 1606.05250, derived).

    Bags of words without case, punctuation and articles; the best of the problem's accepted names; 0 without an answer.
    """
    return _of_answers(group, "f1", lambda answer, names: max(token_f1(answer, name) for name in names))


def exact_match(group: Group) -> Scores:
    """1 where the answer is the reference answer in SQuAD's normal form (arXiv 1606.05250, derived), else 0.

    That is without case, punctuation and articles; any of the problem's accepted names will do, nothing is never right.
    """
    return _of_answers(group, "exact_match", lambda answer, names: float(exact(answer, names)))


def similarity(group: Group, *, measure: Measure = "ratio") -> Scores:
    """How alike the answer and the reference answer are, in [0, 1]: the ratio that SWE-RL takes of changes (#203, verified).

    `ratio`: difflib's 2 M / T without its junk heuristic; `rouge_l`, `bleu` and `f1`: of words, for text where order
    matters less. 0 without an answer. Alike is not right: pair it with a verdict where there is one.
    """
    return _of_answers(group, "similarity", lambda answer, names: max(alike(answer, name, measure) for name in names))


def _of_answers(group: Group, name: str, measure: Callable[[str, Sequence[str]], float]) -> Scores:
    names = accepted(group.problem) if group.problem else ()
    scores: list[Score] = []
    for t in group:
        value = 0.0 if t.answer is None else measure(t.answer, (t.reference, *names))
        scores.append(Score(total=value, parts={name: value}) if t.stop_reason.scorable else UNSCORED)
    return scores


def alike(one: str, other: str, measure: Measure = "ratio") -> float:
    """How alike two texts are, in [0, 1]; the second is the reference."""
    match measure:
        case "ratio":
            return text_ratio(one, other)
        case "rouge_l":
            return rouge_l(one, other)
        case "bleu":
            return bleu(other, one)
        case "f1":
            return token_f1(one, other)


def text_ratio(one: str, other: str) -> float:
    """difflib's ratio of two texts, of their lines where one is longer than `LONGEST`."""
    from difflib import SequenceMatcher

    if max(len(one), len(other)) > LONGEST:
        return SequenceMatcher(None, one.splitlines(), other.splitlines(), autojunk=False).ratio()
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def rouge_l(candidate: str, reference: str) -> float:
    """ROUGE-L: twice the longest common subsequence of words by the number of words of both; 1 for two empty texts."""
    from rapidfuzz.distance import LCSseq

    one, other = words(candidate), words(reference)
    return 2 * LCSseq.similarity(one, other) / (len(one) + len(other)) if one or other else 1.0


# --- paraphrases ------------------------------------------------------------------------------------------------------


def group_similarity(
    group: Group, *, measure: Literal["bleu", "f1", "rouge_l"] = "bleu", accuracy: NotNegative = 0.0
) -> Scores:
    """PS-GRPO (#214, derived): the mean likeness of an answer to all answers to other wordings of the same question.

    Other wordings are the step's groups of the same family and reference answer (ours); where there is none, nothing is
    scored. `accuracy` times the verdict is added: without it the best that can be done is to be wrong the same way.
    An attempt without an answer is like no other. All pairs are compared; the paper also draws some of them.
    """
    scores: list[Score] = []
    others = list(_paraphrased(group))
    for t in group:
        if not others or not t.stop_reason.scorable or (accuracy and t.correct is None):
            scores.append(UNSCORED)
            continue
        like = sum(_same_said(t, other, measure) for other in others) / len(others)
        right = {"accuracy": float(t.correct)} if accuracy and t.correct is not None else {}
        total = like + accuracy * sum(right.values())
        scores.append(Score(total=total, parts={"group_similarity": like, **right}))
    return scores


def _paraphrased(group: Group) -> Iterator[Trajectory]:
    for t in group[:1]:
        same = (other for others in group.groups for other in others if other.problem_id != t.problem_id)
        yield from (o for o in same if (o.family, o.reference) == (t.family, t.reference) and o.stop_reason.scorable)


def _same_said(one: Trajectory, other: Trajectory, measure: Measure) -> float:
    return 0.0 if one.answer is None or other.answer is None else alike(one.answer, other.answer, measure)


# --- vectors ----------------------------------------------------------------------------------------------------------


def contrastive(group: Group, *, temperature: Positive = 0.1, encoder: Encoder) -> Scores:
    """Contrastive text-to-SQL reward (#178, derived): how much liker an attempt's calls are to its question than to others.

    exp(cos(question, calls) / T) over its sum over the step's distinct questions, in (0, 1]; a call is its tool's name
    and arguments. 0 where there is no call or the last one failed. T is ours. The paper's reward adds it to the verdict:
    `correct + 0.3 * contrastive`, the weight ours. The authors tune their encoder for it; here it is taken as it is.
    """
    import numpy as np

    asked = list(dict.fromkeys([*(t.question for t in group), *(t.question for ts in group.groups for t in ts)]))
    ran = [t for t in group if t.calls and t.turns and _last_worked(t)]
    if not ran:
        return [_own_share(t, 0.0) for t in group]
    vectors = encoder.embed([*asked, *(_rendered(t) for t in ran)])
    cosines = vectors[len(asked) :] @ vectors[: len(asked)].T
    weights = np.exp((cosines - cosines.max(1, keepdims=True)) / temperature)
    shares = (weights / weights.sum(1, keepdims=True)).tolist()
    own = {id(t): share[asked.index(t.question)] for t, share in zip(ran, shares, strict=True)}
    return [_own_share(t, own.get(id(t), 0.0)) for t in group]


def _own_share(t: Trajectory, value: float) -> Score:
    return Score(total=value, parts={"contrastive": value}) if t.stop_reason.scorable else UNSCORED


def _last_worked(trajectory: Trajectory) -> bool:
    return [result.ok for turn in trajectory.turns for result in turn.results][-1:] == [True]


def _rendered(trajectory: Trajectory) -> str:
    calls = ((c.name, " ".join(f"{key} {value}" for key, value in c.arguments.items())) for c in trajectory.calls)
    return ", ".join(f"{name} {arguments}".strip() for name, arguments in calls)


def bertscore(group: Group, *, baseline: Annotated[float, Field(ge=0, lt=1)] = 0.0, encoder: Encoder) -> Scores:
    """SecRepair's semantic reward (#218, derived): BERTScore's F1 of the answer against the reference, in words' vectors.

    P is the mean over the answer's words of the largest cosine to a word of the reference, R the converse, F their
    harmonic mean, given as (F - b) / (1 - b) with b = `baseline`: the F1 of unrelated texts, which is high for most
    encoders. The reference is data["reference_explanation"], else the reference answer. Words are encoded one by one
    (ours), without the context that BERTScore's models see. 0 without an answer. A fluent text about a wrong repair
    scores well: `swe_rl + 0.3 * gate(swe_rl, bertscore)` pays it only beside a repair that earns something.
    """
    scores: list[Score] = []
    for t in group:
        reference = words(str(group.data.get("reference_explanation", t.reference)))[:MOST_WORDS]
        if not t.stop_reason.scorable or not reference:
            scores.append(UNSCORED)
            continue
        said = words(t.answer or "")[:MOST_WORDS]
        raw = soft_f1(encoder.embed(said) @ encoder.embed(reference).T) if said else 0.0
        value = (raw - baseline) / (1 - baseline) if said else 0.0
        scores.append(Score(total=value, parts={"bertscore": value}))
    return scores


def soft_f1(cosines: "np.ndarray") -> float:
    """BERTScore's F1 of a table of cosines: rows are the candidate's tokens, columns the reference's."""
    precision, recall = float(cosines.max(1).mean()), float(cosines.max(0).mean())
    total = precision + recall
    return 2 * precision * recall / total if total > 0 else 0.0
