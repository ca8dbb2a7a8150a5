"""Stage curate: which rows are learned from."""

from typing import Annotated

from pydantic import Field

from journeyman.config.base import Config
from journeyman.config.checks import Expressed, HubOrLocal
from journeyman.config.measure import MeasureConfig

Rules = list[Annotated[str, Expressed("journeyman.curation:VOCABULARY")]]


class CurateConfig(Config):
    rules: Rules = Field(
        default=["format", "errors", "exact", "decontaminate", "looked_up"],
        description="Rules over the demonstrations, applied in order: near(threshold=0.9); each dropped row keeps its reason",
    )
    problems: Rules = Field(
        default=[], description="Rules over the train problems, which rl then takes from here; empty: all of them"
    )
    against: list[Annotated[str, HubOrLocal()]] = Field(
        default=[],
        description="Files of evaluated questions besides dev and heldout, JSON Lines or Parquet, for decontaminate",
    )
    measure: MeasureConfig | None = Field(
        default=None,
        title="Measure",
        description="A policy's attempts at the problems, for rules that go by them; empty: none are made",
    )
