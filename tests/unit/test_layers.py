"""The house: imports go one way, heavy ones live only where they are used."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LAYERS: dict[int, set[str]] = {
    0: {
        *("problem", "trajectory", "errors", "config", "artifacts", "progress"),
        *("metrics", "seeds", "runs", "provenance", "messages", "llm", "expressions", "pages", "store"),
    },
    1: {"tools", "environments", "graders", "formats", "rewards", "credit", "curriculum", "replay", "curation"},
    2: {"rollout", "training", "synthesis"},
    3: {"reward_models", "evaluation", "monitors"},
    4: {"actors", "tracking", "catalog"},
}
LAYER = {name: layer for layer, names in LAYERS.items() for name in names}

HEAVY = ("torch", "ray", "vllm", "prefect", "mlflow", "duckdb", "transformers", "datasets")
FORBIDDEN = {
    "journeyman": {"prefect", "flows", "tasks", "infra"},
    "tasks": {"flows", "infra"},
    "flows": {"infra", "torch", "vllm", "ray", "duckdb", "mlflow"},
}
LIGHT = ("config", "config.load", "rewards", "credit", "environments", "curation", "tracking", "errors", "progress")


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def modules_imported(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, anywhere in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def part(module: str) -> str:
    """`journeyman.training.sft` -> `training`; empty for anything else."""
    words = module.split(".")
    return words[1] if words[0] == "journeyman" and len(words) > 1 else ""


def part_of_file(path: Path) -> str:
    return part(".".join(path.relative_to(ROOT).with_suffix("").parts))


def imports_inside() -> list[tuple[Path, int, str, str]]:
    """(file, line, importing part, imported part) for the library's imports of itself."""
    return [
        (path, line, part_of_file(path), part(module))
        for path in files("journeyman")
        for module, line in modules_imported(path)
        if part(module) and part_of_file(path) != "__init__"
    ]


def test_every_part_of_the_library_has_a_layer() -> None:
    parts = {part_of_file(path) for path in files("journeyman")} - {"__init__"}
    assert parts - LAYER.keys() == set()


def test_imports_never_go_up() -> None:
    upwards = [
        f"{path.relative_to(ROOT)}:{line}: {own} (L{LAYER[own]}) imports {other} (L{LAYER[other]})"
        for path, line, own, other in imports_inside()
        if LAYER[other] > LAYER[own]
    ]
    assert upwards == []


def test_parts_do_not_import_each_other_in_a_circle() -> None:
    needs: dict[str, set[str]] = {name: set() for name in LAYER}
    for _, _, own, other in imports_inside():
        if own != other:
            needs[own].add(other)
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_folders_import_what_they_may(folder: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in files(folder)
        for module, line in modules_imported(path)
        if module.split(".")[0] in FORBIDDEN[folder]
    }
    assert wrong == set()


@pytest.mark.parametrize("module", LIGHT)
def test_importing_stays_light(module: str) -> None:
    program = f"import sys, journeyman.{module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_loading_a_pipeline_stays_light() -> None:
    program = (
        "import sys; from pathlib import Path; from journeyman.config.load import json_schema, load_pipeline;"
        f"load_pipeline('quickstart', Path('pipelines.yaml')); json_schema();"
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_there_is_no_utils_module() -> None:
    folders = ("journeyman", "flows", "tasks", "infra", "tests", "bench")
    assert [path for folder in folders for path in files(folder) if path.stem in ("utils", "util", "helpers")] == []
