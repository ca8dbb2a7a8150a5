"""The catalog: every registered part, found where it is written and tested."""

from pathlib import Path

import pytest

from journeyman import credit, rewards
from journeyman.catalog import Entry, catalog, page
from journeyman.config import CurriculumConfig, ObjectiveConfig, SamplerConfig, TeacherConfig
from journeyman.config.rollout import RolloutConfig
from journeyman.config.shape import arms
from journeyman.curation import RULES
from journeyman.curriculum import CURRICULA
from journeyman.environments import ENVIRONMENTS
from journeyman.evaluation.benchmarks import BENCHMARKS
from journeyman.evaluation.inference import INFERENCE
from journeyman.evaluation.judging.measures import JUDGE_MEASURES
from journeyman.evaluation.robustness import ROBUSTNESS
from journeyman.evaluation.tool_use import TOOL_MEASURES
from journeyman.formats import FORMATS
from journeyman.graders import GRADERS
from journeyman.monitors import MONITORS
from journeyman.replay import PARTS as REPLAY_PARTS
from journeyman.rollout.formats import CALL_FORMATS
from journeyman.synthesis.strategies import STRATEGIES
from journeyman.tools import TOOLS
from journeyman.training.merging import MERGES
from journeyman.training.objectives import OBJECTIVES

NAMES = {
    "tool": list(TOOLS),
    "environment": list(ENVIRONMENTS),
    "reward": list(rewards.REWARDS),
    "reward combinator": ["+", "*", *rewards.COMBINATORS],
    "credit": list(credit.CREDITS),
    "credit combinator": ["+", *credit.COMBINATORS],
    "objective": list(OBJECTIVES),
    "curriculum": list(CURRICULA),
    "replay": list(REPLAY_PARTS),
    "curation rule": list(RULES),
    "grader": list(GRADERS),
    "measure": [*TOOL_MEASURES, *ROBUSTNESS],
    "inference": list(INFERENCE),
    "benchmark": list(BENCHMARKS),
    "judge measure": list(JUDGE_MEASURES),
    "monitor": list(MONITORS),
    "call format": list(CALL_FORMATS),
    "data format": list(FORMATS),
    "sampler": list(arms(SamplerConfig)),
    "strategy": list(STRATEGIES),
    "merge": list(MERGES),
    "teacher": list(arms(TeacherConfig)),
    "rollout": list(arms(RolloutConfig)),
}


def entry(kind: str, name: str, entries: list[Entry]) -> Entry:
    [found] = [one for one in entries if (one.kind, one.name) == (kind, name)]
    return found


@pytest.mark.parametrize("kind", NAMES)
def test_every_registered_part_is_listed(kind: str, tmp_path: Path) -> None:
    assert [one.name for one in catalog(tmp_path) if one.kind == kind] == NAMES[kind]


def test_every_part_says_what_it_is(tmp_path: Path) -> None:
    assert [one.name for one in catalog(tmp_path) if len(one.doc.split()) < 3] == []


def test_what_the_config_can_choose_is_registered() -> None:
    assert set(arms(ObjectiveConfig)) == set(OBJECTIVES)
    assert set(arms(CurriculumConfig)) == set(CURRICULA)


def test_papers_and_options_come_from_the_code(tmp_path: Path) -> None:
    entries = catalog(tmp_path)
    assert "#18" in entry("reward", "otc", entries).papers
    assert entry("reward", "otc", entries).source["#18"] == "secondary"
    assert entry("credit", "group", entries).papers == ("arXiv 2402.03300",)
    assert entry("objective", "nll", entries).options == ()
    assert "clip_high = 0.28" in entry("objective", "grpo", entries).options
    assert entry("tool", "calculator", entries).options == ("expression: str",)
    assert "slots = 128" in entry("sampler", "torch", entries).options
    assert {option.split(" = ")[0] for option in entry("teacher", "scripted", entries).options} >= {
        "mistakes",
        "repeats",
    }


