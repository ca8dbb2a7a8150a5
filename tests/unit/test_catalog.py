"""The catalog: every registered part, found where it is written and tested."""

from pathlib import Path
from typing import get_args

import pytest

from journeyman.catalog import Entry, catalog
from journeyman.config import CurriculumConfig, ObjectiveConfig, SamplerConfig, SynthesizeConfig
from journeyman.config.shape import arms
from journeyman.credit import CREDITS
from journeyman.curation import RULES
from journeyman.curriculum import CURRICULA
from journeyman.environments import ENVIRONMENTS
from journeyman.formats import FORMATS
from journeyman.graders import GRADERS
from journeyman.rewards import REWARDS
from journeyman.rollout.formats import CALL_FORMATS
from journeyman.tools import TOOLS
from journeyman.training.objective import OBJECTIVES

NAMES = {
    "tool": list(TOOLS),
    "environment": list(ENVIRONMENTS),
    "reward": list(REWARDS),
    "credit": list(CREDITS),
    "objective": list(OBJECTIVES),
    "curriculum": list(CURRICULA),
    "curation rule": list(RULES),
    "grader": list(GRADERS),
    "call format": list(CALL_FORMATS),
    "data format": list(FORMATS),
    "sampler": list(arms(SamplerConfig)),
    "teacher": list(get_args(SynthesizeConfig.model_fields["teacher"].annotation)),
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
    assert set(get_args(ObjectiveConfig.model_fields["type"].annotation)) == set(OBJECTIVES)
    assert set(get_args(CurriculumConfig.model_fields["type"].annotation)) == set(CURRICULA)


def test_papers_and_options_come_from_the_code(tmp_path: Path) -> None:
    entries = catalog(tmp_path)
    assert "#18" in entry("reward", "otc", entries).papers
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
    assert entry("credit", "group-mean", entries).tested == ("tests/unit/test_c.py",)
    assert entry("tool", "sql", entries).tested == ()


def test_without_a_tests_folder_nothing_is_said_of_tests(tmp_path: Path) -> None:
    assert {one.tested for one in catalog(tmp_path / "nowhere")} == {()}
