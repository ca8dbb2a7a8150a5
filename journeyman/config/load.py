"""pipelines.yaml -> `PipelineConfig`: defaults < file < dotted overrides, and every problem told with its line."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from journeyman.config.checks import Check, Fitting, PlacedError
from journeyman.config.document import Located, Problem, complain, placed, read_document
from journeyman.config.merge import merge, override
from journeyman.config.pipeline import PipelineConfig
from journeyman.config.shape import Path as KeyPath
from journeyman.config.shape import Spot, bare, is_model, locate, marked
from journeyman.errors import ConfigError, nearest

PIPELINES_FILE = Path("pipelines.yaml")


def load_pipeline(name: str, file: Path = PIPELINES_FILE, overrides: Sequence[str] = ()) -> PipelineConfig:
    """The pipeline of a name, with what it extends, its defaults and the overrides resolved.

    Raises one `ConfigError` that names every problem of this pipeline; its place is the line or the override.
    """
    tree = _resolve(name, _pipelines(file))
    for text in overrides:
        tree = override(tree, text)
    return _build(name, tree)


def pipeline_names(file: Path = PIPELINES_FILE) -> list[str]:
    """The pipelines of a file, in its order."""
    return list(_pipelines(file))


def render(config: PipelineConfig) -> str:
    """The resolved config as YAML that `load_pipeline` reads back to the same config."""
    pipeline = config.model_dump(mode="json", exclude={"name"})
    return yaml.safe_dump({"pipelines": {config.name: pipeline}}, sort_keys=False, allow_unicode=True, width=120)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of pipelines.yaml, for editors."""
    pipeline = PipelineConfig.model_json_schema()
    definitions = pipeline.pop("$defs")
    properties = {key: value for key, value in pipeline["properties"].items() if key != "name"}
    extends = {"type": "string", "description": "A pipeline that this one is laid over", "title": "Extends"}
    definitions["Pipeline"] = {**pipeline, "properties": {"extends": extends, **properties}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pipelines.yaml",
        "type": "object",
        "required": ["pipelines"],
        "additionalProperties": False,
        "patternProperties": {"^x-": {"description": "Room for anchors"}},
        "properties": {"pipelines": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Pipeline"}}},
        "$defs": definitions,
    }


def check_names(config: PipelineConfig) -> None:
    """Raise `ConfigError` for names that no registry has and paths that don't exist, however the config was made."""
    data = config.model_dump()
    complain(_faults(data, placed(data, f"pipeline {config.name}")))


def _pipelines(file: Path) -> dict[str, Located]:
    document = read_document(file)
    if not isinstance(document.value, dict) or "pipelines" not in document.value:
        remedy = "begin with `pipelines:` and, below it, a name for each"
        raise ConfigError("no `pipelines` mapping", place=document.place, remedy=remedy)
    complain(
        Problem(place=item.place, key=key, fault="unknown key", remedy="put it below `pipelines`, or call it x-...")
        for key, item in document.value.items()
        if key != "pipelines" and not key.startswith("x-")
    )
    pipelines = document.value["pipelines"]
    if not isinstance(pipelines.value, dict) or not pipelines.value:
        raise ConfigError("`pipelines` holds no pipeline", place=pipelines.place, remedy="add one: `NAME: {}`")
    return pipelines.value


def _resolve(name: str, pipelines: Mapping[str, Located], above: tuple[str, ...] = ()) -> Located:
    """A pipeline laid over the one that it extends, and so on; problems are those of `name`'s own line."""
    if name not in pipelines:
        file = next(iter(pipelines.values())).place.rpartition(":")[0]
        raise ConfigError(f"no pipeline `{name}`", place=file, remedy=nearest(name, list(pipelines)))
    own = pipelines[name]
    if own.value is None:
        return Located(place=own.place, value={})
    if not isinstance(own.value, dict):
        raise ConfigError(f"{name}: should hold keys", place=own.place, remedy="see `journeyman show` for the keys")
    rest = {key: item for key, item in own.value.items() if key != "extends"}
    if "extends" not in own.value:
        return own
    base = own.value["extends"]
    return merge(_base(base, pipelines, (*above, name)), Located(place=own.place, value=rest))


def _base(base: Located, pipelines: Mapping[str, Located], above: tuple[str, ...]) -> Located:
    if base.value in above:
        chain = " -> ".join([*above, str(base.value)])
        raise ConfigError(f"extends: a circle, {chain}", place=base.place, remedy="let one of them stand alone")
    if not isinstance(base.value, str) or base.value not in pipelines:
        remedy = nearest(str(base.value), [name for name in pipelines if name not in above])
        raise ConfigError(f"extends: no pipeline `{base.plain()}`", place=base.place, remedy=remedy)
    return _resolve(base.value, pipelines, above)


def _build(name: str, tree: Located) -> PipelineConfig:
    data = tree.plain()
    problems: list[Problem] = []
    if "name" in data:
        problems.append(_problem(tree, ("name",), "unknown key", "a pipeline's name is its key below `pipelines`"))
    try:
        config = PipelineConfig.model_validate({**data, "name": name})
    except ValidationError as error:
        complain([*problems, *(_told(tree, one) for one in error.errors()), *_faults(data, tree)])
        raise
    complain([*problems, *_faults(config.model_dump(), tree)])
    return config


def _faults(data: Mapping[str, Any], tree: Located) -> Iterator[Problem]:
    for path, mark, value in marked(PipelineConfig, data, Check):
        fault = mark.fault(value)
        if fault:
            yield _problem(tree, path, *fault)
    for path, mark, block in marked(PipelineConfig, data, Fitting):
        for key, fault, remedy in mark.misfits(block):
            yield _problem(tree, (*path, key), fault, remedy)


def _told(tree: Located, error: ErrorDetails) -> Problem:
    """A pydantic error in a user's words."""
    spot = locate(PipelineConfig, error["loc"])
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, PlacedError):
        return _problem(tree, (*spot.path, *cause.path), cause.fault, cause.remedy)
    return _problem(tree, spot.path, *_words(spot, error))


