"""Rewards: pure functions of a group of trajectories, and the algebra that combines them.

To add a reward: a function, a line in `REWARDS`, a test. To add a way to combine them: the same with `COMBINATORS`.
"""

from collections.abc import Callable
from typing import Any

from journeyman.expressions import Vocabulary
from journeyman.rewards.algebra import channels, confident, constant, ensemble, geometric, product, weighted_sum
from journeyman.rewards.annotations import oni_classification, oni_ranking, oni_retrieval
from journeyman.rewards.artefacts import clean_text
from journeyman.rewards.base import NEEDS, Group, History, Reward, Score, apply_reward
from journeyman.rewards.bounds import bounded, clip, clip_steps, delta_steps, shaped
from journeyman.rewards.calibration import abstain, rlcr, urpa
from journeyman.rewards.changes import swe_rl
from journeyman.rewards.checklists import checklist, checklist_turns, principles, rules
from journeyman.rewards.comparisons import hierarchy, minmax, normalized, trust
from journeyman.rewards.constraints import constrained, outer_nonlinear
from journeyman.rewards.correctness import correct
from journeyman.rewards.cost import call_cost, calls, needless_calls, orchestra, router_r1, seconds, turns
from journeyman.rewards.critique import capo, ppr, tp_grpo
from journeyman.rewards.curiosity import curiosity
from journeyman.rewards.dialogue import gtalign, information_asked
from journeyman.rewards.efficiency import (
    codedance,
    fewest_turns_when_right,
    lightsearcher,
    mash,
    otc,
    otc_history,
    tgrl,
)
from journeyman.rewards.gates import gate, levels, lexicographic, when
from journeyman.rewards.graded import atom_searcher, ctrl_u, hybrid, judged, preferred, trust_grpo
from journeyman.rewards.ladders import adareasoner, shop_r1, tl_ladder, tool_chain
from journeyman.rewards.laws import conservation
from journeyman.rewards.length import grpo_lambda, laser, laser_d, overlong, tokens, traac
from journeyman.rewards.likelihood import follow_up, information_gain, likelihood, self_aligned
from journeyman.rewards.machines import machine, temporal
from journeyman.rewards.matching import exact_calls, matchtir, solved_calls, toolrl
from journeyman.rewards.noise import appealed, backward, flipped, forward, reasoning_patterns
from journeyman.rewards.novelty import novelty
from journeyman.rewards.nuggets import nugget_verifier, nuggets
from journeyman.rewards.outcome import (
    call_success,
    gra,
    graded,
    spear_tool,
    tool_star,
    tool_success,
    used_tools,
    well_formed,
    world,
)
from journeyman.rewards.placement import dense, milestones
from journeyman.rewards.probes import judged_correct
from journeyman.rewards.progress import carl, progress, relative_gain
from journeyman.rewards.recovery import inverse, usefulness
from journeyman.rewards.schedules import anneal, two_stage
from journeyman.rewards.segments import fine_grained, fine_grained_by_rule
from journeyman.rewards.sets import diversity, srpo
from journeyman.rewards.similarity import bertscore, contrastive, exact_match, f1, group_similarity, similarity
from journeyman.rewards.sql import paverl_sql, reasoning_sql, sql_partials

