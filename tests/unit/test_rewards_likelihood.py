"""Rewards from the policy's own log-probabilities: which rows are asked, and what is made of them by hand."""

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.messages import Message
from journeyman.rewards.likelihood import context, follow_up, information_gain, likelihood, self_aligned
from journeyman.trajectory import StopReason, Trajectory, Turn
from tests.unit.fakes import World, trajectory
from tests.unit.supplies import FlatPolicy

BROKEN = trajectory(stop_reason=StopReason.INFRASTRUCTURE, correct=None)
END = 0
"""The end-of-turn token."""


class BytePolicy(FlatPolicy):
    """Ids are bytes; a rule gives the log-probabilities of a continuation after a prompt."""

    def __init__(self, rule: Callable[[str, str], Sequence[float]]) -> None:
        super().__init__()
        self._rule = rule
        self.asked: list[tuple[str, str]] = []

    def logprobs(self, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        texts = [(bytes(prompt).decode(), bytes(said).decode()) for prompt, said in rows]
        self.asked += texts
        return [list(self._rule(*text)) for text in texts]


def sampled(*pieces: tuple[str, str], cut_before: int | None = None, ended: bool = True, **fields) -> Trajectory:
    """Turns of (what the model was shown before it, what it wrote), as bytes; `cut_before` a turn its context is new."""
    ids, mask, turns, cuts = [], [], [], []
    for number, (shown, written) in enumerate(pieces):
        if number == cut_before:
            cuts.append(len(ids))
        ids += list(shown.encode())
        mask += [0] * len(shown)
        start = len(ids)
        ids += [*written.encode(), *([END] if ended or number + 1 < len(pieces) else [])]
        mask += [1] * (len(ids) - start)
        turns.append(Turn(text=written, start=start, stop=len(ids)))
    return trajectory(
        turns=tuple(turns), token_ids=tuple(ids), loss_mask=tuple(mask), logprobs=(), cuts=tuple(cuts), **fields
    )


ONE = sampled(("Q:", "so <answer>41</answer>"))
TWO = sampled(("Q:", "call"), ("R:", "well <answer>42</answer>"))


def totals(scores) -> list[float | None]:
    return [score.total for score in scores]


def test_a_context_begins_at_the_last_cut() -> None:
    folded = sampled(("Q:", "call"), ("again:", "more"), ("R:", "<answer>42</answer>"), cut_before=1)
    seen = [bytes(context(folded, turn.start)).decode() for turn in folded.turns]
    assert seen == ["Q:", "again:", "again:more\x00R:"]


def test_likelihood_by_hand() -> None:
    logs = [-0.5, -1.5]
    policy = BytePolicy(lambda prompt, said: logs)

    def of(variant) -> float | None:
        return likelihood([TWO], variant=variant, policy=policy)[0].total

    assert of("log") == pytest.approx(-2.0)
    assert of("mean_log") == pytest.approx(-1.0)
    assert of("prob") == pytest.approx(math.exp(-2))
    assert of("mean_prob") == pytest.approx((math.exp(-0.5) + math.exp(-1.5)) / 2)
    # what was sampled up to the answer, token for token, then the mark and the reference
    assert set(policy.asked) == {("Q:call\x00R:well <answer>", "42")}
    assert totals(likelihood([BROKEN, trajectory(), sampled(("Q:", "a"), reference="")], policy=policy)) == [None] * 3
    assert likelihood([], policy=policy) == []


def test_likelihood_of_a_turn_without_an_answer_or_cut_off() -> None:
    policy = BytePolicy(lambda prompt, said: [-1.0] * len(said))
    likelihood(
        [
            sampled(("Q:", "so it ends"), answer=None),  # as if it had to answer at once
            sampled(("Q:", "so <answer>4"), ended=False, stop_reason=StopReason.MAX_TOKENS),
            sampled(("Q:", "a <answer>1</answer> b <answer>2</answer>")),  # the last mark
        ],
        policy=policy,
    )
    assert [prompt for prompt, _ in policy.asked] == [
        "Q:<answer>",
        "Q:so <answer>",
        "Q:a <answer>1</answer> b <answer>",
    ]


def test_likelihood_counts_from_behind_where_the_ids_were_sampled_in_other_pieces() -> None:
    odd = trajectory(
        turns=(Turn(text="so <answer>41</answer>", start=2, stop=26),),
        token_ids=(*b"Q:", *b"so_<answer=41</answer>", 7, END),
        loss_mask=(0, 0, *[1] * 24),
    )
    policy = BytePolicy(lambda prompt, said: [-1.0])
    likelihood([odd], policy=policy)
    # 19 tokens of "<answer>41</answer>" and the end are left away
    assert policy.asked == [("Q:so_<<answer>", "42")]


def test_likelihood_jepo_by_hand() -> None:
    # p = 1/2 and 1/4: log mean p = ln(3/8); without the first ln(1/4), without the second ln(1/2)
    values = {"so ": math.log(1 / 2), "well ": math.log(1 / 4)}
    policy = BytePolicy(lambda prompt, said: [next(v for thought, v in values.items() if thought in prompt)])
    found = totals(likelihood([ONE, TWO, BROKEN], variant="jepo", policy=policy))
    assert found == pytest.approx([math.log(3 / 2), math.log(3 / 4), None])
    assert totals(likelihood([TWO], variant="jepo", policy=policy)) == pytest.approx([math.log(1 / 4)])


@given(st.lists(st.floats(-30, -0.01), min_size=2, max_size=6), st.floats(-500, 0))
def test_jepo_is_blind_to_a_common_shift_and_rises_with_the_likelihood(values: list[float], shift: float) -> None:
    made = [sampled((f"Q{i}:", "<answer>42</answer>")) for i in range(len(values))]

    def of(added: float) -> list[float | None]:
        policy = BytePolicy(lambda prompt, said: [values[int(prompt[1])] + added])
        return totals(likelihood(made, variant="jepo", policy=policy))

    found = of(0.0)
    assert of(shift) == pytest.approx(found, abs=1e-6)
    assert [v for _, v in sorted(zip(values, found, strict=True))] == pytest.approx(sorted(map(float, found)), abs=1e-6)


def test_self_aligned_by_hand() -> None:
    # with the question mean -1, without -2: ppl e and e^2: (e^2 - e) / e^2 = 1 - 1/e
    policy = BytePolicy(lambda prompt, said: [-1.0 if prompt else -2.0] * len(said))
    assert totals(self_aligned([ONE, BROKEN, trajectory()], policy=policy)) == pytest.approx(
        [1 - math.exp(-1), None, None]
    )
    # the empty question is an empty text here; the end of the turn is part of the answer
    assert policy.asked == [("Q:", "so <answer>41</answer>\x00"), ("", "so <answer>41</answer>\x00")]
    # no difference; a question that makes the answer less likely, clipped at -1: 1 - e^3
    assert totals(self_aligned([ONE], policy=FlatPolicy())) == [0.0]
    worse = BytePolicy(lambda prompt, said: [-4.0 if prompt else -1.0] * len(said))
    assert totals(self_aligned([ONE], policy=worse)) == [-1.0]


def test_self_aligned_counts_only_what_the_policy_sampled_up_to_the_first_cut() -> None:
    # tool output "R:" has -9 with and -5 without the question: not counted
    def rule(prompt: str, said: str) -> list[float]:
        return [(-9.0 if prompt else -5.0) if c in "R:" else (-1.0 if prompt else -2.0) for c in said]

    assert totals(self_aligned([TWO], policy=BytePolicy(rule))) == pytest.approx([1 - math.exp(-1)])
    policy = BytePolicy(rule)
    self_aligned([sampled(("Q:", "call"), ("again:", "<answer>42</answer>"), cut_before=1)], policy=policy)
    assert policy.asked[0] == ("Q:", "call\x00")


def test_information_gain_by_hand() -> None:
    three = sampled(("Q:", "a"), ("R:", "b"), ("S:", "<answer>42 or 7</answer>"), answer="42 or 7", correct=False)
    # p of the reference before each turn: 0.1, 0.5, 0.4; F1 of the answer 2 * 1 / (3 + 1)
    beliefs = {0: 0.1, 1: 0.5, 2: 0.4}
    policy = BytePolicy(lambda prompt, said: [math.log(beliefs[prompt.count(chr(END))])] * len(said))
    [score] = information_gain([three], suffix="!", policy=policy)
    assert score.turns == pytest.approx((0.4, -0.1, 0.5)) and score.total == pytest.approx(0.8)
    assert score.parts == pytest.approx({"information_gain": 0.3, "outcome": 0.5})
    assert policy.asked == [("Q:!", "42"), ("Q:a\x00R:!", "42"), ("Q:a\x00R:b\x00S:!", "42")]
    [half] = information_gain([three], suffix="!", weight=0.5, policy=policy)
    assert half.turns == pytest.approx((0.2, -0.05, 0.5))
    # one turn has nothing to gain; no answer, and a rejected turn, cost 2
    bad = sampled(("Q:", "a"), answer=None, correct=False)
    rejected = sampled(("Q:", "a"), stop_reason=StopReason.FORMAT_ERROR)
    found = information_gain([ONE, bad, rejected, BROKEN, trajectory()], policy=FlatPolicy())
    assert totals(found) == [1.0, -2.0, -2.0, None, None] and found[0].turns == (1.0,)


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=6))
def test_information_gain_telescopes(beliefs: list[float]) -> None:
    one = sampled(*((f"{i}:", "x") for i in range(len(beliefs))))
    policy = BytePolicy(lambda prompt, said: [math.log(beliefs[prompt.count(chr(END))])] * len(said))
    [score] = information_gain([one], policy=policy)
    assert score.parts["information_gain"] == pytest.approx(beliefs[-1] - beliefs[0])
    assert len(score.turns) == len(beliefs) and score.total == pytest.approx(sum(score.turns))


