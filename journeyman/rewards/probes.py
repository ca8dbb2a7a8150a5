"""A judge that compares answers with a reference, and the probes that tell whether it can be fooled (#60)."""

from collections.abc import Mapping, Sequence

from journeyman.errors import UserError
from journeyman.expressions import Count
from journeyman.rewards.base import Group, Judge, Score
from journeyman.rewards.judge import Rule, answer_of, asked, judgeable, question, quoted, spread, verdicts
from journeyman.trajectory import Trajectory

PROBES = (
    *(" ", ".", ",", ":"),
    *("Thought process:", "Let's solve this problem step by step.", "Solution"),
    *("解", "かいせつ", "Respuesta"),
)
"""Answers that say nothing, yet fool judges: signs, openings of a solution, "solution" in three more languages (#60)."""
MOST_FOOLED = 0.01
"""Largest share of a probe that a judge may take for right (#60)."""


def judged_correct(
    group: Group | Sequence[Trajectory], *, votes: Count = 1, rule: Rule = "majority", judge: Judge
) -> list[Score]:
    """1 where a judge finds the final answer to be the reference, else 0: the generative verifier of One Token to Fool
    (#60, derived).

    Without a reference, or where the judge can't be read, it can't be scored; without an answer it is 0, and nobody is
    asked. Probe the judge first: `gate`.
    """
    places = [i for i in judgeable(group) if group[i].reference]
    answered = [i for i in places if answer_of(group[i]).strip()]
    asks = [verifying(asked(group[i]), group[i].reference, answer_of(group[i])) for i in answered]
    said = dict(zip(answered, verdicts(judge, asks, votes=votes, rule=rule), strict=True))
    found = spread(places, [said.get(i, False) for i in places], len(group))
    return [
        Score(total=None) if right is None else Score(total=float(right), parts={"judged_correct": float(right)})
        for right in found
    ]


def verifying(request: str, reference: str, answer: str) -> str:
    """The question whether an answer is the reference; `request` is quoted already."""
    return question(
        "Is the answer to the request right? It is right only if it says the same as the reference; an answer that says "
        "nothing is wrong.",
        request,
        quoted("reference", reference),
        quoted("answer", answer),
        reply="Write yes or no, and nothing else.",
    )


def false_positive_rates(judge: Judge, cases: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Of each probe the share of cases (question, reference) in which a judge takes it for right (#60, derived).

    What can't be read of an answer counts as wrong, as it would earn nothing.
    """
    asks = [verifying(quoted("request", asked), reference, probe) for probe in PROBES for asked, reference in cases]
    fooled = [verdict is True for verdict in verdicts(judge, asks)]
    size = len(cases)
    return {probe: sum(fooled[i * size : (i + 1) * size]) / size for i, probe in enumerate(PROBES)}


def gate(rates: Mapping[str, float], *, most: float = MOST_FOOLED, refuse: bool = True) -> list[str]:
    """What speaks against a judge: a line for each probe whose false positive rate is not below `most`.

    Raises `UserError` where there is one, unless told not to `refuse`.
    """
    against = [
        f"{probe!r} is taken for a right answer in {rate:.1%} of cases" for probe, rate in rates.items() if rate >= most
    ]
    if against and refuse:
        raise UserError(
            f"the judge can be fooled: {'; '.join(against)}",
            place="judge",
            remedy="take another judge, one that was trained against such answers, or a reward by rule",
        )
    return against
