"""Curricula that go by each problem's own pass rate: worked out by hand."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.config import RlConfig
from journeyman.config.curriculum import (
    BalanceCurriculum,
    BandsCurriculum,
    ControlledCurriculum,
    EdgeCurriculum,
)
from journeyman.curriculum.pareto import dominates, percentiles
from journeyman.curriculum.rated import Balance, Bands, Controlled, Edge, Rated
from journeyman.errors import DataError
from tests.unit.fakes import problem, trajectory

POOL = [problem(name, id=name) for name in "abcdefgh"]
ONLY_WANTED: dict[str, Any] = {"unseen": 0.0, "retry": 0.0}


def attempts(**right: tuple[int, int]):
    """(right, wrong) attempts at a problem, the right ones first."""
    return [
        trajectory(problem_id=id, correct=verdict)
        for id, (hits, misses) in right.items()
        for verdict in [True] * hits + [False] * misses
    ]


def chosen(curriculum: Rated, count: int, step: int = 0) -> list[str]:
    return [p.id for p in curriculum.choose(count, step=step)]


def test_bands_by_hand() -> None:
    bands = Bands(POOL, 0, BandsCurriculum(window=10, **ONLY_WANTED))
    bands.update(attempts(a=(4, 6), b=(9, 1), c=(0, 10), d=(1, 9), e=(8, 2)))
    # Rates .4, .9, 0, .1, .8: a, d and e lie in .1 to .8, the ends included. Then the unseen f, g, h; then b and c.
    order = chosen(bands, 8)
    assert [set(order[:3]), set(order[3:6]), set(order[6:])] == [set("ade"), set("fgh"), set("bc")]
    assert chosen(bands, 10)[8:] == order[:2], "a batch larger than the pool goes round"
    bands.update(attempts(a=(10, 0), c=(5, 5)))  # a's last ten: all right; c's: 5 of 10
    assert set(chosen(bands, 3)) == set("cde")


def test_open_ends_and_a_prior_of_bands() -> None:
    # DAPO's condition: only those that are neither never nor always solved.
    dapo = Bands(POOL, 0, BandsCurriculum(low=0, high=1, open=True, **ONLY_WANTED))
    dapo.update(attempts(a=(0, 8), b=(1, 7), c=(7, 1), d=(8, 0)))
    assert set(chosen(dapo, 2)) == {"b", "c"}
    # With one right attempt beforehand 0 of 8 is 1/9 = .111, and 0 of 16 is 1/17 = .059.
    kind = Bands(POOL, 0, BandsCurriculum(prior=1, **ONLY_WANTED))
    kind.update(attempts(a=(0, 8), b=(0, 16)))
    assert chosen(kind, 1) == ["a"]
    assert "b" in chosen(kind, 8)[-1:]


def test_edge_by_hand() -> None:
    edge = Edge(POOL, 0, EdgeCurriculum(**ONLY_WANTED))
    edge.update(attempts(a=(1, 15), b=(0, 16), c=(10, 6), d=(4, 12), e=(5, 11)))
    # 1 of 16 and 4 of 16 = .25 are at the edge; 0 of 16 is beyond, 10 of 16 and 5 of 16 = .31 are too easy.
    order = chosen(edge, 8)
    assert [set(order[:2]), set(order[2:5]), set(order[5:])] == [set("ad"), set("fgh"), set("bce")]
    edge.update(attempts(a=(0, 16)))  # its one hit has left the window
    assert chosen(edge, 1) == ["d"]


def test_balance_by_hand() -> None:
    balance = Balance(POOL, 0, BalanceCurriculum(**ONLY_WANTED))
    balance.update(attempts(a=(8, 8), b=(12, 4), c=(4, 12), d=(4, 0), e=(16, 0), f=(0, 8), g=(3, 1)))
    # n* = 8. a: min(8/8, 1) * 8/16 = .5; b: min(12/8, 1) * 12/16 = .75; c: 4/8 * 4/16 = .125; g: 3/8 * 3/4 = .28.
    # d and e never failed; f: 0.
    assert [balance.worth(8, 16), balance.worth(12, 16), balance.worth(4, 16)] == [0.5, 0.75, 0.125]
    assert chosen(balance, 4) == ["b", "a", "g", "c"]
    # Where those that never fail count too, d: min(4/8, 1) * 4/4 = .5 and e: 1.
    imitated = Balance(POOL, 0, BalanceCurriculum(solved=True, **ONLY_WANTED))
    assert [imitated.worth(4, 4), imitated.worth(16, 16)] == [0.5, 1.0]


def test_shares_of_the_unseen_and_of_the_unwanted() -> None:
    bands = Bands(POOL, 0, BandsCurriculum(unseen=0.25, retry=0.5))
    bands.update(attempts(a=(4, 4), b=(4, 4), c=(8, 0), d=(0, 8), e=(8, 0)))
    for step in range(20):  # of four: .5 * 4 = 2 of c, d, e; .25 * 4 = 1 of f, g, h; the rest of a, b
        sorts = Counter(
            "wanted" if id in "ab" else "unwanted" if id in "cde" else "unseen" for id in chosen(bands, 4, step)
        )
        assert sorts == {"unwanted": 2, "unseen": 1, "wanted": 1}
    # Of one problem a share of a half is one problem in every second step.
    assert sum(chosen(bands, 1, step)[0] in "cde" for step in range(2000)) / 2000 == pytest.approx(0.5, abs=0.05)


def test_unseen_first_goes_through_the_pool_once() -> None:
    bands = Bands(POOL, 0, BandsCurriculum(unseen=1.0, retry=0.0))
    seen = []
    for step in range(4):
        seen += chosen(bands, 2, step)
        bands.update(attempts(**dict.fromkeys(seen[-2:], (1, 1))))
    assert sorted(seen) == list("abcdefgh")


def test_what_has_no_verdict_or_is_of_other_problems_is_left_out() -> None:
    bands = Bands(POOL, 0, BandsCurriculum())
    bands.update([trajectory(problem_id="a", correct=None), trajectory(problem_id="else", correct=True)])
    assert bands.state_dict() == {"verdicts": {}}
    with pytest.raises(KeyError, match="else"):
        bands.load_state_dict({"verdicts": {"else": "1"}})


@given(st.integers(0, 9), st.integers(1, 20), st.dictionaries(st.sampled_from("abcdefgh"), st.text("01", min_size=1)))
def test_nothing_comes_twice_before_all_came(seed: int, count: int, verdicts: dict[str, str]) -> None:
    curriculum = Edge(POOL, seed, EdgeCurriculum())
    curriculum.load_state_dict({"verdicts": verdicts})
    drawn = Counter(chosen(curriculum, count))
    assert drawn.total() == count
    assert max(drawn.values()) - min(drawn[p.id] for p in POOL) <= 1


def test_the_order_of_ties_follows_from_seed_and_step() -> None:
    first, other = (Bands(POOL, seed, BandsCurriculum()) for seed in (0, 1))
    assert chosen(first, 8, 0) == chosen(first, 8, 0) != chosen(first, 8, 1)
    assert chosen(first, 8, 0) != chosen(other, 8, 0)


def test_a_band_has_a_width() -> None:
    with pytest.raises(ValueError, match="above `low`"):
        BandsCurriculum(low=0.5, high=0.5)
    assert RlConfig.model_validate(
        {"name": "a", "curriculum": {"type": "edge", "most": 0.1}}
    ).curriculum == EdgeCurriculum(most=0.1)


def test_controlled_by_hand() -> None:
    before = {"a": 0.1, "b": 0.1, "c": 0.0, "d": 0.4, "e": 0.3}
    pool = [problem(name, id=name, data={"before": rate}) for name, rate in before.items()]
    controlled = Controlled(pool, 0, ControlledCurriculum(control="data.before", **ONLY_WANTED))
    controlled.update(attempts(a=(4, 6), b=(9, 1), c=(0, 10), d=(4, 6), e=(4, 6)))
    # a: 4/10 against 1/10. b is mastered (9/10), c hopeless, d no better than the control; e just: .3 <= .4 - .1.
    assert controlled.worths() == {"a": 1, "b": 0, "c": 0, "d": 0, "e": 1}
    assert set(chosen(controlled, 2)) == {"a", "e"}
    with pytest.raises(DataError, match="no `passed`"):
        Controlled(pool, 0, ControlledCurriculum(control="data.passed"))


def test_controls_of_the_first_policy() -> None:
    controlled = Controlled(POOL, 0, ControlledCurriculum(window=4))
    start = [trajectory(problem_id="a", correct=i == 0, policy_version=0) for i in range(4)]
    later = [trajectory(problem_id=id, correct=i < 2, policy_version=3) for id in "ab" for i in range(4)]
    assert controlled.control("a") == 0, "nothing known"
    controlled.update([*start, *later])
    # a: 1/4 at first, now 2/4. b was not attempted then, but its family was: 1/4, too.
    assert (controlled.control("a"), controlled.control("b")) == (0.25, 0.25)
    assert controlled.worths() == {"a": 1, "b": 1}
    state = json.loads(json.dumps(controlled.state_dict()))
    again = Controlled(POOL, 0, ControlledCurriculum(window=4))
    again.load_state_dict(state)
    assert again.control("b") == 0.25 and again.state_dict() == state


def test_with_too_few_accepted_the_cap_falls() -> None:
    controlled = Controlled(POOL, 0, ControlledCurriculum(least=0.5, **ONLY_WANTED))
    controlled.update([trajectory(problem_id=id, correct=True, policy_version=1) for id in "abc"])
    assert controlled.worths() == {"a": 1, "b": 1, "c": 1}, "all of them mastered, none accepted"
    controlled.update([trajectory(problem_id=id, correct=False, policy_version=1) for id in "ab"])
    assert controlled.worths() == {"a": 1, "b": 1, "c": 0}, "two of three"


def test_balance_tries_temperatures_by_hand() -> None:
    balance = Balance(POOL, 0, BalanceCurriculum(target=2, temperatures=[0.5, 1.0], hold=3))
    assert [balance.temperature(step) for step in range(6)] == [0.5, 1.0, 0.5, 0.5, 0.5, 0.5], "none has a score"

    def tried(temperature: float, **counts: tuple[int, int]):
        return [replace(t, temperature=temperature) for t in attempts(**counts)]

    balance.update(tried(0.5, a=(1, 3), b=(0, 4)))  # min(1/2, 1) * 1/4 = .125 and 0: .0625
    balance.update(tried(1.0, a=(2, 2), b=(1, 3)))  # 1 * 1/2 and .125: .3125
    assert balance.state_dict()["scores"] == [0.0625, 0.3125]
    assert [balance.temperature(step) for step in range(2, 7)] == [1.0, 1.0, 1.0, 0.5, 1.0]
    assert Balance(POOL, 0, BalanceCurriculum()).temperature(0) is None
    with pytest.raises(KeyError, match="2 temperatures"):
        Balance(POOL, 0, BalanceCurriculum()).load_state_dict(balance.state_dict())


def test_problems_that_are_added_are_unseen() -> None:
    bands = Bands(POOL[:1], 0, BandsCurriculum(unseen=1.0, retry=0.0))
    bands.update(attempts(a=(1, 1)))
    bands.add(POOL[1:2])
    assert chosen(bands, 1) == ["b"]
    bands.update(attempts(b=(1, 0)))
    assert bands.state_dict() == {"verdicts": {"a": "10", "b": "1"}}


def test_dominance_by_hand() -> None:
    a, b, c = (0.2, 0.5, 0.9), (0.2, 0.6, 0.9), (0.1, 0.9, 0.9)
    assert dominates(b, a) and not dominates(a, b)
    assert not dominates(a, c) and not dominates(c, a), "incomparable"
    assert not dominates(a, a)
    # Places of 10, 20 and 50 per cent among 0 .. 4: .4, .8, 2.
    assert percentiles([1.0, 0.0, 0.25, 0.5, 0.75]) == pytest.approx((0.1, 0.2, 0.5))
    assert percentiles([0.3]) == (0.3, 0.3, 0.3)
    with pytest.raises(ValueError, match="no scores"):
        percentiles([])
