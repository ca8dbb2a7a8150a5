"""Credit: scored groups to an advantage per token. To add one: a function, a line in `CREDITS`, a test."""

from collections.abc import Callable
from typing import Any

from journeyman.credit.algebra import blend, whiten
from journeyman.credit.base import NEEDS, Credit, Floats, ScoredBatch
from journeyman.credit.channels import per_channel, slim
from journeyman.credit.critics import archer, gae, turn_td
from journeyman.credit.graphs import salt
from journeyman.credit.group import (
    batch_mean,
    batch_normalized,
    best,
    best_and_worst,
    group_mean,
    group_normalized,
    pf_ppo,
    reinforce,
    rloo,
    self_critical,
)
from journeyman.credit.minform import pure
from journeyman.credit.process import oprl, prime
from journeyman.credit.ranks import effective_rank
from journeyman.credit.search import deepsearch, rest_mcts
from journeyman.credit.spans import fine_grained, fine_grained_gae, rank_grpo, toolpo_spans
from journeyman.credit.strata import stratified
from journeyman.credit.trees import portool, tempo
from journeyman.credit.turns import capo, flow_grpo, igpo, matchtir, recurring, returns, toolpo, tp_grpo, turn_group
from journeyman.expressions import Vocabulary, build

CREDITS: dict[str, Callable[..., Floats]] = {
    # one advantage a trajectory
    "reinforce": reinforce,
    "rloo": rloo,
    "group": group_normalized,
    "group_mean": group_mean,
    "batch_mean": batch_mean,
    "batch_normalized": batch_normalized,
    "self_critical": self_critical,
    "best": best,
    "best_and_worst": best_and_worst,
    # channels
    "per_channel": per_channel,
    "slim": slim,
    # critics
    "gae": gae,
    "archer": archer,
    "turn_td": turn_td,
    # turn by turn
    "flow_grpo": flow_grpo,
    "turn_group": turn_group,
    "returns": returns,
    "igpo": igpo,
    "matchtir": matchtir,
    "toolpo": toolpo,
    "capo": capo,
    "tp_grpo": tp_grpo,
    "recurring": recurring,
    # trees, graphs, strata
    "tempo": tempo,
    "portool": portool,
    "deepsearch": deepsearch,
    "rest_mcts": rest_mcts,
    "salt": salt,
    "stratified": stratified,
    # process rewards, tokens, items
    "pure": pure,
    "fine_grained": fine_grained,
    "fine_grained_gae": fine_grained_gae,
    "toolpo_spans": toolpo_spans,
    "rank_grpo": rank_grpo,
    "oprl": oprl,
    "prime": prime,
}
"""Name in pipelines.yaml -> function of a scored batch; keyword-only parameters are its options and needs."""

COMBINATORS: dict[str, Callable[..., Credit]] = {
    "whiten": whiten,
    "effective_rank": effective_rank,
    "pf_ppo": pf_ppo,
}
"""Name in pipelines.yaml -> function of credits that returns a credit; sums are written with +."""

VOCABULARY = Vocabulary(
    kind="credit",
    parts=CREDITS,
    combinators=COMBINATORS,
    add=blend,
    multiply=None,
    constant=None,
    needs=NEEDS,
)


def build_credit(expression: str, **supplied: Any) -> Credit:
    """The credit that an expression of pipelines.yaml stands for. Raises `ExpressionError`."""
    return build(expression, VOCABULARY, supplied)


__all__ = ["COMBINATORS", "CREDITS", "VOCABULARY", "Credit", "ScoredBatch", "build_credit"]
