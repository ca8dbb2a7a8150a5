"""Learner and sampler in this process, without Ray."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from journeyman.config import ComputeConfig
from journeyman.errors import InfrastructureError
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.worker import RolloutWorker
from journeyman.training.handle import LearnerHandle, LearnerSpec
from journeyman.training.learner import Learner
from journeyman.trajectory import Trajectory

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
CLOSED = "the sampler was closed"


class InlineWorkers:
    """The same in this process, one sampler, without Ray: for tests, notebooks and debuggers."""

    def __init__(self, compute: ComputeConfig, *, max_length: int) -> None:
        self._compute, self._max_length = compute, max_length
        self._pool: InlinePool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def learner(self, spec: LearnerSpec, role: str = "policy") -> LearnerHandle:
        return Learner(spec, self._compute)

    def samplers(self, model: Path) -> "InlinePool":
        self.__exit__()
        self._pool = InlinePool(RolloutWorker(model, self._compute, self._max_length))
        return self._pool


class InlinePool:
    """One rollout worker behind the SamplerPool protocol, with an event loop in a thread of its own.

    Calls may come from several threads at once.
    """

    def __init__(self, worker: RolloutWorker) -> None:
        self._worker = worker
        self._loop = asyncio.new_event_loop()
        self._gate, self._closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._serve, args=(_threads_here(),), name="sampler", daemon=True)
        self._thread.start()

    def _serve(self, threads: int) -> None:
        """`threads`: of torch, which counts them for each of its callers' threads."""
        import torch

        torch.set_num_threads(threads)
        self._loop.run_forever()

    def _call(self, work: "Coroutine[Any, Any, T]") -> T:
        # A call that comes between the loop's last task and its end would wait for ever.
        with self._gate:
            if self._closed:
                work.close()
                raise InfrastructureError(CLOSED)
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError as error:
            raise InfrastructureError(CLOSED) from error

    def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        return self._call(self._worker.rollout(jobs))

    def load_weights(self, weights: "Mapping[str, torch.Tensor]", version: int) -> None:
        self._call(self._worker.load_weights(weights, version))

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        return self._call(self._worker.score(rows))

    def close(self) -> None:
        """End; whoever still waits for attempts gets an `InfrastructureError`."""
        with self._gate:
            self._closed = True
        for last in (self._worker.close(), _wind_up()):
            asyncio.run_coroutine_threadsafe(last, self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _threads_here() -> int:
    import torch

    return torch.get_num_threads()


async def _wind_up() -> None:
    """Let what still runs on the loop come to its end."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()
