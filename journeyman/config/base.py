"""What every config model shares."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Strict and frozen: an unknown key is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
