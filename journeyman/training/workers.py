"""What the training loops are given: the makers of learners and sampler pools."""

from pathlib import Path
from typing import Protocol, Self

from journeyman.rollout.job import SamplerPool
from journeyman.training.handle import LearnerHandle, LearnerSpec


class Workers(Protocol):
    """The actors of one stage, or plain objects in process. Leaving the context ends all of them."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def learner(self, spec: LearnerSpec, role: str = "policy") -> LearnerHandle:
        """Start a learner, in place of an earlier one of its role: a process reward model learns beside the policy."""
        ...

    def samplers(self, model: Path) -> SamplerPool:
        """Start the sampler actors with the model of a folder, in place of earlier ones."""
        ...