def test_a_part_is_tested_where_a_test_imports_it_or_takes_it_from_the_registry(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    (tests / "unit").mkdir(parents=True)
    (tests / "unit" / "test_a.py").write_text("from journeyman.rewards.efficiency import otc\n")
    (tests / "unit" / "test_b.py").write_text("from journeyman.rewards import REWARDS\nREWARDS['correct']\n")
    (tests / "unit" / "test_c.py").write_text(
        "import pytest\nfrom journeyman.credit import CREDITS\n"
        "@pytest.mark.parametrize('name', CREDITS)\ndef test_all(name): ...\n"
    )
    (tests / "unit" / "test_d.py").write_text("word = 'otc'\n")
    entries = catalog(tests)
    assert entry("reward", "otc", entries).tested == ("tests/unit/test_a.py",)
    assert entry("reward", "correct", entries).tested == ("tests/unit/test_b.py",)
    assert entry("credit", "group_mean", entries).tested == ("tests/unit/test_c.py",)
    assert entry("tool", "sql", entries).tested == ()


def test_without_a_tests_folder_nothing_is_said_of_tests(tmp_path: Path) -> None:
    assert {one.tested for one in catalog(tmp_path / "nowhere")} == {()}


REWARD_ROWS = {
    *(
        4,
        11,
        18,
        21,
        28,
        36,
        47,
        51,
        53,
        59,
        64,
        67,
        77,
        81,
        85,
        90,
        91,
        92,
        93,
        96,
        104,
        105,
        106,
        111,
        120,
        126,
        131,
        132,
    ),
    *(134, 138, 139, 143, 145, 146, 148, 152, 153, 156, 160, 162, 166, 167, 178, 197, 203, 207, 214, 218, 226),
}
CREDIT_ROWS = {40, 42, 50, 68, 79, 97, 98, 117, 118, 130, 135, 155, 165, 182, 192, 195, 210}
OBJECTIVE_ROWS = {6, 71, 125, 154, 158, 172, 174, 175, 177, 184, 191, 217, 225}
DATA_ROWS = {3, 7, 19, 32, 76, 88, 147, 149, 150, 163, 170, 181, 196, 199, 200}
CURRICULUM_ROWS = {6, 19, 86, 87, 170, 188, 196}
"""Numbers in the ledger of papers of the systems whose home is one of them; of data: synthesis, curation and sft."""
STATUSES = {"verified", "secondary", "derived"}


@pytest.mark.parametrize(
    ("kinds", "rows"),
    [
        (("reward", "reward combinator"), REWARD_ROWS),
        (("credit", "credit combinator", "reward combinator", "reward"), CREDIT_ROWS),
        (("objective", "credit", "credit combinator", "reward combinator", "reward"), OBJECTIVE_ROWS),
        (("strategy", "curation rule", "merge"), DATA_ROWS),
        (("curriculum",), CURRICULUM_ROWS),
    ],
)
def test_every_row_of_the_ledger_is_there_with_how_surely_it_is_known(kinds: tuple[str, ...], rows: set[int]) -> None:
    known = {paper: status for one in catalog() if one.kind in kinds for paper, status in one.source.items()}
    assert [row for row in sorted(rows) if f"#{row}" not in known] == []
    assert set(known.values()) <= STATUSES


KINDS = [
    *("reward", "reward combinator", "credit", "credit combinator", "objective"),
    *("curation rule", "strategy", "merge", "curriculum"),
    *("measure", "inference", "benchmark", "judge measure"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_is_worked_out_in_a_test(kind: str) -> None:
    parts = [one for one in catalog() if one.kind == kind]
    assert [one.name for one in parts if not one.test] == []
    assert [one.name for one in parts if "by_hand" not in one.test and one.name not in ("+", "*")] == []


def test_every_credit_says_whether_it_is_biased() -> None:
    assert [one.name for one in catalog() if one.kind == "credit" and not one.bias] == []


def test_the_page_in_the_docs_is_that_of_the_code() -> None:
    written = (Path(__file__).resolve().parents[2] / "docs" / "catalog.md").read_text(encoding="utf-8")
    assert written == page(catalog()), "make it again: journeyman catalog --markdown > docs/catalog.md"
