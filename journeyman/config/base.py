"""What every config model shares: strictness, and defaults that reach into nested blocks."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator
from pydantic.fields import FieldInfo

from journeyman.config.shape import arms

T = TypeVar("T")


def _title(model: type) -> str:
    return model.__name__.removesuffix("Config")


class Config(BaseModel):
    """Strict and frozen: an unknown key is an error, never ignored.

    A nested block lies over the default of *its* field: with `sft.optimizer` muon by default, a file that says no more
    than `optimizer: {learning_rate: 0.001}` keeps muon. A block that names another `type` starts from that type's own.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, model_title_generator=_title
    )

    @model_validator(mode="before")
    @classmethod
    def _lie_over_defaults(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        fields = cls.model_fields
        return {key: _written(fields[key], value) if key in fields else value for key, value in data.items()}


def _written(field: FieldInfo, value: Any) -> Any:
    if isinstance(value, bool) and field.annotation in (int, float):
        return str(value)  # pydantic would take `yes` for 1; of the word it says that it's no number
    return over_default(field, value)


def over_default(field: FieldInfo, value: Any) -> Any:
    """A block as written in a file, completed by what its field's default says explicitly."""
    default = field.get_default(call_default_factory=True, validated_data={})
    if not isinstance(value, Mapping) or not isinstance(default, BaseModel):
        return value
    kind = block_kind(field, value)
    if kind != _kind(default):
        return value
    written = default.model_dump(exclude_unset=True)
    return {**({"type": kind} if kind else {}), **overlay(written, value)}


def block_kind(field: FieldInfo, value: Mapping[str, Any]) -> str | None:
    """The `type` of a block: what it says, else the type that alone has one of its keys, else its default's."""
    if "type" in value:
        return str(value["type"])
    default = field.get_default(call_default_factory=True, validated_data={})
    own = type(default).model_fields if isinstance(default, BaseModel) else {}
    for kind, arm in arms(field.annotation).items():
        if any(key in arm.model_fields and key not in own for key in value):
            return kind
    return _kind(default) if isinstance(default, BaseModel) else None


def overlay(base: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested mappings as one; the upper one's values win."""
    merged = dict(base)
    for key, value in upper.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = overlay(merged[key], value) if both else value
    return merged


def only_with(model: type[BaseModel], value: T, info: ValidationInfo, *, other: str, is_in: tuple[Any, ...]) -> T:
    """For field validators: an option that does nothing unless `other` is one of `is_in` must keep its default.

    `other` has to be declared before the field; where it was itself wrong, nothing is said twice.
    """
    chosen = info.data.get(other, is_in[0])
    if chosen not in is_in and value != model.model_fields[info.field_name or ""].default:
        wanted = " or ".join(str(one) for one in is_in)
        raise ValueError(f"has no effect with {other} {chosen}; it is used with {other} {wanted}")
    return value


def _kind(model: BaseModel) -> str | None:
    return str(vars(model)["type"]) if "type" in type(model).model_fields else None


def above_low(high: float, info: ValidationInfo) -> float:
    """For field validators: an upper bound is above the field `low`."""
    if high <= info.data.get("low", high - 1):
        raise ValueError("should be above `low`")
    return high
