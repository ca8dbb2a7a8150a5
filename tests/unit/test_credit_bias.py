"""What every credit does to the policy in expectation, against the true policy gradient: exactly, in float64."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from journeyman.credit import COMBINATORS, CREDITS, VOCABULARY, build_credit
from journeyman.credit.base import Floats, ScoredBatch
from journeyman.credit.critics import gae
from journeyman.credit.group import batch_mean
from journeyman.expressions import names, needs
from tests.unit.mdp import ACTIONS, ANSWERED, LOGITS, STATES, Make, Mdp, alignment, expected_update, first_tokens

MDP = Mdp()
OTHER = Mdp(logits={state: (-0.5 * a, b + 1.0, 0.3 - c) for state, (a, b, c) in LOGITS.items()})
G = 3
WHOLE_STEP = {"batch_mean", "best_and_worst", "batch_normalized", "slim", "prime", "whiten"}
"""What compares groups with each other."""
NONE, SCALE = (1.0, 1.0), (1.0, (G - 1) / G)
BIAS: dict[str, tuple[float, float]] = {
    # one advantage a trajectory
    "reinforce": NONE,
    "rloo": NONE,
    "group": (0.9583, 2.3976),
    "group_mean": SCALE,
    "batch_mean": SCALE,
    "batch_normalized": (0.9732, 2.0639),
    "batch_normalized(baseline='group')": (0.9732, 2.0639),  # one group is the batch here
    "self_critical": NONE,
    "best": (0.9365, 1.0723),
    "best_and_worst": (0.9558, 2.3585),
    # channels
    "per_channel": (0.9137, 2.5629),
    "slim": (0.9123, 2.5500),
    # critics, with exact values
    "gae": NONE,
    "gae(lambda_=0)": NONE,
    "gae(gamma=0.9)": (0.9195, 0.6488),
    "archer": NONE,
    "turn_td(gamma=1)": NONE,
    "turn_td": (0.9939, 0.8699),
    # turn by turn
    "flow_grpo": (0.9583, 2.3976),
    "flow_grpo(over='turns')": (0.9497, 2.3739),
    "turn_group": (0.9415, 2.2799),
    "turn_group(of='reward')": (-0.5626, -2.3032),  # what a turn leads to is forgotten: here it points the other way
    "returns": NONE,
    "returns(baseline='leave_one_out')": NONE,
    "returns(baseline='mean')": (0.9657, 0.5918),  # n of (n - 1) / n differs from turn to turn
    "returns(gamma=0.9)": (0.9889, 0.8296),
    "igpo": (0.4282, 0.7576),
    "igpo(form='released')": SCALE,
    "matchtir": (0.9528, 2.3069),
    "toolpo": (0.9955, 0.7233),
    "capo": (-0.2765, -0.6922),
    "tp_grpo": (0.9579, 2.4644),
    "recurring": SCALE,  # here a trajectory is one attempt
    # trees, graphs, strata
    "tempo": (0.9485, 4.6162),
    "portool": (0.9492, 4.8265),
    "deepsearch": (1.0, 2 * (G - 1) / G),  # nothing is searched here, as in the next
    "rest_mcts": SCALE,
    "salt": (0.9583, 2.3976),  # `group` exactly: merged steps agree in every token
    "stratified": (0.6033, 0.9685),
    "stratified(alpha=1)": (0.3742, 0.6112),
    "stratified(alpha=0)": (0.9583, 2.3976),
    # stretches of text: here the turns that call
    "fine_grained": NONE,
    "fine_grained(baseline='leave_one_out')": NONE,
    "fine_grained_gae": NONE,
    "toolpo_spans": (0.9951, 0.7274),
    "rank_grpo(kind='call')": (-0.5410, -0.9804),  # answers are no item, so that they are learned from not at all
    # process rewards: the turns' own for PURE, else a model that knows each turn's advantage
    "pure": (0.9875, 1.0406),
    "pure(baseline='none')": (0.9908, 0.9765),
    "oprl": (0.9929, 6.1701),
    "prime": (0.9755, 3.6063),
    "prime(whiten=False)": (0.9979, 2.0947),
    # combinators
    "0.5 * rloo + 2 * gae": (1.0, 2.5),
    "whiten(group_mean)": (0.9732, 2.0639),
    "effective_rank(group_mean)": (0.9827, 0.9622),
    "pf_ppo(group_mean)": (0.9997, 0.6077),
    "pf_ppo(group_mean, keep='best')": (0.9311, 0.4628),
    "pf_ppo(group_mean, keep='best_random')": (0.9886, 0.5679),
}
"""Expression -> (cosine of its expected update with the policy gradient, its length along it in the gradient's own).

Groups of 3. (1, 1) is unbiased, (1, c) unbiased but for the scale c, all else biased.
"""


def expressed(text: str) -> Make:
    """The credit of an expression, supplied with what it needs."""
    return lambda supplies: build_credit(text, **{need: supplies[need]() for need in needs(text, VOCABULARY)})


def measured(text: str, mdp: Mdp = MDP, size: int = G) -> tuple[float, float]:
    whole_step = any(word in text for word in WHOLE_STEP)
    return alignment(expected_update(expressed(text), mdp, size, whole_step=whole_step), mdp.gradient())


@pytest.mark.parametrize("text", BIAS)
def test_the_expected_update_against_the_policy_gradient(text: str) -> None:
    cosine, length = BIAS[text]
    exact = cosine == 1.0
    assert measured(text) == pytest.approx((cosine, length), abs=1e-10 if exact else 6e-5)


@pytest.mark.parametrize("text", [text for text, figures in BIAS.items() if figures == NONE])
@pytest.mark.parametrize(("mdp", "size"), [(MDP, 2), (OTHER, 2)], ids=["two", "another policy"])
def test_what_is_unbiased_is_so_for_any_group_and_policy(text: str, mdp: Mdp, size: int) -> None:
    assert measured(text, mdp, size) == pytest.approx((1, 1), abs=1e-10)


def test_every_credit_and_combinator_has_its_figures() -> None:
    told = {name for text in BIAS for name in names(text, VOCABULARY)}
    assert told == {*CREDITS, *COMBINATORS}


def test_every_docstring_speaks_of_its_bias() -> None:
    assert [name for name, part in {**CREDITS, **COMBINATORS}.items() if "Bias: " not in (part.__doc__ or "")] == []


def test_merging_equal_steps_leaves_the_expected_update_as_it_was() -> None:
    updates = [expected_update(expressed(text), MDP, G) for text in ("salt", "group", "flow_grpo")]
    assert updates[0] == pytest.approx(updates[1], abs=1e-12)
    assert updates[2] == pytest.approx(updates[1], abs=1e-12)


def test_of_two_grpo_learns_who_was_better_and_not_by_how_much() -> None:
    cosine, _ = measured("group", size=2)
    assert cosine == pytest.approx(0.9517, abs=6e-5)
    assert measured("group_mean", size=2) == pytest.approx((1, 0.5), abs=1e-10)
    assert measured("rloo", size=2) == pytest.approx((1, 1), abs=1e-10)


def with_critic(error: float, lambda_: float, gamma: float = 1.0) -> Make:
    """GAE with a critic that is wrong by so much at the state `x`."""

    def make(supplies):
        def credit(batch: ScoredBatch) -> Floats:
            steps = [step for t in batch.trajectories for step in MDP.by_id[t.id].steps]
            wrong_U = np.array([error * (state == "x") for state, _ in steps])
            values_T = supplies["values_T"]() + first_tokens(batch) * batch.from_turns(wrong_U)
            return gae(batch, values_T=values_T, lambda_=lambda_, gamma=gamma)

        return credit

    return make


def test_a_wrong_critic_does_no_harm_at_lambda_1_only() -> None:
    def cosine(error: float, lambda_: float) -> float:
        return alignment(expected_update(with_critic(error, lambda_), MDP, 1), MDP.gradient())[0]

    assert cosine(2.0, 1.0) == pytest.approx(1, abs=1e-10)
    assert cosine(0.0, 0.3) == pytest.approx(1, abs=1e-10)
    assert cosine(2.0, 0.3) == pytest.approx(0.9582, abs=6e-5)


def test_one_baseline_for_two_problems_is_unbiased_but_for_the_scale() -> None:
    # one trajectory of each of two problems; the second one's rewards are 5 higher
    easy = Mdp(answered={state: {a: r + 5 for a, r in row.items()} for state, row in ANSWERED.items()})
    total = np.zeros(len(STATES) * len(ACTIONS))
    for ours, theirs in product(MDP.paths, easy.paths):
        batch = ScoredBatch.of([[ours.trajectory], [replace(theirs.trajectory, problem_id="easy")]])
        advantage = batch.split(batch_mean(batch))[0][ours.trajectory.turns[0].start]
        total += ours.chance * theirs.chance * advantage * sum(MDP.score(*step) for step in ours.steps)
    assert alignment(total, MDP.gradient()) == pytest.approx((1, 1 / 2), abs=1e-10)


def test_the_gradient_is_that_of_the_expected_reward() -> None:
    def expected(logits: Floats) -> float:
        table = {state: tuple(row) for state, row in zip(STATES, logits.reshape(len(STATES), -1), strict=True)}
        return Mdp(logits=table).v("")

    center = np.array([LOGITS[state] for state in STATES]).ravel()
    nudges = 1e-6 * np.eye(len(center))
    slopes = [(expected(center + nudge) - expected(center - nudge)) / 2e-6 for nudge in nudges]
    assert MDP.gradient() == pytest.approx(np.array(slopes), abs=1e-9)
    assert sum(path.chance for path in MDP.paths) == pytest.approx(1)
    earned = sum(path.chance * (path.trajectory.reward or 0.0) for path in MDP.paths)
    # an answer that is never given after a second call at the last turn earns nothing more
    assert earned == pytest.approx(MDP.v(""))
    assert len(MDP.paths) == 12
