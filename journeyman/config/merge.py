"""Layers of a config laid over each other: a pipeline over the one it extends, overrides over the file."""

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import get_args

from pydantic.fields import FieldInfo

from journeyman.config.base import block_kind
from journeyman.config.document import Located, parse_document, placed
from journeyman.config.pipeline import PipelineConfig
from journeyman.config.shape import arms, bare, child, is_model
from journeyman.errors import ConfigError, nearest


def merge(base: Located, upper: Located) -> Located:
    """A pipeline over the one it extends: blocks merge key by key, everything else is replaced, lists too.

    A block that chooses another `type` than the block below it replaces it whole.
    """
    return _merge(base, upper, PipelineConfig.model_fields)


def _merge(base: Located, upper: Located, fields: Mapping[str, FieldInfo]) -> Located:
    merged = dict(base.value)
    for key, item in upper.value.items():
        merged[key] = _over(merged.get(key), item, fields.get(key))
    return Located(place=upper.place, value=merged)


def _over(below: Located | None, upper: Located, field: FieldInfo | None) -> Located:
    """One value over another."""
    if below is None or field is None or not isinstance(below.value, dict) or not isinstance(upper.value, dict):
        return upper
    if _changes_type(field, below, upper):
        return upper
    fields = _fields_of(field, below)
    return _merge(below, upper, fields) if fields else upper


def _changes_type(field: FieldInfo, below: Located, upper: Located) -> bool:
    """Whether a block asks for another type of the union than the one it is laid over."""
    kinds = arms(field.annotation)
    kind = block_kind(field, below.plain())
    if kind not in kinds:
        return False
    if "type" in upper.value:
        return upper.value["type"].plain() != kind
    own = kinds[kind].model_fields
    return any(key in arm.model_fields and key not in own for arm in kinds.values() for key in upper.value)


def _fields_of(field: FieldInfo | None, block: Located | None) -> Mapping[str, FieldInfo]:
    """The fields of the model that a block is for; empty where it is for no model."""
    if field is None:
        return {}
    value = block.plain() if block else None
    kind = block_kind(field, value if isinstance(value, dict) else {})
    model = arms(field.annotation).get(str(kind), bare(field.annotation))
    return model.model_fields if is_model(model) else {}


def override(tree: Located, text: str) -> Located:
    """Set one value: `sft.steps=10`, `rl.accuracy.steps=3` or `rl.0.steps=3`, `curate.rules=[format, leaks]`.

    The value is YAML. A block (`model={path: ...}`) is laid over the block that is there, as with `extends`; `null` for a
    block that can't be empty takes its lines away, so that it has its defaults.
    """
    key, equals, value = text.partition("=")
    place = f"override `{text}`"
    path = key.strip().split(".")
    if not equals or not all(path):
        raise ConfigError("cannot be read", place=place, remedy="write KEY=VALUE, such as sft.steps=10")
    return _set(tree, path, parse_document(value, lambda line: place), PipelineConfig.model_fields)


def _set(tree: Located, path: Sequence[str], leaf: Located, fields: Mapping[str, FieldInfo]) -> Located:
    """`tree` with the value at `path` replaced; `fields` are those of the model that `tree` is for."""
    key, rest = path[0], path[1:]
    if isinstance(tree.value, list):
        items = [*tree.value]
        index = _index(items, key, leaf.place)
        items[index] = _set(items[index], rest, leaf, fields) if rest else leaf
        return Located(place=tree.place, value=items)
    known = tree.value if isinstance(tree.value, dict) else {}
    field = fields.get(key)
    below = known.get(key, _default(field, leaf.place))
    if not rest:
        if leaf.value is None and key in known and _never_empty(field):
            return Located(place=tree.place, value={name: item for name, item in known.items() if name != key})
        return Located(place=tree.place, value={**known, key: _over(below, leaf, field)})
    first = Located(place=leaf.place, value={rest[0]: leaf})
    if below is None or (field and isinstance(below.value, dict) and _changes_type(field, below, first)):
        below = Located(place=leaf.place, value={})
    inner = _item_fields(field) or _fields_of(field, below)
    return Located(place=tree.place, value={**known, key: _set(below, rest, leaf, inner)})


def _never_empty(field: FieldInfo | None) -> bool:
    """Whether it is for a block that is always there."""
    if field is None or NoneType in get_args(field.annotation):
        return False
    return is_model(bare(field.annotation)) or bool(arms(field.annotation))


def _item_fields(field: FieldInfo | None) -> Mapping[str, FieldInfo]:
    """The fields of a list's items."""
    item = bare(child(bare(field.annotation), 0)) if field else None
    return item.model_fields if is_model(item) else {}


def _default(field: FieldInfo | None, place: str) -> Located | None:
    """A field's default where it is a plain list or mapping: one item of it can be overridden."""
    value = field.get_default(call_default_factory=True, validated_data={}) if field else None
    return placed(value, place) if isinstance(value, list | tuple | dict) else None


def _index(items: Sequence[Located], word: str, place: str) -> int:
    """A list item by its index or by its `name`."""
    names = [
        item.value["name"].plain() if isinstance(item.value, dict) and "name" in item.value else "" for item in items
    ]
    if word in names:
        return names.index(word)
    if word.isdecimal() and int(word) < len(items):
        return int(word)
    choices = [str(name) for name in names if name] or [str(index) for index in range(len(items))]
    raise ConfigError(f"no item `{word}` in the list", place=place, remedy=nearest(word, choices))