REWARDS: dict[str, Callable[..., list[Score]]] = {
    # outcome
    "correct": correct,
    "graded": graded,
    "world": world,
    "well_formed": well_formed,
    "tool_success": tool_success,
    "call_success": call_success,
    "used_tools": used_tools,
    "tool_star": tool_star,
    "gra": gra,
    "spear_tool": spear_tool,
    # calls against reference calls
    "adareasoner": adareasoner,
    "exact_calls": exact_calls,
    "matchtir": matchtir,
    "shop_r1": shop_r1,
    "solved_calls": solved_calls,
    "tl_ladder": tl_ladder,
    "toolrl": toolrl,
    # efficiency, cost, length, difficulty
    "otc": otc,
    "otc_history": otc_history,
    "mash": mash,
    "lightsearcher": lightsearcher,
    "fewest_turns_when_right": fewest_turns_when_right,
    "codedance": codedance,
    "tgrl": tgrl,
    "calls": calls,
    "needless_calls": needless_calls,
    "turns": turns,
    "tokens": tokens,
    "call_cost": call_cost,
    "seconds": seconds,
    "router_r1": router_r1,
    "orchestra": orchestra,
    "overlong": overlong,
    "grpo_lambda": grpo_lambda,
    "laser": laser,
    "laser_d": laser_d,
    "traac": traac,
    # calibration, noise, likelihood
    "rlcr": rlcr,
    "abstain": abstain,
    "urpa": urpa,
    "reasoning_patterns": reasoning_patterns,
    "likelihood": likelihood,
    "self_aligned": self_aligned,
    "information_gain": information_gain,
    "follow_up": follow_up,
    # judged: checklists, rubrics, nuggets, principles
    "judged": judged,
    "judged_correct": judged_correct,
    "preferred": preferred,
    "checklist": checklist,
    "checklist_turns": checklist_turns,
    "nuggets": nuggets,
    "nugget_verifier": nugget_verifier,
    "rules": rules,
    "principles": principles,
    "ppr": ppr,
    "capo": capo,
    "tp_grpo": tp_grpo,
    "atom_searcher": atom_searcher,
    "trust_grpo": trust_grpo,
    "ctrl_u": ctrl_u,
    "hybrid": hybrid,
    "gtalign": gtalign,
    "information_asked": information_asked,
    "fine_grained": fine_grained,
    "fine_grained_by_rule": fine_grained_by_rule,
    # similarity, SQL, tool chains
    "bertscore": bertscore,
    "contrastive": contrastive,
    "exact_match": exact_match,
    "f1": f1,
    "group_similarity": group_similarity,
    "inverse": inverse,
    "paverl_sql": paverl_sql,
    "reasoning_sql": reasoning_sql,
    "similarity": similarity,
    "sql_partials": sql_partials,
    "swe_rl": swe_rl,
    "tool_chain": tool_chain,
    "usefulness": usefulness,
    # progress, laws, sets of samples
    "conservation": conservation,
    "carl": carl,
    "diversity": diversity,
    "machine": machine,
    "milestones": milestones,
    "progress": progress,
    "relative_gain": relative_gain,
    "srpo": srpo,
    "temporal": temporal,
    # exploration
    "clean_text": clean_text,
    "novelty": novelty,
    "curiosity": curiosity,
    "oni_retrieval": oni_retrieval,
    "oni_classification": oni_classification,
    "oni_ranking": oni_ranking,
}
"""Name in pipelines.yaml -> function of a group; keyword-only parameters are its options and needs."""

COMBINATORS: dict[str, Callable[..., Reward]] = {
    # gates, orders, bounds, schedules, weights, channels, constraints
    "gate": gate,
    "when": when,
    "levels": levels,
    "lexicographic": lexicographic,
    "hierarchy": hierarchy,
    "minmax": minmax,
    "normalized": normalized,
    "clip": clip,
    "bounded": bounded,
    "clip_steps": clip_steps,
    "delta_steps": delta_steps,
    "dense": dense,
    "shaped": shaped,
    "anneal": anneal,
    "two_stage": two_stage,
    "confident": confident,
    "trust": trust,
    "ensemble": ensemble,
    "geometric": geometric,
    "channels": channels,
    "constrained": constrained,
    "outer_nonlinear": outer_nonlinear,
    # noise
    "flipped": flipped,
    "backward": backward,
    "forward": forward,
    "appealed": appealed,
}
"""Name in pipelines.yaml -> function of rewards that returns a reward; sums and products are written with + and *."""

VOCABULARY = Vocabulary(
    kind="reward",
    parts=REWARDS,
    combinators=COMBINATORS,
    add=weighted_sum,
    multiply=product,
    constant=constant,
    needs=NEEDS,
)


def build_reward(expression: str, **supplied: Any) -> Reward:
    """The reward that an expression of pipelines.yaml stands for. Raises `ExpressionError`."""
    from journeyman.expressions import build

    return build(expression, VOCABULARY, supplied)


__all__ = [
    "COMBINATORS",
    "REWARDS",
    "VOCABULARY",
    "Group",
    "History",
    "Reward",
    "Score",
    "apply_reward",
    "build_reward",
]
