"""The Ray actors of a stage, and the same without Ray.

Actors belong to the process that made them: they end when the `with` block is left, however that happens, and with the
process when it is killed. Nodes of a cluster need the project installed, and the model folders at the same paths.
"""

from journeyman.actors.inline import InlineWorkers
from journeyman.actors.workers import RayWorkers

__all__ = ["InlineWorkers", "RayWorkers"]
