"""Credit for stretches of text: worked-out advantages, plain loops, and from characters to tokens."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from journeyman.credit.base import ScoredBatch
from journeyman.credit.readings import spans as read_spans
from journeyman.credit.spans import Spans, fine_grained, fine_grained_gae, rank_grpo, toolpo_spans
from journeyman.rollout.token_text import edges_of, token_edges
from journeyman.trajectory import Span, Trajectory, Turn
from tests.unit.credit_batches import scored, to_go
from tests.unit.fakes import World, trajectory


def spans(*found: tuple[int, int, int, float], kinds: Sequence[str] = ()) -> Spans:
    """Of (row, first, last, reward), by rank in each row."""
    rows = [row for row, *_ in found]
    return Spans(
        row_S=np.array(rows, np.int64),
        first_S=np.array([first for _, first, _, _ in found], np.int64),
        last_S=np.array([last for _, _, last, _ in found], np.int64),
        reward_S=np.array([reward for *_, reward in found], np.float64),
        rank_S=np.array([rows[: i + 1].count(row) for i, row in enumerate(rows)], np.int64),
        kind_S=np.array(list(kinds) or ["item"] * len(found), np.str_),
    )


def one_turn(*rows: tuple[float, int]) -> ScoredBatch:
    """A group of trajectories of one turn: (reward, learned tokens) each, after a token off the mask."""
    return scored([(reward, [0.0]) for reward, _ in rows], tokens=[count for _, count in rows])[0]


def test_fine_grained_by_hand() -> None:
    # Three clauses (+, +, -) of .3 that end at tokens 2, 4, 6; two sentences (+, -) of .5 that end at 4 and 6; .3 for the
    # whole: .6 in all. Token 2 earns .3, token 4 .3 + .5, token 6 -.3 - .5 + .3.
    batch = one_turn((0.6, 6), (0.2, 1))
    found = spans((0, 1, 2, 0.3), (0, 3, 4, 0.3), (0, 5, 6, -0.3), (0, 1, 4, 0.5), (0, 5, 6, -0.5))
    values = fine_grained(batch, spans=found)
    assert values == pytest.approx([0, 0.6, 0.6, 0.3, 0.3, -0.5, -0.5, 0, 0.2])
    # gamma 1/2: -.5; -.25; .8 - .125; half of that
    assert fine_grained(batch, spans=found, gamma=0.5)[3:7] == pytest.approx([0.3375, 0.675, -0.25, -0.5])
    less = fine_grained(batch, spans=found, baseline="leave_one_out")
    assert less == pytest.approx([0, 0.4, 0.4, 0.1, 0.1, -0.7, -0.7, 0, -0.4])


def test_fine_grained_gae_by_hand() -> None:
    batch, found = one_turn((1.0, 3)), spans((0, 1, 2, 0.4))
    values = np.array([9.0, 0.5, 0.2, 0.1])
    # errors: 0 + .2 - .5 = -.3; .4 + .1 - .2 = .3; .6 - .1 = .5. lambda 1/2: .5; .3 + .25; -.3 + .275
    assert fine_grained_gae(batch, spans=found, values_T=values, lambda_=0.5) == pytest.approx([0, -0.025, 0.55, 0.5])
    # lambda 1: what is to come less the value
    assert fine_grained_gae(batch, spans=found, values_T=values, lambda_=1.0) == pytest.approx([0, 0.5, 0.8, 0.5])
    # gamma 1/2, lambda 1: errors .1 - .5, .4 + .05 - .2, .5
    assert fine_grained_gae(batch, spans=found, values_T=values, gamma=0.5, lambda_=1.0) == pytest.approx(
        [0, -0.15, 0.5, 0.5]
    )


def test_masked_tokens_take_no_time_and_get_nothing() -> None:
    batch, _ = scored([(1.0, [0.0, 0.0])], tokens=[2, 2])  # off, on, on, off, on, on
    found = spans((0, 4, 5, 1.0))
    # 1 at the last token: 1/2 at the one before, 1/4 and 1/8 across the tool's
    assert fine_grained(batch, spans=found, gamma=0.5) == pytest.approx([0, 0.125, 0.25, 0, 0.5, 1])


def test_toolpo_spans_by_hand() -> None:
    # A: its call (tokens 1, 2) earned 1, the rest 1; B: its call (token 5) 0, the rest 0.
    batch = one_turn((2.0, 3), (0.0, 2))
    found = spans((0, 1, 2, 1.0), (1, 5, 5, 0.0), kinds=["call", "call"])
    assert toolpo_spans(batch, spans=found) == pytest.approx([0, 1, 1, 0.5, 0, -1, -0.5])
    assert toolpo_spans(batch, spans=found, weight=0.5) == pytest.approx([0, 0.75, 0.75, 0.5, 0, -0.75, -0.5])
    # stretches of another kind are part of the rest: 2 and 0, less the mean
    assert toolpo_spans(batch, spans=found, kind="item") == pytest.approx([0, 1, 1, 1, 0, -1, -1])


def test_rank_grpo_by_hand() -> None:
    batch = one_turn((2.0, 4), (1.0, 2))
    found = spans((0, 1, 1, 1.0), (0, 2, 2, 0.0), (0, 3, 3, 1.0), (1, 6, 6, 0.0), (1, 7, 7, 1.0))
    # 1 / log2(j + 1): 1, .63093, .5. A from rank 1 on 1.5, from 2 .5, from 3 .5; B .63093, .63093, nothing at 3.
    # mean and half distance: 1.06546, .43454; .56546, .06546; .25, .25
    values = rank_grpo(batch, spans=found, epsilon=1e-12)
    assert values == pytest.approx([0, 1, -1, 1, 0, 0, -1, 1], abs=1e-6)
    # the authors' 1e-4 beside .06546: .06546 / .06556
    assert rank_grpo(batch, spans=found)[2] == pytest.approx(-0.99847, abs=1e-5)
    # own hits: 1, 0, 1 and 0, 1, nothing
    hits = rank_grpo(batch, spans=found, form="exp_inf", epsilon=1e-12)
    assert hits == pytest.approx([0, 1, -1, 1, 0, 0, -1, 1])
    three = one_turn((1.0, 1), (0.0, 1), (0.0, 1))
    # hits 1, 0 and no item at all: mean 1/3, std .4714
    alone = rank_grpo(three, spans=spans((0, 1, 1, 1.0), (1, 3, 3, 0.0)), form="exp_inf", epsilon=1e-12)
    assert alone == pytest.approx([0, 1.41421, 0, -0.70711, 0, 0], abs=1e-5)


HITS = st.lists(st.lists(st.integers(0, 1), max_size=4), min_size=1, max_size=4)


@settings(max_examples=40)
@given(st.lists(HITS, min_size=1, max_size=2), st.sampled_from(["log_decay", "exp_inf"]))
def test_rank_grpo_against_a_plain_loop(groups: list[list[list[int]]], form: Any) -> None:
    flat = [hits for group in groups for hits in group]
    batch, _ = scored(*[[(0.0, [0.0]) for _ in group] for group in groups], tokens=[5] * len(flat))
    found = spans(
        *[(i, 6 * i + 1 + k, 6 * i + 1 + k, hit) for i, hits in enumerate(flat) for k, hit in enumerate(hits)]
    )
    expected = np.zeros(6 * len(flat))
    before = 0
    for group in groups:
        earned = [to_go([hit / np.log2(k + 2) for k, hit in enumerate(hits)]) for hits in group]
        earned = [[float(hit) for hit in hits] for hits in group] if form == "exp_inf" else earned
        for k in range(4):
            padded = [own[k] if k < len(own) else 0.0 for own in earned]
            for i, hits in enumerate(group):
                if k < len(hits):
                    expected[6 * (before + i) + 1 + k] = (padded[i] - np.mean(padded)) / (np.std(padded) + 1e-4)
        before += len(group)
    assert rank_grpo(batch, spans=found, form=form) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5), st.integers(1, 5), st.integers(-2, 2)), max_size=6))
def test_what_tokens_earn_sums_to_the_reward(raw: list[tuple[int, int, int, int]]) -> None:
    batch = one_turn((1.0, 5), (0.5, 5), (-1.0, 5))
    rows = sorted((row, 6 * row + min(a, b), 6 * row + max(a, b), float(r)) for row, a, b, r in raw)
    values = fine_grained(batch, spans=spans(*rows))
    assert values[[1, 7, 13]] == pytest.approx(batch.rewards_B)  # the first token is to get all of it
    values_T = np.arange(18.0)
    gae = fine_grained_gae(batch, spans=spans(*rows), values_T=values_T, lambda_=1.0)
    assert gae[batch.mask_T] == pytest.approx((values - values_T)[batch.mask_T])


def test_nothing_to_compare_and_nothing_found() -> None:
    batch, none = one_turn((1.0, 2)), spans()
    assert fine_grained(batch, spans=none, baseline="leave_one_out") == pytest.approx(0)
    assert fine_grained(batch, spans=none) == pytest.approx([0, 1, 1])
    assert toolpo_spans(batch, spans=none) == pytest.approx(0)
    assert rank_grpo(batch, spans=none) == pytest.approx(0)
    nobodys = spans((0, -1, -1, 1.0))  # earned by text that the policy did not write
    assert fine_grained(batch, spans=nobodys) == pytest.approx(0)
    assert rank_grpo(batch, spans=nobodys) == pytest.approx(0)
    assert toolpo_spans(batch, spans=nobodys, kind="item") == pytest.approx(0)
    equal = spans((0, 1, 1, 1.0), (1, 4, 4, 1.0))
    assert rank_grpo(one_turn((1.0, 2), (1.0, 2)), spans=equal) == pytest.approx(0)
    empty = ScoredBatch.of([])
    for function in (fine_grained, toolpo_spans, rank_grpo):
        assert len(function(empty, spans=none)) == 0


def written(world: World, texts: Sequence[str], *rewarded: Span) -> Trajectory:
    """A trajectory that says these, with a tool's answer after each turn."""
    ids, mask, turns = [1], [0], []
    for text in texts:
        said = world.chat.turn(text)
        turns.append(Turn(text=text, start=len(ids), stop=len(ids) + len(said)))
        ids, mask = [*ids, *said, 2], [*mask, *[1] * len(said), 0]
    made = trajectory(tokens=len(ids), token_ids=tuple(ids), loss_mask=tuple(mask), turns=tuple(turns))
    return made.scored(sum(span.reward for span in rewarded), {}, reward_spans=rewarded)


