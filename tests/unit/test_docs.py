"""The pages of docs/: each can be found, their links lead somewhere, and their pipelines and commands are real ones."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from infra.cli import app
from journeyman.config import PipelineConfig
from journeyman.config.load import check_names, load_pipeline
from journeyman.config.rl import EndsConfig, Inherited
from journeyman.metrics import METRICS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
STAGES = (DOCS / "stages.md").read_text(encoding="utf-8")


def targets(page: Path) -> list[tuple[Path, str]]:
    """(file, anchor) of each link of a page that leads to the project's own files."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    parted = [link.partition("#") for link in links]
    return [((page.parent / file).resolve() if file else page, anchor) for file, _, anchor in parted]


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = [
        f"{file.name}#{anchor}"
        for file, anchor in targets(page)
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]
    assert not broken


def test_every_page_is_reached_from_the_readme() -> None:
    seen, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        waiting += [file for file, _ in targets(page)]
    assert {page.name for page in PAGES} <= {page.name for page in seen}


def commands(text: str) -> list[list[str]]:
    """The words of each `journeyman ...` line in a page's code."""
    code = "\n".join(re.findall(r"```(?:sh|console)?\n(.*?)```", text, re.DOTALL))
    return [shlex.split(line, comments=True)[1:] for line in code.splitlines() if line.startswith("journeyman ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_are_there(page: Path) -> None:
    known = get_command(app).commands  # type: ignore[attr-defined]
    for words in commands(page.read_text(encoding="utf-8")):
        command = known[words[0]]
        if hasattr(command, "commands"):
            command = command.commands[words[1]]
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        unknown = [word for word in words if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in options]
        assert not unknown, words


def test_the_pipeline_of_the_page_on_stages_loads(tmp_path: Path) -> None:
    [block] = re.findall(r"```yaml\n(pipelines:.*?)```", STAGES, re.DOTALL)
    made = yaml.safe_load(block)["pipelines"]["ladder"] | {"extends": "base"}
    file = tmp_path / "pipelines.yaml"
    file.write_text(yaml.safe_dump({"pipelines": {"base": {}, "ladder": made}}), encoding="utf-8")
    accuracy, efficiency = load_pipeline("ladder", file, ["rl.efficiency.asynchrony.staleness=0"]).rl
    assert accuracy.ends.plateau and accuracy.ends.plateau.steps == 8
    assert efficiency.inherits == ["optimizer", "curriculum", "replay"] and efficiency.reference == "sft"


def test_the_page_on_stages_leaves_nothing_out() -> None:
    for name in EndsConfig.model_fields:
        assert f"`ends.{name}`" in STAGES
    for name in Inherited.__args__:
        assert f"| `{name}` |" in STAGES
    named = {word for word in re.findall(r"`([a-z]+/[a-z_]+)`", STAGES) if not word.startswith("handed_on")}
    assert named <= {*METRICS}


def test_the_block_of_the_readme_loads() -> None:
    [item] = [
        b for b in re.findall(r"```yaml\n(.*?)```", PAGES[0].read_text(encoding="utf-8"), re.DOTALL) if "inherits:" in b
    ]
    [block] = yaml.safe_load(item)
    shared = {key: block[key] for key in ("curriculum", "replay")}
    made = PipelineConfig.model_validate({"rl": [{"name": "before", **shared}, block]})
    check_names(made)
    assert made.rl[1].ends.target and made.rl[1].ends.tokens == 5_000_000