def _words(spot: Spot, error: ErrorDetails) -> tuple[str, str]:
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if given is None and (spot.arms or kind == "model_type"):
        return "is empty", "remove the line to get its defaults"
    if kind == "extra_forbidden":
        return _unknown_key(spot)
    if kind == "missing":
        return "is needed", _about(spot)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _unknown_type(spot, given)
    if kind == "literal_error":
        return f"`{given}` is not a choice", nearest(str(given), _choices(context))
    if kind == "model_type" or spot.arms:
        return f"should hold keys, is `{_short(given)}`", _about(spot)
    if kind == "value_error":
        return str(context["error"]), _about(spot)
    return f"{_lower(error['msg'])}, is `{_short(given)}`", _about(spot)


def _unknown_type(spot: Spot, given: Any) -> tuple[str, str]:
    if isinstance(given, Mapping) and "type" in given:
        return f"unknown type `{given['type']}`", nearest(str(given["type"]), list(spot.arms))
    likely = [
        kind for kind, model in spot.arms.items() if isinstance(given, Mapping) and {*given} <= {*model.model_fields}
    ]
    return "needs a `type`", "add " + " or ".join(f"`type: {kind}`" for kind in likely or spot.arms)


def _unknown_key(spot: Spot) -> tuple[str, str]:
    key = str(spot.path[-1])
    assert spot.owner is not None, spot
    homes = [kind for kind, model in spot.siblings.items() if key in model.model_fields and model is not spot.owner]
    if homes:
        own = next(kind for kind, model in spot.siblings.items() if model is spot.owner)
        return f"is not an option of type {own}", f"it belongs to `type: {homes[0]}`"
    return "unknown key", nearest(key, [name for name in spot.owner.model_fields if not _is_pipeline_name(spot, name)])


def _is_pipeline_name(spot: Spot, name: str) -> bool:
    return spot.owner is PipelineConfig and name == "name"


def _about(spot: Spot) -> str:
    """What the field is for, as its description says."""
    field = spot.owner.model_fields.get(str(spot.path[-1])) if spot.owner and spot.path else None
    if field is None or field.description:
        return f"its meaning: {field.description}" if field else ""
    model = bare(field.annotation)
    return f"its keys: {', '.join(model.model_fields)}" if is_model(model) else ""


def _choices(context: Mapping[str, Any]) -> list[str]:
    """`'a', 'b' or 'c'`, pydantic's only account of a Literal's values, as a list."""
    return [part.strip(" '") for part in str(context.get("expected", "")).replace(" or ", ", ").split(", ")]


def _lower(message: str) -> str:
    """Pydantic's sentence as the end of one of ours: `should be a valid integer`."""
    message = message.removeprefix("Input ").partition(", unable to parse")[0]
    return message[0].lower() + message[1:]


def _short(given: Any) -> str:
    text = str(given)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _problem(tree: Located, path: KeyPath, fault: str, remedy: str = "") -> Problem:
    return Problem(place=tree.place_of(path), key=_dotted(tree, path), fault=fault, remedy=remedy)


def _dotted(tree: Located, path: KeyPath) -> str:
    """The path as an override would write it: list items by their name where they have one."""
    words: list[str] = []
    node: Any = tree.plain()
    for item in path:
        node = node[item] if _has(node, item) else None
        named = isinstance(item, int) and isinstance(node, dict) and isinstance(node.get("name"), str)
        words.append(node["name"] if named and node else str(item))
    return ".".join(words)


def _has(node: Any, item: str | int) -> bool:
    if isinstance(node, list):
        return isinstance(item, int) and item < len(node)
    return isinstance(node, dict) and item in node