def test_spans_from_characters_to_tokens(world: World) -> None:
    call = json.dumps({"name": "calculator", "arguments": {"expression": "6*7"}})
    text = f"<think>größer? 世界 🙂</think>\n<tool_call>\n{call}\n</tool_call>"
    begin, smile = text.index(call), text.index("🙂")
    made = written(
        world,
        [text, "a 🙂 b"],
        Span(turn=1, start=2, stop=3, reward=0.25, kind="item"),
        Span(turn=0, start=begin, stop=begin + len(call), reward=1.0, kind="call"),
        Span(turn=0, start=smile, stop=smile + 1, reward=0.5, kind="item"),
    )
    other = written(world, ["nothing"])
    batch = ScoredBatch.of([[other, made]])
    found = read_spans(batch, edges_of(world.chat))
    assert found.row_S.tolist() == [1, 1, 1]
    assert found.kind_S.tolist() == ["item", "call", "item"] and found.rank_S.tolist() == [1, 1, 2]
    assert found.reward_S.tolist() == [0.5, 1.0, 0.25]
    offset = len(other.token_ids)
    texts = [
        str(world.chat.tokenizer.decode(list(made.token_ids[first - offset : last + 1 - offset])))
        for first, last in zip(found.first_S, found.last_S, strict=True)
    ]
    assert "🙂" in texts[0] and call in texts[1] and "🙂" in texts[2]
    for first, last in zip(found.first_S, found.last_S, strict=True):  # one token less, on either side, is too little
        inner = made.token_ids[first - offset + 1 : last + 1 - offset], made.token_ids[first - offset : last - offset]
        assert all(call not in str(world.chat.tokenizer.decode(list(ids))) for ids in inner)
        assert all("🙂" not in str(world.chat.tokenizer.decode(list(ids))) for ids in inner)
    assert batch.mask_T[found.first_S].all() and batch.mask_T[found.last_S].all()
    assert fine_grained(batch, spans=found)[found.first_S[0]] == pytest.approx(1.75)


