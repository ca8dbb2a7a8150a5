"""Loading pipelines.yaml: layers, and errors that name the line, the key and the remedy."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.config import (
    DatasetProblems,
    GeneratedProblems,
    ModelConfig,
    NllObjective,
    OptimizerConfig,
    PipelineConfig,
    PretrainedModel,
    ReplayConfig,
    RlConfig,
    ScratchModel,
    SftConfig,
    TorchSampler,
    VllmSampler,
)
from journeyman.config.load import check_names, json_schema, load_pipeline, pipeline_names, render
from journeyman.errors import ConfigError

PROJECT_FILE = Path(__file__).resolve().parents[2] / "pipelines.yaml"
Load = Callable[..., PipelineConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load pipeline `p` of a text."""

    def loaded(text: str, *overrides: str, name: str = "p") -> PipelineConfig:
        file = tmp_path / "pipelines.yaml"
        file.write_text(text, encoding="utf-8")
        return load_pipeline(name, file, overrides)

    return loaded


def refused(load: Load, text: str, *overrides: str, name: str = "p") -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(text, *overrides, name=name)
    return caught.value


def line_of(error: ConfigError) -> int:
    return int(error.place.rpartition(":")[2])


@pytest.mark.parametrize("name", pipeline_names(PROJECT_FILE))
def test_every_pipeline_of_the_project_loads_and_is_read_back_from_its_rendering(name: str, load: Load) -> None:
    config = load_pipeline(name, PROJECT_FILE)
    assert config.name == name
    assert load(render(config), name=name) == config


def test_defaults_lie_below_the_file_and_the_file_below_overrides(load: Load) -> None:
    text = "pipelines: {p: {seed: 4, sft: {steps: 7}}}"
    assert load("pipelines: {p: }") == PipelineConfig(name="p")
    assert load(text) == PipelineConfig(name="p", seed=4, sft=SftConfig(steps=7))
    assert load(text, "sft.steps=9", "sft.batch=2") == PipelineConfig(name="p", seed=4, sft=SftConfig(steps=9, batch=2))


def test_a_block_lies_over_the_default_of_its_own_field(load: Load) -> None:
    """sft's optimizer is muon by default, and stays it; a block of another type starts from that type's defaults."""
    learned = load("pipelines: {p: {sft: {optimizer: {learning_rate: 0.001}}}}").sft.optimizer
    assert (learned.type, learned.learning_rate, learned.weight_decay) == ("muon", 0.001, 0.01)
    changed = load("pipelines: {p: {sft: {optimizer: {type: adamw}}}}").sft.optimizer
    assert changed == OptimizerConfig(type="adamw")
    assert SftConfig.model_validate({"optimizer": {"clip_norm": 2.0}}).optimizer.type == "muon", "for forms too"


RL = """\
pipelines:
  p:
    rl:
      - name: accuracy
        steps: 5
      - name: fewer-calls
        reward: otc
"""


def test_overrides_reach_list_items_by_name_and_by_index(load: Load) -> None:
    config = load(RL, "rl.accuracy.steps=3", "rl.1.optimizer.learning_rate=1e-4", "rl.fewer-calls.group=4")
    assert [(stage.steps, stage.group) for stage in config.rl] == [(3, 8), (RlConfig(name="a").steps, 4)]
    assert config.rl[1].optimizer.learning_rate == 1e-4


def test_overrides_reach_into_default_lists_and_mappings(load: Load) -> None:
    config = load(
        "pipelines: {p: }", "sft.optimizer.betas.0=0.8", "problems.families.tables=0", "curate.rules.0=looked_up"
    )
    assert config.sft.optimizer.betas == (0.8, 0.98)
    assert isinstance(config.problems, GeneratedProblems)
    assert config.problems.families == {"arithmetic": 1.0, "lookup": 1.0, "tables": 0.0}
    assert config.curate.rules[0] == "looked_up"


def test_null_gives_a_block_its_defaults(load: Load) -> None:
    text = "pipelines: {p: {rl: [{name: a, replay: {capacity: 9, fraction: 0.5}, curriculum: {type: bands}}]}}"
    (stage,) = load(text, "rl.a.replay=null", "rl.a.curriculum=null").rl
    assert (stage.replay.capacity, stage.curriculum.type) == (0, "uniform")


