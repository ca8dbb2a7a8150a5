"""The build step of prefect.yaml: what the deployments' forms are prefilled with, read afresh at each registration."""

from typing import Any

from journeyman.config.load import load_pipeline, pipeline_names


def pipelines() -> dict[str, dict[str, Any]]:
    """Name to resolved config (JSON) of every pipeline in pipelines.yaml."""
    return {name: load_pipeline(name).model_dump(mode="json") for name in pipeline_names()}
