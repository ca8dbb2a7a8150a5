"""The shape of config models, read from their annotations: which keys, which types, what lies at a path."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel

Path = tuple[str | int, ...]


def bare(annotation: Any) -> Any:
    """An annotation without `Annotated` and without `| None`."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if is_union(annotation):
        rest = [arm for arm in get_args(annotation) if arm is not NoneType]
        return bare(rest[0]) if len(rest) == 1 else annotation
    return annotation


def is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)


def is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def arms(annotation: Any) -> dict[str, type[BaseModel]]:
    """The models of a union by their `type`; empty for anything else."""
    annotation = bare(annotation)
    if not is_union(annotation):
        return {}
    models = [bare(arm) for arm in get_args(annotation)]
    return {get_args(model.model_fields["type"].annotation)[0]: model for model in models if is_model(model)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """What a pydantic error's location points at."""

    path: Path
    """Keys and indices as they stand in the file: without the union tags that pydantic puts between."""
    owner: type[BaseModel] | None
    """The model whose field or unknown key is the path's last item."""
    siblings: Mapping[str, type[BaseModel]]
    """Where `owner` is one type of a union: all of them, by type."""
    arms: Mapping[str, type[BaseModel]]
    """Where the path itself leads to a union: its models."""


def locate(model: type[BaseModel], location: Sequence[str | int]) -> Spot:
    """Follow a pydantic error's `loc` through the annotations."""
    path: list[str | int] = []
    annotation: Any = model
    owner: type[BaseModel] | None = None
    siblings: Mapping[str, type[BaseModel]] = {}
    family: Mapping[str, type[BaseModel]] = {}
    for item in location:
        annotation = bare(annotation)
        if item in arms(annotation):
            family = arms(annotation)
            annotation = family[str(item)]
            continue
        if item == "[key]":
            continue
        path.append(item)
        owner, siblings, family = (annotation, family, {}) if is_model(annotation) else (None, {}, {})
        annotation = child(annotation, item)
    return Spot(path=tuple(path), owner=owner, siblings=siblings, arms=arms(annotation))


def child(annotation: Any, item: str | int) -> Any:
    """The annotation of a key or an index; None where there is no such thing."""
    if is_model(annotation):
        field = annotation.model_fields.get(str(item))
        return field.annotation if field else None
    inner = get_args(annotation)
    if get_origin(annotation) is dict:
        return inner[1]
    return inner[0] if get_origin(annotation) in (list, tuple) else None


def marked(annotation: Any, value: Any, kind: type, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    """Every (path, mark, value) in nested plain data where the annotation carries a mark of a class.

    Values of the wrong type are passed over: validation reports those.
    """
    if get_origin(annotation) is Annotated:
        yield from ((path, mark, value) for mark in annotation.__metadata__ if isinstance(mark, kind))
    annotation = bare(annotation)
    if isinstance(value, Mapping):
        yield from _marked_mapping(annotation, value, kind, path)
    elif isinstance(value, list | tuple) and get_origin(annotation) in (list, tuple):
        for index, item in enumerate(value):
            yield from marked(get_args(annotation)[0], item, kind, (*path, index))


def _marked_mapping(annotation: Any, value: Mapping, kind: type, path: Path) -> Iterator[tuple[Path, Any, Any]]:
    if get_origin(annotation) is dict:
        of_key, of_value = get_args(annotation)
        for key, item in value.items():
            yield from marked(of_key, key, kind, (*path, key))
            yield from marked(of_value, item, kind, (*path, key))
        return
    union = arms(annotation)
    if union:
        annotation = union.get(str(value.get("type")))
    if not is_model(annotation):
        return
    for key, item in value.items():
        field = annotation.model_fields.get(key)
        if field is None:
            continue
        yield from (((*path, key), mark, item) for mark in field.metadata if isinstance(mark, kind))
        yield from marked(field.annotation, item, kind, (*path, key))
