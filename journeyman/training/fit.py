"""Whether the parts of an rl block go together: told when a pipeline is loaded, not in the middle of a run."""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from journeyman import credit, rewards
from journeyman.curriculum import CURRICULA
from journeyman.environments import ENVIRONMENTS
from journeyman.errors import nearest
from journeyman.expressions import ExpressionError, Vocabulary, check, needs, options_of, parse, yields

Misfit = tuple[str, str, str]
"""(key of the block, fault, remedy)."""
PAID = {"turn_rewards_U": "turns", "spans": "spans", "channels": "channels"}
"""What a credit needs -> what the reward has to hand on for it."""
SET = {
    **{"judge": "judge", "process_T": "process"},
    **dict.fromkeys(("values_T", "values_U", "q_values_U"), "critic"),
}
"""What a reward or credit needs -> the key of the block that supplies it."""


SEARCHES = ("search", "value_search")
"""Types of rollouts that search."""


def misfits(block: Mapping[str, Any]) -> Iterator[Misfit]:
    """What of an rl block (plain data, as the config dumps it) cannot work together."""
    paid, of_reward = _read(block.get("reward"), rewards.VOCABULARY)
    _, of_credit = _read(block.get("credit"), credit.VOCABULARY)
    if paid is None or of_credit is None or of_reward is None:
        return  # an expression that can't be read is told of by its own check
    yield from _unpaid(of_credit, paid)
    yield from _unset(block, of_reward, "reward", rewards.VOCABULARY)
    yield from _unset(block, of_credit, "credit", credit.VOCABULARY)
    yield from _useless(block, {**of_reward, **of_credit})
    yield from _no_tree(block, of_credit)
    yield from _no_channel(block)
    yield from _torn_groups(block)
    yield from _never_reached(block)
    yield from _no_room(block)
    yield from _mixed_temperatures(block)


def _read(text: Any, vocabulary: Vocabulary) -> tuple[frozenset[str] | None, dict[str, str] | None]:
    """(what an expression hands on, what it needs); None, None where it can't be read."""
    if not isinstance(text, str):
        return None, None
    try:
        check(text, vocabulary)
    except ExpressionError:
        return None, None
    return yields(text, vocabulary), needs(text, vocabulary)


def _unpaid(of_credit: Mapping[str, str], paid: frozenset[str]) -> Iterator[Misfit]:
    for need, part in of_credit.items():
        if need in PAID and PAID[need] not in paid:
            names = [name for name, reward in rewards.REWARDS.items() if PAID[need] in yields(name, rewards.VOCABULARY)]
            choices = f", such as {', '.join(names[:6])}" if names else ""
            yield (
                "credit",
                f"{part} has nothing to go by: {credit.VOCABULARY.needs[need]}",
                f"choose a reward that does{choices}",
            )


def _unset(block: Mapping[str, Any], wanted: Mapping[str, str], key: str, vocabulary: Vocabulary) -> Iterator[Misfit]:
    for need, part in wanted.items():
        if need in SET and block.get(SET[need]) is None:
            yield key, f"{part} needs `{SET[need]}`, which is not set", vocabulary.needs[need]


def _useless(block: Mapping[str, Any], wanted: Mapping[str, str]) -> Iterator[Misfit]:
    for key in dict.fromkeys(SET.values()):
        users = [need for need, supplier in SET.items() if supplier == key]
        if block.get(key) is not None and not any(need in wanted for need in users):
            yield key, "has no effect: neither the reward nor the credit makes use of it", f"remove `{key}`"


def _no_tree(block: Mapping[str, Any], of_credit: Mapping[str, str]) -> Iterator[Misfit]:
    kind = (block.get("rollout") or {}).get("type", "independent")
    tree, search = kind == "tree", kind in SEARCHES
    if "forks_U" in of_credit and not (tree or search):
        yield "credit", f"{of_credit['forks_U']} compares attempts that fork", credit.VOCABULARY.needs["forks_U"]
    if "searched" in of_credit and not search:
        yield "credit", f"{of_credit['searched']} reads what a search finds", credit.VOCABULARY.needs["searched"]
    if search and "group" in block and block["rollout"].get("direct", 0) >= block["group"]:
        yield (
            "rollout",
            f"{block['rollout']['direct']} direct attempts leave nothing to search for in groups of {block['group']}",
            "lower `direct`",
        )
    if tree and block["rollout"].get("roots", 1) > block.get("group", 2):
        yield (
            "rollout",
            f"{block['rollout']['roots']} attempts begin anew in groups of {block['group']}",
            "lower `roots`",
        )
    if (tree or search) and block.get("program"):
        yield (
            "rollout",
            "an agent from outside can't be forked",
            "remove `program`, or take `rollout: {type: independent}`",
        )


