"""Tool documents rewritten from trial and error, with a scripted model."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from journeyman.llm import Scripted
from journeyman.messages import Message
from journeyman.tools.base import FunctionTool, ToolError
from journeyman.tools.documents import Probe, Rewriter, Rewritten, StopRule, json_object, likeness, stops


class Rate(FunctionTool):
    name = "rate"

    async def run(self, currency: str) -> str:
        """Gives a rate."""
        if len(currency) != 3 or not currency.isupper():
            raise ToolError("currency is a code such as EUR")
        return f"1 {currency} = 2 XTS"


BETTER = "Gives the rate of a currency, named by its code of three capital letters, such as EUR."


class Model:
    """Plays all parts: explores with queries in turn, rewrites to the descriptions in turn, calls as it is told."""

    def __init__(self, queries: Sequence[str], descriptions: Sequence[str]) -> None:
        self.queries, self.descriptions = list(queries), list(descriptions)
        self.suggested = 0

    def __call__(self, messages: Sequence[Message]) -> str:
        asked = messages[0].content
        if asked.startswith("You try out"):
            return json.dumps({"query": self.queries.pop(0), "arguments": {"currency": "euro"}})
        if asked.startswith("A tool was tried"):
            self.suggested += 1
            return 'Well: {"suggestions": "say what a currency is"}'
        if asked.startswith("Rewrite"):
            return json.dumps({"description": self.descriptions.pop(0), "hints": "try small letters"})
        return json.dumps({"currency": "EUR" if "three capital letters" in asked else "euro"})


def rewrite(
    queries: Sequence[str], descriptions: Sequence[str], rule: StopRule = StopRule.PAPER, probes: Sequence[Probe] = ()
) -> tuple[Rewritten, Scripted, Model]:
    model = Model(queries, descriptions)
    chat = Scripted(model)
    return asyncio.run(Rewriter(chat, rule=rule, probes=probes).rewrite(Rate(), seed=1)), chat, model


QUERIES = ["How much is a euro?", "What do I pay for yen?", "Compare francs", "Pounds, please", "Anything else at all"]


def test_the_stop_rules_as_worked_by_hand() -> None:
    # cos .9 and BLEU .3: (.9 + .3) / 2 = .6, under .75: the paper goes on, the release stops. Equal documents: 1.
    assert not stops((0.9 + 0.3) / 2, StopRule.PAPER) and stops((0.9 + 0.3) / 2, StopRule.RELEASE)
    assert stops(1.0, StopRule.PAPER) and not stops(1.0, StopRule.RELEASE)
    assert likeness(BETTER, BETTER) == pytest.approx(1.0, abs=1e-5)
    assert 0.0 <= likeness(BETTER, "Gives a rate.") < 0.75


def test_a_document_is_rewritten_until_it_settles() -> None:
    made, chat, model = rewrite(QUERIES, [BETTER, BETTER, "never asked for"])
    assert made.spec["function"]["description"] == BETTER and model.suggested == 2
    assert [version.episode for version in made.versions] == [0, 1, 2]
    first, second = made.versions[1:]
    assert first.likeness is not None and first.likeness < 0.75 and second.likeness == pytest.approx(1.0, abs=1e-5)
    assert first.trial is not None and not first.trial.ok and "such as EUR" in first.trial.output
    assert first.suggestions == "say what a currency is" and first.hints == "try small letters"
    second_exploration = chat.asked[3][0].content
    assert BETTER in second_exploration and QUERIES[0] in second_exploration and "small letters" in second_exploration


def test_the_released_rule_stops_where_the_paper_goes_on() -> None:
    assert len(rewrite(QUERIES, [BETTER], StopRule.RELEASE)[0].versions) == 2
    stagnant = rewrite(QUERIES, ["Gives a rate."] * 5, StopRule.RELEASE)[0]
    assert len(stagnant.versions) == 6, "all five episodes"
    wild = [f"{word} " * 8 for word in ("alpha", "beta", "gamma", "delta", "epsilon")]
    assert len(rewrite(QUERIES, wild)[0].versions) == 6


def test_a_query_too_like_an_earlier_one_is_asked_for_again_and_taken_the_third_time() -> None:
    same = QUERIES[0]
    made, _, model = rewrite([same, same, same, QUERIES[1]], [BETTER, BETTER])
    assert made.versions[2].trial is not None and made.versions[2].trial.query == QUERIES[1] and model.queries == []
    made, _, model = rewrite([same, same, same, same, "left"], [BETTER, BETTER])
    assert made.versions[2].trial is not None and made.versions[2].trial.query == same and model.queries == ["left"]


def test_a_rewrite_under_which_probes_fail_is_refused() -> None:
    probes = [Probe(query="How much is a euro?", expected="1 EUR"), Probe(query="The price of one euro?")]
    worse = "It gives you the rate of whatever you like, in any way that you like to write it."
    made, _, _ = rewrite(QUERIES, [BETTER, worse, BETTER], probes=probes)
    assert [(version.probe_score, version.accepted) for version in made.versions] == [
        (0.0, True),
        (1.0, True),
        (0.0, False),
        (1.0, True),
    ]
    assert made.spec["function"]["description"] == BETTER


def test_replies_without_an_object_change_nothing() -> None:
    made = asyncio.run(Rewriter(Scripted(lambda _: "I don't know.")).rewrite(Rate(), seed=1))
    assert made.spec["function"]["description"] == "Gives a rate." and len(made.versions) == 2
    assert (
        json_object('a {"b": 1} c') == {"b": 1} and json_object("{") == json_object("[1]") == json_object("{x}") == {}
    )


def test_the_same_seed_asks_the_same() -> None:
    first, second = (rewrite(QUERIES, [BETTER, BETTER])[1].asked for _ in range(2))
    assert first == second