def test_override_values_are_yaml(load: Load) -> None:
    config = load(
        "pipelines: {p: }", "curate.rules=[format, looked_up]", "description='a: b'", "rl=[{name: a, steps: 2}]"
    )
    assert (config.curate.rules, config.description, config.rl[0].steps) == (["format", "looked_up"], "a: b", 2)


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("sft.stpes=10", "did you mean `steps`?"),
        ("stf.steps=10", "did you mean `sft`?"),
        ("rl.accuracyy.steps=1", "did you mean `accuracy`?"),
        ("rl.7.steps=1", "one of `accuracy`, `fewer-calls`"),
        ("sft.steps", "write KEY=VALUE"),
        ("name=x", "key below `pipelines`"),
        ("rl.accuracy.reward=correkt", "did you mean `correct`?"),
    ],
)
def test_a_wrong_override_is_named(load: Load, override: str, remedy: str) -> None:
    error = refused(load, RL, override)
    assert error.place == f"override `{override}`"
    assert remedy in error.remedy


WRONG = {
    "unknown key": ("sft:\n      stpes: 3", 2, "sft.stpes: unknown key", "did you mean `steps`?"),
    "unknown block": ("stf:\n      steps: 3", 1, "stf: unknown key", "did you mean `sft`?"),
    "wrong type": ("sft:\n      steps: many", 2, "sft.steps: should be a valid integer, is `many`", "Optimizer steps"),
    "truth for a number": ("sft:\n      steps: yes", 2, "sft.steps: should be a valid integer", ""),
    "out of range": ("evaluate: {samples: 0}", 1, "greater than or equal to 1, is `0`", ""),
    "infinite": ("evaluate: {temperature: .inf}", 1, "evaluate.temperature: should be a finite number", ""),
    "unknown type of a union": ("compute:\n      sampler: {type: torhc}", 2, "unknown type `torhc`", "mean `torch`?"),
    "no type of a union": ("problems:\n      path: openai/gsm8k", 1, "problems: needs a `type`", "`type: dataset`"),
    "another type's option": ("model: {type: scratch, revision: x}", 1, "not an option of type scratch", "pretrained"),
    "another type's option, implied": (
        "compute:\n      sampler:\n        type: torch\n        tensor_parallel: 2",
        4,
        "compute.sampler.tensor_parallel: is not an option of type torch",
        "`type: vllm`",
    ),
    "unknown choice": ("rl: [{name: a, objective: {type: gpro}}]", 1, "unknown type `gpro`", "mean `grpo`?"),
    "missing": ("rl:\n      - name: a\n      - steps: 3", 3, "rl.1.name: is needed", "rl-NAME"),
    "empty block": ("synthesize:", 1, "synthesize: is empty", "remove the line"),
    "list for a block": ("sft: [1]", 1, "sft: should hold keys", ""),
    "same names": (
        "rl:\n      - name: a\n      - name: a",
        3,
        "rl.a.name: `a` is the name of a block before",
        "another",
    ),
    "nothing to inherit": (
        "rl:\n      - name: a\n        inherits: [replay]",
        3,
        "rl.a.inherits: there is no rl block before it",
        "remove `inherits`",
    ),
    "a reference to come": (
        "rl:\n      - name: a\n        reference: rl-b\n      - name: b",
        3,
        "rl.a.reference: no stage before is called `rl-b`",
        "`sft`",
    ),
    "a block as a reference": (
        "rl:\n      - name: a\n      - name: b\n        reference: a",
        4,
        "no stage before is called `a`",
        "`rl-a`",
    ),
    "unknown metric": (
        "rl:\n      - name: a\n        ends: {target: {metric: rollout/accurazy, above: 0.9}}",
        3,
        "rl.a.ends.target.metric: no step has a metric `rollout/accurazy`",
        "did you mean `rollout/accuracy`?",
    ),
    "a metric of another stage": (
        "rl:\n      - name: a\n        ends: {plateau: {metric: eval/accuracy_greedy}}",
        3,
        "no step has a metric `eval/accuracy_greedy`",
        "one of `rollout/reward_mean`",
    ),
    "a threshold without a name": (
        "rl:\n      - name: a\n        monitors: {staleness: 3}",
        3,
        "rl.a.monitors.staleness: should hold keys, is `3`",
        "its keys: warn, pause, stop",
    ),
    "unknown reward": (
        "rl:\n      - name: a\n        reward: correkt",
        3,
        "there is no reward `correkt`",
        "`correct`?",
    ),
    "unknown credit": ("rl: [{name: a, credit: groop}]", 1, "rl.a.credit", "did you mean `group`?"),
    "unknown family": (
        "problems: {type: generated, families: {tablez: 1}}",
        1,
        "problems.families.tablez",
        "`tables`?",
    ),
    "unknown rule": ("curate:\n      rules:\n        - format\n        - verifed", 4, "curate.rules.1", "`verified`?"),
    "family without a generator": ("problems: {type: generated, families: {gsm8k: 1}}", 1, "`generate`", "one of"),
    "missing model folder": ("model: {path: ./no/model}", 1, "no folder `./no/model`", "a path that exists"),
    "path of three words": ("model: {path: a/b/c}", 1, "no folder `a/b/c`", "a path that exists"),
    "missing data": (
        "problems: {type: dataset, path: ~/no-such.jsonl}\n    synthesize: {teacher: annotations}",
        1,
        "no file or folder",
        "a path that exists",
    ),
    "muon's rate without muon": (
        "sft:\n      optimizer:\n        type: adamw\n        muon_learning_rate: 0.1",
        4,
        "has no effect with type adamw",
        "",
    ),
    "clip without clipping": (
        "rl: [{name: a, objective: {type: nll, clip_low: 0.1}}]",
        1,
        "not an option of type nll",
        "",
    ),
    "replay without a buffer": ("rl: [{name: a, replay: {fraction: 0.5}}]", 1, "no effect with capacity 0", ""),
    "buffer without replay": ("rl: [{name: a, replay: {capacity: 5}}]", 1, "replay.fraction: is needed", ""),
    "mistakes of annotations": (
        "synthesize: {teacher: {type: annotations, mistakes: 0.1}}",
        1,
        "teacher.mistakes: is not an option of type annotations",
        "`type: scripted`",
    ),
    "unknown teacher": ("synthesize: {teacher: anotations}", 1, "unknown type `anotations`", "mean `annotations`?"),
    "teacher without a server": ("synthesize: {teacher: {type: endpoint, model: m}}", 1, "base_url: is needed", "http"),
    "policy from scratch": ("synthesize: {teacher: policy}", 1, "a model from scratch can teach nothing yet", ""),
    "unknown strategy": (
        "synthesize:\n      strategies:\n        - plain\n        - rejektion(tries=2)",
        4,
        "there is no strategy `rejektion`",
        "`rejection`?",
    ),
    "no strategy": ("synthesize: {strategies: []}", 1, "at least 1 item", ""),
    "budget of a script": ("synthesize:\n      budget: {cost: 5}", 2, "asks no model", "remove `budget`"),
    "budget without a price": (
        "synthesize:\n      teacher: {type: endpoint, base_url: http://x/v1, model: m}\n      budget: {cost: 5}",
        3,
        "nothing has a price",
        "price_per_million_input_tokens",
    ),
    "heads that don't share": ("model: {type: scratch, heads: 3, kv_heads: 2}", 1, "should divide the 3 heads", ""),
    "a name of its own": ("name: q", 1, "name: unknown key", "key below `pipelines`"),
    "twice the same key": ("seed: 1\n    seed: 2", 2, "seed: stands twice, first in line 3", "keep one"),
    "a key that is no text": ("1: 2", 1, "a key must be text", "quotes"),
    "a date that is none": ("description: 2020-99-99", 1, "`2020-99-99` cannot be read", ""),
    "an alias of itself": ("sft: &a {x: *a}", 1, "contains itself", ""),
    "broken YAML": ("sft: {steps: 3", 2, "broken YAML, column 1", "look at this line"),
    "a tab": ("sft:\n\t  steps: 3", 2, "broken YAML, column 1", "look at this line"),
    "a Python object": ("sft: !!python/object:os.system {}", 1, "a value of type", "plain mapping"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_with_its_line(case: str, load: Load) -> None:
    text, line, message, remedy = WRONG[case]
    error = refused(load, f"pipelines:\n  p:\n    {text}\n")
    assert (line_of(error), error.place.rpartition("/")[2].rpartition(":")[0]) == (2 + line, "pipelines.yaml")
    assert message in error.message
    assert remedy in error.remedy


def test_all_problems_are_told_in_the_order_of_the_file(load: Load) -> None:
    text = (
        "pipelines:\n  p:\n    seeed: 1\n    sft:\n      steps: no\n    rl:\n      - {name: a, reward: x, credit: y}\n"
    )
    error = refused(load, text, "evaluate.samples=0")
    lines = error.message.splitlines()
    assert line_of(error) == 3
    assert [line.split(": ")[1] for line in lines[1:]] == [
        "sft.steps",
        "rl.a.reward",
        "rl.a.credit",
        "evaluate.samples",
    ]
    assert lines[0].startswith("seeed: unknown key (did you mean `seed`?)")
    assert "5 problems" in error.remedy


def test_a_missing_file_and_files_that_hold_no_pipelines(load: Load, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_pipeline("p", tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_pipeline("p", tmp_path)
    for text in ("", "[]", "pipelines:", "pipelines: []", "p: {}"):
        assert line_of(refused(load, text)) == 1
    assert "x-..." in refused(load, "pipelines: {p: }\nextra: 1").remedy
    (tmp_path / "latin.yaml").write_bytes(b"pipelines: {p: {description: \xe9}}")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_pipeline("p", tmp_path / "latin.yaml")


def test_an_unknown_pipeline_names_the_nearest(load: Load) -> None:
    error = refused(load, "pipelines: {quickstart: , gsm8k: }", name="quikstart")
    assert (error.message, error.remedy) == ("no pipeline `quikstart`", "did you mean `quickstart`?")


ANCHORS = """\
x-small: &small
  steps: 2
  group: 4
pipelines:
  p:
    rl:
      - {name: a, <<: *small}
      - name: b
        <<: *small
        group: 6
"""


def test_anchors_and_merge_keys(load: Load) -> None:
    assert [(stage.steps, stage.group) for stage in load(ANCHORS).rl] == [(2, 4), (2, 6)]
    broken = ANCHORS.replace("group: 4", "groop: 4")
    assert line_of(refused(load, broken)) == 3, "the line where the merged key stands"


def test_a_block_that_merges_another_can_be_merged_again(load: Load) -> None:
    twice = """
x-rates: &rates {learning_rate: 0.5, warmup_steps: 3}
pipelines:
  p:
    rl:
      - &first {name: a, optimizer: {<<: *rates, warmup_steps: 7}}
      - {<<: *first, name: b}
"""
    optimizers = [stage.optimizer for stage in load(twice).rl]
    assert [(one.learning_rate, one.warmup_steps) for one in optimizers] == [(0.5, 7), (0.5, 7)]


EXTENDS = """\
pipelines:
  p:
    extends: middle
    sft: {batch: 3}
  middle:
    extends: base
    model: {path: owner/name}
    rl: [{name: only}]
  base:
    sft: {steps: 5, batch: 4}
    model: {type: scratch, layers: 2}
    rl: [{name: a}, {name: b}]
    problems: {type: generated, families: {tables: 1}}
"""


def test_a_pipeline_may_lie_over_another(load: Load) -> None:
    config = load(EXTENDS)
    assert (config.sft.steps, config.sft.batch) == (5, 3), "blocks merge"
    assert [stage.name for stage in config.rl] == ["only"], "lists are replaced"
    assert config.model == PretrainedModel(path="owner/name"), "another type replaces the block"
    assert isinstance(config.problems, GeneratedProblems)
    assert config.problems.families == {"tables": 1.0}
    assert line_of(refused(load, EXTENDS.replace("layers", "layres"), name="base")) == 11


def test_what_extends_in_a_circle_or_nothing(load: Load) -> None:
    circle = refused(load, "pipelines:\n  p: {extends: q}\n  q:\n    extends: p\n")
    assert (line_of(circle), circle.message) == (4, "extends: a circle, p -> q -> p")
    nothing = refused(load, "pipelines:\n  p: {extends: quikstart}\n  quickstart:\n")
    assert (line_of(nothing), nothing.remedy) == (2, "did you mean `quickstart`?")
    assert "circle" in refused(load, "pipelines: {p: {extends: p}}").message


@pytest.mark.parametrize(
    ("text", "override", "expected"),
    [
        ("{type: scratch, layers: 2}", "model.path=owner/name", PretrainedModel(path="owner/name")),
        ("{type: scratch, layers: 2}", "model.heads=4", ScratchModel(layers=2, heads=4)),
        ("{path: a/b, revision: r}", "model.path=owner/name", PretrainedModel(path="owner/name", revision="r")),
        ("{path: a/b}", "model={type: scratch, layers: 3}", ScratchModel(layers=3)),
        ("{layers: 2}", "model={heads: 4}", ScratchModel(layers=2, heads=4)),
    ],
)
def test_overrides_may_change_the_type_of_a_block(load: Load, text: str, override: str, expected: ModelConfig) -> None:
    assert load(f"pipelines: {{p: {{model: {text}}}}}", override).model == expected


def test_a_block_without_a_type_has_the_default_one(load: Load) -> None:
    assert load("pipelines: {p: }", "compute.sampler.slots=3").compute.sampler == TorchSampler(slots=3)
    changed = load("pipelines: {p: {compute: {sampler: {slots: 3}}}}", "compute.sampler.type=vllm")
    assert changed.compute.sampler == VllmSampler()


def test_a_local_model_and_data_are_found(load: Load, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    text = f"pipelines: {{p: {{model: {{path: {tmp_path}/model}}}}}}"
    assert "no config.json" in refused(load, text).message
    (tmp_path / "model" / "config.json").write_text("{}")
    assert load(text).model == PretrainedModel(path=f"{tmp_path}/model")


def test_a_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert PretrainedModel(path="~/model").path == f"{tmp_path}/model"
    assert DatasetProblems(path="~/rows.jsonl").path == f"{tmp_path}/rows.jsonl"


def test_numbers_in_yaml_1_2_notation(load: Load) -> None:
    assert load("pipelines: {p: {sft: {optimizer: {learning_rate: 5e-4}}}}").sft.optimizer.learning_rate == 5e-4


def test_names_are_checked_for_configs_from_elsewhere() -> None:
    check_names(PipelineConfig())
    with pytest.raises(ConfigError, match=r"pipeline quickstart.*rl\.a\.reward") as caught:
        check_names(PipelineConfig(rl=[RlConfig(name="a", reward="correkt")]))
    assert caught.value.remedy == "did you mean `correct`?"


def test_options_that_are_at_their_defaults_are_no_errors() -> None:
    """A resolved config holds every option: it must be possible to read it back."""
    for made in (OptimizerConfig(), NllObjective(), ReplayConfig(), PipelineConfig()):
        assert type(made).model_validate(made.model_dump()) == made


def test_the_json_schema_knows_the_file(load: Load) -> None:
    schema = json_schema()
    pipeline = schema["$defs"]["Pipeline"]
    assert "extends" in pipeline["properties"] and "name" not in pipeline["properties"]
    assert pipeline["additionalProperties"] is False
    assert "correct * otc" in schema["$defs"]["RlConfig"]["properties"]["reward"]["examples"]
    assert json.loads(json.dumps(schema)) == schema


_SEEDS = st.integers(0, 2**31)
_RATES = st.floats(1e-8, 1.0)


@settings(max_examples=25, deadline=None)
@given(
    seed=_SEEDS,
    rate=_RATES,
    description=st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), max_size=30),
    slots=st.integers(1, 999),
    names=st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), unique=True, max_size=3),
)
def test_any_config_is_read_back_from_its_rendering(
    seed: int, rate: float, description: str, slots: int, names: list[str]
) -> None:
    config = PipelineConfig.model_validate(
        {
            "name": "p",
            "seed": seed,
            "description": description,
            "compute": {"sampler": {"slots": slots}},
            "sft": {"optimizer": {"learning_rate": rate}},
            "rl": [{"name": name, "replay": {"capacity": 3, "fraction": rate}} for name in names],
        }
    )
    pipeline = yaml.safe_load(render(config))["pipelines"]["p"]
    assert PipelineConfig.model_validate({"name": "p", **pipeline}) == config


def test_an_expression_is_shown_on_one_line_however_it_was_written(load: Load) -> None:
    text = """\
pipelines:
  p:
    rl:
      - name: a
        reward: >
          correct
          + gate( correct,0.1*tool_success )
        credit: (0.5*group+0.5 * group_mean)
"""
    config = load(text)
    assert config.rl[0].reward == "correct + gate(correct, 0.1 * tool_success)"
    assert config.rl[0].credit == "0.5 * group + 0.5 * group_mean"
    assert load(render(config)) == config
    assert "reward: correct + gate(correct, 0.1 * tool_success)\n" in render(config)
