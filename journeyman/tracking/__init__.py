"""MLflow: a parent run a pipeline run, a child run a stage. Importing this imports no MLflow."""

from journeyman.tracking.tracker import RunTracker, StageTracker, Tracker

__all__ = ["RunTracker", "StageTracker", "Tracker"]
