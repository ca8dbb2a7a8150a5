"""Every recipe can be loaded, and every small one runs from end to end, two steps of each stage."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.ladder import Study
from journeyman.config import PipelineConfig
from journeyman.config.curriculum import PacedCurriculum
from journeyman.config.load import load_pipeline, pipeline_names

SMALL = [name for name in pipeline_names() if name.endswith("-small")]
RECIPES = [
    *("agentflow", "deepsearch", "g-ra", "mash", "meow-tea-taro", "mobile-r1", "mua", "otc", "retool", "spear"),
    *("tapo", "tool-star", "toolrl", "tulu3", "webagent-r1", "webrl"),
]
FEWER = [
    *("synthesize.demonstrations=60", "problems.train=24", "problems.dev=4", "problems.heldout=6"),
    *("sft.steps=2", "evaluate.samples=1", "evaluate.k=[1]", "evaluate.bootstrap=100", "compute.threads=1"),
    *("evaluate.max_turns=2", "evaluate.max_new_tokens=12"),
]
"""An untrained model goes on to every limit."""
OF_A_BLOCK = ["steps=2", "problems=2", "group=4", "minibatch=8", "max_turns=2", "max_new_tokens=12"]


def two_steps(name: str) -> PipelineConfig:
    blocks = load_pipeline(name).rl
    fewer = [f"rl.{n}.{key}" for n in range(len(blocks)) for key in OF_A_BLOCK]
    paced = [n for n, block in enumerate(blocks) if isinstance(block.curriculum, PacedCurriculum)]
    fewer += [f"rl.{n}.curriculum.steps=2" for n in paced]
    fewer += [f"rl.{n}.rollout.direct=2" for n, block in enumerate(blocks) if block.rollout.type == "search"]
    tried = ("every=1", "count=2", "attempts=2")
    fewer += [f"rl.{n}.proposals.{key}" for n, block in enumerate(blocks) if block.proposals for key in tried]
    return load_pipeline(name, overrides=[*FEWER, *fewer])


def test_every_recipe_has_both_variants() -> None:
    assert set(RECIPES) <= set(pipeline_names())
    assert {f"{name}-small" for name in RECIPES} == set(SMALL)


@pytest.mark.parametrize("name", [*RECIPES, *SMALL])
def test_a_recipe_can_be_loaded_and_names_its_paper(name: str) -> None:
    config = load_pipeline(name)
    assert "(#" in config.description and config.rl


def documented() -> list[list[str]]:
    """The words behind `journeyman run` of every ablation in docs/recipes.md."""
    text = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8").partition("## Ablations")[2]
    return [shlex.split(line, comments=True) for line in re.findall("^journeyman run (.*)$", text, re.MULTILINE)]


@pytest.mark.parametrize(("name", "words"), [(words[0], words[1:]) for words in documented()])
def test_an_ablation_loads_and_changes_rl_alone(name: str, words: list[str]) -> None:
    assert words[::2] == ["--set"] * (len(words) // 2)
    whole, ablated = load_pipeline(name), load_pipeline(name, overrides=words[1::2])
    assert ablated.rl != whole.rl
    assert ablated.model_copy(update={"rl": whole.rl}) == whole


def test_every_recipe_but_one_has_an_ablation_and_all_are_told_of() -> None:
    assert {f"{name}-small" for name in RECIPES} - {words[0] for words in documented()} == {"tool-star-small"}
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name in RECIPES)


@pytest.fixture(scope="module")
def cold_start(tmp_path_factory: pytest.TempPathFactory) -> Callable[[PipelineConfig], Path]:
    """A folder with the stages before rl, made once for pipelines that have them in common."""
    made: dict[str, Path] = {}

    def start(config: PipelineConfig) -> Path:
        stages = config.model_dump_json(include={"model", "problems", "synthesize", "curate", "sft"})
        if stages not in made:
            made[stages] = tmp_path_factory.mktemp("start")
            Study(config, made[stages]).start()
        return made[stages]

    return start


@pytest.mark.parametrize("name", SMALL)
def test_two_steps_of_a_small_recipe(name: str, tmp_path: Path, cold_start: Callable[[PipelineConfig], Path]) -> None:
    config = two_steps(name)
    shutil.copytree(cold_start(config), tmp_path, dirs_exist_ok=True)
    report = Study(config, tmp_path).run(controls=False)
    assert [stage["name"] for stage in report["stages"]] == [
        "base",
        "sft",
        *(f"rl-{block.name}" for block in config.rl),
    ]
