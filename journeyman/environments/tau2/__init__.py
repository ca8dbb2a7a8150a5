"""Service desks in the format of tau2-bench: domains, tasks, verdicts, replay."""

from journeyman.environments.tau2.desk import Desk
from journeyman.environments.tau2.world import KITS, Domain, World

__all__ = ["KITS", "Desk", "Domain", "World"]