def _no_channel(block: Mapping[str, Any]) -> Iterator[Misfit]:
    """Weights of channels that the reward doesn't have."""
    paid = {
        str(keyword.arg)
        for call in _calls(block["reward"], "channels")
        for keyword in call.keywords
        if keyword.arg not in options_of(rewards.COMBINATORS["channels"], rewards.VOCABULARY)
    }
    for call in _calls(block["credit"], "per_channel", "slim") if paid else ():
        weights = next((ast.literal_eval(k.value) for k in call.keywords if k.arg == "weights"), None) or {}
        for name in weights:
            if name not in paid:
                yield "credit", f"there is no channel `{name}`", nearest(name, list(paid))


def _torn_groups(block: Mapping[str, Any]) -> Iterator[Misfit]:
    """Groups that replay changes where they can't be, or a selection that leaves everything."""
    replay = block.get("replay") or {}
    tree = (block.get("rollout") or {}).get("type") == "tree"
    for key in ("selection", "solutions"):
        if replay.get(key) is not None and tree:
            yield f"replay.{key}", "attempts that fork are compared as a whole", f"remove `replay.{key}`"
    keep, group = (replay.get("selection") or {}).get("keep", 0), block.get("group", 2)
    if keep >= group:
        yield "replay.selection", f"has no effect: it keeps {keep} of groups of {group}", "lower `keep`"


def _calls(expression: str, *names: str) -> list[ast.Call]:
    calls = [node for node in ast.walk(parse(expression)) if isinstance(node, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in names]


def _never_reached(block: Mapping[str, Any]) -> Iterator[Misfit]:
    """What a curriculum never comes to, or what a block can't do for it."""
    curriculum = block.get("curriculum") or {}
    if (pace := curriculum.get("steps")) and pace > block.get("steps", pace):
        remedy = f"lower `curriculum.steps` to {block['steps']}, or leave it out"
        yield "curriculum", f"takes {pace} steps where the block ends after {block['steps']}", remedy
    if curriculum.get("type") == "sets" and curriculum.get("by") == "family":
        for name in dict.fromkeys(name for stage in curriculum.get("stages", ()) for name in stage["sets"]):
            if name not in ENVIRONMENTS:
                yield "curriculum", f"there is no family `{name}`", nearest(name, list(ENVIRONMENTS))
    if curriculum.get("type") in ("reverse", "guided") and block.get("program"):
        yield (
            "curriculum",
            "an agent from outside can neither be told anything nor begin in the middle",
            "remove `program`, or take another curriculum",
        )


def _mixed_temperatures(block: Mapping[str, Any]) -> Iterator[Misfit]:
    """A process reward model scores a step at one temperature; groups of several steps may have several."""
    partial = (block.get("asynchrony") or {}).get("partial")
    if partial and block.get("process") is not None and (block.get("curriculum") or {}).get("temperatures"):
        yield "process", "scores a step at one temperature, and its groups may have several", "remove `temperatures`"


def _no_room(block: Mapping[str, Any]) -> Iterator[Misfit]:
    """Proposals that can't be taken in, or can't be tried."""
    if block.get("proposals") is None:
        return
    growing = [name for name, curriculum in CURRICULA.items() if hasattr(curriculum, "add")]
    kind = (block.get("curriculum") or {}).get("type", "uniform")
    if kind in CURRICULA and kind not in growing:
        yield "proposals", f"the curriculum `{kind}` takes no problems in", f"take {' or '.join(growing)}"
    if (block.get("asynchrony") or {}).get("partial"):
        yield "proposals", "are tried between two steps, where attempts are under way", "remove `asynchrony.partial`"