LEVELS = {"good": -1.0, "fine": -1.4, "bad": -2.0, "poor": -1.6}
SETS = {"content": ("good", "fine"), "discontent": ("bad", "poor")}


def test_follow_up_by_hand() -> None:
    # (-1.0 - 1.4) / 2 - (-2.0 - 1.6) / 2
    policy = BytePolicy(lambda prompt, said: [LEVELS[said]] * len(said))
    assert totals(follow_up([ONE, BROKEN], policy=policy, **SETS)) == pytest.approx([0.6, None])
    swapped = {"content": SETS["discontent"], "discontent": SETS["content"]}
    assert totals(follow_up([ONE], policy=policy, **swapped)) == pytest.approx([-0.6])
    shifted = BytePolicy(lambda prompt, said: [LEVELS[said] - 3] * len(said))
    assert totals(follow_up([ONE], policy=shifted, **SETS)) == pytest.approx([0.6])
    # the conversation as the user sees it, and the follow-up as its next message
    assert policy.asked[0] == ("What is 6 times 7?\nso <answer>41</answer>\n", "good")


def test_follow_up_pays_at_every_hand_over() -> None:
    talk = trajectory(
        turns=(
            Turn(text="<think>hm</think>Which one?", reply="The first."),
            Turn(text="a call"),
            Turn(text="It is 42."),
        )
    )

    def rule(prompt: str, said: str) -> list[float]:
        return [LEVELS[said] * (2 if "42" in prompt else 1)]

    policy = BytePolicy(rule)
    [score] = follow_up([talk], policy=policy, **SETS)
    # 0.6 and 1.2, half of each
    assert score.turns == pytest.approx((0.3, 0.0, 0.6)) and score.total == pytest.approx(0.9)
    asked = "What is 6 times 7?\nWhich one?\n"
    assert policy.asked[0] == (asked, "good") and policy.asked[4] == (f"{asked}The first.\nIt is 42.\n", "good")