def test_spans_of_text_that_nobody_sampled_are_nobodys(world: World) -> None:
    unsampled = trajectory(turns=(Turn(text="said"),)).scored(
        1.0, {}, reward_spans=(Span(turn=0, start=0, stop=4, reward=1.0),)
    )
    masked = written(world, ["said"], Span(turn=0, start=0, stop=4, reward=1.0))
    masked = trajectory(
        tokens=len(masked.token_ids),
        token_ids=masked.token_ids,
        turns=masked.turns,
        loss_mask=(0,) * len(masked.token_ids),
    ).scored(1.0, {}, reward_spans=masked.reward_spans)
    found = read_spans(ScoredBatch.of([[unsampled, masked]]), edges_of(world.chat))
    assert found.first_S.tolist() == found.last_S.tolist() == [-1, -1]
    assert len(read_spans(ScoredBatch.of([]), edges_of(world.chat)).row_S) == 0


def bytewise(ids: Sequence[int]) -> str:
    """Every token is a byte."""
    return bytes(ids).decode(errors="replace")


def test_edges_of_characters_of_several_tokens() -> None:
    # a; two bytes of é; three of 世; b
    assert token_edges("aé世b".encode(), bytewise) == [(0, 1), (1, 2), (1, 2), (2, 3), (2, 3), (2, 3), (3, 4)]
    # A token that ends a character and begins the next one wrote both.
    pieces = ["aé".encode()[:2], "é".encode()[1:] + "世".encode()[:1], "世".encode()[1:]]
    assert token_edges(range(3), lambda ids: b"".join(pieces[i] for i in ids).decode(errors="replace")) == [
        (0, 2),
        (1, 3),
        (2, 3),
    ]
    # Cut off in the middle of a character, it is there all the same.
    assert token_edges("aé".encode()[:2], bytewise) == [(0, 1), (1, 2)]
    # What stands before every text counts in the places.
    assert token_edges(b"ab", lambda ids: "<think>" + bytewise(ids)) == [(7, 8), (8, 9)]


