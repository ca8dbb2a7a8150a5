"""What a stage is given to make its learner and samplers with: on Ray."""

from pathlib import Path
from typing import Any, Self

from journeyman.actors.cluster import Connection
from journeyman.actors.pool import RayPool
from journeyman.actors.remote import DeferredStart, RemoteActor, RemoteLearner
from journeyman.config import ComputeConfig, VllmSampler
from journeyman.errors import ConfigError
from journeyman.rollout.worker import RolloutWorker
from journeyman.training.handle import LearnerHandle, LearnerSpec
from journeyman.training.learner import Learner

REQUESTS_PER_SAMPLER = 1000
"""Calls that one sampler actor may have under way."""


class SamplerActor(DeferredStart, RolloutWorker):
    """The rollout worker as a Ray actor."""


class LearnerActor(DeferredStart, Learner):
    """The learner as a Ray actor."""


class RayWorkers:
    """The learner and the sampler actors of one stage, on a cluster that is up or a local one of its own."""

    def __init__(self, compute: ComputeConfig, *, max_length: int, run: str) -> None:
        self._compute, self._max_length = compute, max_length
        self._learners: dict[str, RemoteActor] = {}
        self._pool: RayPool | None = None
        self._connection = Connection(compute, namespace=f"journeyman-{run}")

    def __enter__(self) -> Self:
        try:
            self._connection.open()
        except BaseException:
            self._connection.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for role in list(self._learners):
            self._end_learner(role)
        self._end_samplers()
        self._connection.close()

    def learner(self, spec: LearnerSpec, role: str = "policy") -> LearnerHandle:
        """Start a learner, in place of an earlier one of its role. The first call waits until it has loaded its model."""
        compute = self._compute
        self._end_learner(role)
        options = {
            "num_cpus": compute.learner_cpus if role == "policy" else 0,  # the others work while it waits
            "num_gpus": compute.learner_gpus,
            "runtime_env": {"env_vars": _plain_environment(compute)},
        }
        self._check_resources(learners=len(self._learners) + 1, samplers=self._pool is not None)
        name = "learner" if role == "policy" else f"{role}-learner"
        self._learners[role] = RemoteActor(LearnerActor, (spec, compute), name=name, options=options)
        return RemoteLearner(self._learners[role])

    def samplers(self, model: Path) -> "RayPool":
        """Start the sampler actors with the model of a folder, in place of earlier ones."""
        compute = self._compute
        self._end_samplers()
        options = {
            "num_cpus": compute.sampler_cpus,
            "num_gpus": compute.sampler_gpus,
            "max_concurrency": REQUESTS_PER_SAMPLER,
            "runtime_env": sampler_environment(compute),
        }
        self._check_resources(learners=len(self._learners), samplers=True)
        arguments = (model, compute, self._max_length)
        self._pool = RayPool(
            lambda: RemoteActor(SamplerActor, arguments, name="sampler", options=options), compute.samplers
        )
        return self._pool

    def _end_learner(self, role: str) -> None:
        if (learner := self._learners.pop(role, None)) is not None:
            learner.kill()

    def _end_samplers(self) -> None:
        if self._pool is not None:
            self._pool.kill()
            self._pool = None

    def _check_resources(self, *, learners: int, samplers: bool) -> None:
        """What the cluster as a whole doesn't have would be waited for without end."""
        import ray

        compute, have = self._compute, ray.cluster_resources()
        for resource, for_learners, per_sampler in (
            ("CPU", min(1, learners) * compute.learner_cpus, compute.sampler_cpus),
            ("GPU", learners * compute.learner_gpus, compute.sampler_gpus),
        ):
            wanted = for_learners + samplers * compute.samplers * per_sampler
            if wanted > have.get(resource, 0):
                raise ConfigError(
                    f"asks for {wanted:g} {resource}s, the Ray cluster has {have.get(resource, 0):g}",
                    place="compute",
                    remedy=f"lower samplers, sampler_{resource.lower()}s or learner_{resource.lower()}s, or add nodes",
                )


def _plain_environment(compute: ComputeConfig) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(compute.threads), "TOKENIZERS_PARALLELISM": "false"}


def sampler_environment(compute: ComputeConfig) -> dict[str, Any]:
    """Ray's runtime environment of a sampler actor: its interpreter and environment variables."""
    if not isinstance(compute.sampler, VllmSampler):
        return {"env_vars": _plain_environment(compute)}
    from journeyman.rollout.vllm_sampler import environment

    # Not resolved: the interpreter of a virtual environment is a link, and its place is what makes it that one.
    python = Path(compute.sampler.python).expanduser().absolute()
    if not python.is_file():
        raise ConfigError(
            "there is no vLLM environment", place=f"compute.sampler.python = {python}", remedy="make vllm"
        )
    if 0 < compute.sampler_gpus < compute.sampler.tensor_parallel:
        raise ConfigError(
            f"an engine over {compute.sampler.tensor_parallel} GPUs does not fit into {compute.sampler_gpus:g}",
            place="compute.sampler.tensor_parallel",
            remedy="raise compute.sampler_gpus to the same number",
        )
    return {"py_executable": str(python), "env_vars": environment(compute)}