def test_follow_up_calibrated_by_the_empty_response() -> None:
    # the empty response earns 0.6 of its own, the real one twice as much
    policy = BytePolicy(lambda prompt, said: [LEVELS[said] * (2 if "41" in prompt else 1)])
    assert totals(follow_up([ONE], calibrated=True, policy=policy, **SETS)) == pytest.approx([0.6])
    assert totals(follow_up([ONE], policy=policy, **SETS)) == pytest.approx([1.2])
    assert totals(follow_up([trajectory(turns=())], policy=policy, **SETS)) == [None]
    opened = trajectory(opening=(Message(role="system", content="Be kind."), Message(role="user", content="Hello.")))
    policy.asked.clear()
    follow_up([opened], policy=policy, **SETS)
    assert policy.asked[0][0].startswith("Hello.\n")


def test_the_thought_is_found_in_a_real_tokenizers_ids(world: World) -> None:
    class Chatting(FlatPolicy):
        def encode(self, text: str) -> list[int]:
            return world.chat.outside(text)

    policy = Chatting()
    asked: list[list[int]] = []
    policy.logprobs = lambda rows: [asked.append(list(prompt)) or [-1.0] for prompt, _ in rows]
    for shown in world.demonstrations[:10]:
        prompt, text = world.chat.prompt(shown.question, ()), shown.turns[-1].text
        ids = [*prompt, *world.chat.turn(text)]
        turn = Turn(text=text, start=len(prompt), stop=len(ids))
        [score] = likelihood([trajectory(turns=(turn,), token_ids=tuple(ids))], policy=policy)
        assert score.total == -1.0
        said = world.chat.tokenizer.decode(asked[-1][len(prompt) :])
        assert said == text[: text.rindex("<answer>")] + "<answer>"
