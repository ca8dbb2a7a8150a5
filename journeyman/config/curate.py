"""Stage curate: which trajectories are kept."""

from pydantic import Field

from journeyman.config.base import Config


class CurateConfig(Config):
    rules: list[str] = Field(
        default=["format", "errors", "duplicates", "leaks"],
        description="Keys of `journeyman.curation.RULES`, applied in order; each dropped row keeps its reason",
    )
