"""What is watched while a policy learns. To add a monitor: a function, a line in `MONITORS`, one in its config, a test."""

from journeyman.monitors.watch import MONITORS, Monitors

__all__ = ["MONITORS", "Monitors"]
