"""Tokens that write the values of arguments, and what else weighs in the loss."""

from pathlib import Path

from journeyman.messages import ToolCall
from journeyman.training.precision import argument_spans, precision_weights
from journeyman.trajectory import Trajectory, Turn
from tests.unit.fakes import World, trajectory
from tests.unit.test_reinforce import Dying, loop, run

TEXT = '<tool_call>\n{"name": "sql", "arguments": {"query": "select 7", "limit": 7, "tags": ["a"]}}\n</tool_call>'
CALL = ToolCall(name="sql", arguments={"query": "select 7", "limit": 7, "tags": ["a"]})


def test_argument_values_are_found_in_their_order() -> None:
    found = [TEXT[start:stop] for start, stop in argument_spans(Turn(text=TEXT, calls=(CALL,)))]
    assert found == ['"select 7"', "7", '"a"']
    twice = Turn(text=TEXT + TEXT, calls=(CALL, CALL))
    assert [stop for _, stop in argument_spans(twice)][3:] == [
        stop + len(TEXT) for _, stop in argument_spans(Turn(text=TEXT, calls=(CALL,)))
    ]
    assert list(argument_spans(Turn(text="???", calls=(CALL,)))) == []


def test_precision_weights_by_hand() -> None:
    """A token a character: those of the value weigh 2, the masked ones and all others 1."""
    text = "f(12)"
    made = trajectory(
        turns=(Turn(text=text, calls=(ToolCall(name="f", arguments={"x": 12}),), start=1, stop=6),),
        token_ids=tuple(range(7)),
        loss_mask=(0, 1, 1, 1, 0, 1, 0),
    )

    def edges(_: Trajectory, number: int) -> list[tuple[int, int]]:
        return [(i, i + 1) for i in range(len(text))]

    # tokens 1..5 write f ( 1 2 ): token 3 writes the 1, token 4 the 2 but is masked
    assert precision_weights(made, edges, 2.0).tolist() == [1, 1, 1, 2, 1, 1, 1]


def test_a_weighted_objective_gets_its_weights(world: World, tmp_path: Path, monkeypatch) -> None:
    from journeyman.rewards import REWARDS
    from tests.unit.fakes import oddness

    monkeypatch.setitem(REWARDS, "odd", oddness)
    seen = Dying()
    run(world, tmp_path, seen, steps=1, objective={"type": "grpo", "normalisation": {"type": "weighted"}})
    assert seen.seen[1]["loss/gradient_norm"] > 0


def test_a_problem_says_what_its_rows_weigh() -> None:
    from tests.unit import test_reinforce

    heavy = [test_reinforce.problem(f"{i}?", data={"weight": 3.0}) for i in range(2)]
    made, learner, _ = loop(test_reinforce.half_right)
    made.curriculum.choose = lambda count, *, step: heavy  # type: ignore[method-assign]
    made.advance()
    assert {row.weight for row in learner.steps[0]} == {3.0}