@settings(max_examples=60)
@given(st.text(max_size=8), st.lists(st.integers(1, 4), min_size=40, max_size=40))
def test_edges_against_the_bytes(text: str, sizes: list[int]) -> None:
    whole, pieces = text.encode(), []
    while whole:
        size = sizes[len(pieces) % 40]
        pieces.append(whole[:size])
        whole = whole[size:]
    found = token_edges(range(len(pieces)), lambda ids: b"".join(pieces[i] for i in ids).decode(errors="replace"))
    owner = [i for i, char in enumerate(text) for _ in char.encode()]
    at = 0
    for piece, (start, stop) in zip(pieces, found, strict=True):
        mine = owner[at : at + len(piece)]
        if "\ufffd" not in text:
            assert (start, stop) == (mine[0], mine[-1] + 1)
        assert start <= mine[0] and stop > start
        at += len(piece)


@settings(max_examples=40)
@given(st.binary(max_size=12))
def test_edges_of_broken_bytes_stay_in_the_text(raw: bytes) -> None:
    text = bytewise(raw)
    found = token_edges(raw, bytewise)
    assert all(0 <= start <= stop <= len(text) for start, stop in found)
    assert not raw or found[-1][1] == len(text) or text.endswith("\ufffd")


def test_edges_with_sentence_pieces() -> None:
    """A tokenizer of another kind: words with their space, which the first one loses, and bytes as a fallback."""
    words = ["<unk>", "▁a", "▁call", "s", *[f"<0x{byte:02X}>" for byte in "é".encode()]]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    ids = [1, 2, 3, 4, 5, 2]

    def decode(some: Sequence[int]) -> str:
        return tokenizer.decode(list(some))

    assert decode(ids) == "a callsé call"
    assert token_edges(ids, decode) == [(0, 1), (1, 6), (6, 7), (7, 8), (7, 8), (8, 13)]


def test_edges_of_sampled_turns(world: World) -> None:
    text = "<think>größer 世界</think>\n<answer>42</answer>"
    made = written(world, [text])
    found = edges_of(world.chat)(made, 0)
    assert found[0][0] == 0 and found[-1] == (len(text), len(text))  # the end of the turn writes nothing
    assert found[-2][1] == len(text)
    assert all(start <= stop and after[0] <= stop for (start, stop), after in pairwise(found))
