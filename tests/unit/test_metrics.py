"""The list of metric names."""

import ast
from pathlib import Path

from journeyman.metrics import METRICS, known, of_a_step

LIBRARY = Path(__file__).resolve().parents[2] / "journeyman"
AREAS = {name.split("/")[0] for name in METRICS}


def test_every_metric_that_the_library_writes_is_in_the_list() -> None:
    written = {
        (str(path.relative_to(LIBRARY)), node.value)
        for path in LIBRARY.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node.value.count("/") == 1 and node.value.split("/")[0] in AREAS and node.value.split("/")[1].isidentifier()
    }
    assert {found for found in written if not known(found[1])} == set()


def test_a_listed_name_may_have_a_part_behind_it() -> None:
    assert known("rollout/accuracy") and known("rollout/accuracy/tables")
    assert not known("rollout") and not known("rollout/accuracyy") and not known("rollout/accuracy/a/b")


def test_a_block_can_end_by_what_its_steps_measure() -> None:
    assert of_a_step("rollout/accuracy") and of_a_step("monitor/value/reference_kl")
    assert not of_a_step("rollout/accurazy") and not of_a_step("eval/accuracy_greedy") and not of_a_step("time/learn_s")
