"""Stage curate: which trajectories are kept."""

from typing import Annotated

from pydantic import Field

from journeyman.config.base import Config
from journeyman.config.checks import Registered


class CurateConfig(Config):
    rules: list[Annotated[str, Registered("journeyman.curation:RULES")]] = Field(
        default=["format", "errors", "duplicates", "leaks"],
        description="Keys of `journeyman.curation.RULES`, applied in order; each dropped row keeps its reason",
    )
