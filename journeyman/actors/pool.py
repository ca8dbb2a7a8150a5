"""Several sampler actors as one."""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from journeyman.actors.remote import RemoteActor, RemoteWeights
from journeyman.errors import InfrastructureError
from journeyman.rollout.job import RolloutJob
from journeyman.trajectory import Trajectory

if TYPE_CHECKING:
    import torch
    from ray import ObjectRef

REDISPATCHES = 2
"""How often the jobs of a lost worker are given to another one."""
SHARES_PER_WORKER = 4
"""Jobs are handed out in so many portions a worker; the last ones go to whoever is done first."""


@dataclass(slots=True)
class _Share:
    """A portion of the jobs of one rollout."""

    start: int
    jobs: list[RolloutJob]
    dispatched: int = 0


class RayPool:
    """The sampler actors behind the SamplerPool protocol. A lost one is replaced and its jobs are given out again."""

    def __init__(self, make: Callable[[], RemoteActor], count: int) -> None:
        self._make = make
        self._actors = [make() for _ in range(count)]
        self._weights: tuple[ObjectRef, int] | None = None

    def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        waiting = deque(_shares(jobs, len(self._actors)))
        flying: dict[Future, tuple[int, _Share]] = {}
        done: dict[int, list[Trajectory]] = {}
        while waiting or flying:
            self._dispatch(waiting, flying)
            finished = next(iter(wait(flying, return_when=FIRST_COMPLETED).done))
            index, share = flying.pop(finished)
            try:
                done[share.start] = self._actors[index].result(finished)
            except InfrastructureError as error:
                lost = [share, *(other for place, other in flying.values() if place == index)]
                flying = {future: entry for future, entry in flying.items() if entry[0] != index}
                waiting.extendleft(lost)
                self._replace(index, max(share.dispatched for share in lost), error)
        return [trajectory for start in sorted(done) for trajectory in done[start]]

    def _dispatch(self, waiting: deque[_Share], flying: dict[Future, tuple[int, _Share]]) -> None:
        """Give shares to the workers that have fewest, the last ones only when somebody is idle enough."""
        most = SHARES_PER_WORKER if len(self._actors) == 1 else SHARES_PER_WORKER - 1
        loads = [sum(place == index for place, _ in flying.values()) for index in range(len(self._actors))]
        while waiting and min(loads) < most:
            index = loads.index(min(loads))
            share = waiting.popleft()
            share.dispatched += 1
            flying[self._actors[index].submit("rollout", share.jobs).future()] = (index, share)
            loads[index] += 1

    def load_weights(self, weights: "Mapping[str, torch.Tensor]", version: int) -> None:
        import ray

        reference = weights.reference if isinstance(weights, RemoteWeights) else ray.put(dict(weights))
        self._weights = (reference, version)
        self._everyone("load_weights", reference, version)

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        return [scores for found in self._everyone("score", list(rows)) for scores in found]

    def _everyone(self, method: str, *arguments: object) -> list[Any]:
        """Call all workers at once; results worker by worker."""
        calls = [actor.submit(method, *arguments) for actor in self._actors]
        results = []
        for index, reference in enumerate(calls):
            for attempt in range(1, REDISPATCHES + 2):
                try:
                    results.append(self._actors[index].result(reference.future()))
                    break
                except InfrastructureError as error:
                    self._replace(index, attempt, error)
                    reference = self._actors[index].submit(method, *arguments)
        return results

    def _replace(self, index: int, attempt: int, error: InfrastructureError) -> None:
        """A new worker with the weights of the lost one, unless that has been tried too often."""
        if attempt > REDISPATCHES:
            raise InfrastructureError(f"a sampler was lost {attempt} times over the same work: {error}") from error
        self._actors[index].kill()
        self._actors[index] = self._make()
        if self._weights is not None:
            self._actors[index].call("load_weights", *self._weights)

    def kill(self) -> None:
        for actor in self._actors:
            actor.kill()


def _shares(jobs: Sequence[RolloutJob], workers: int) -> list[_Share]:
    """Neighbouring jobs together: those of one problem share a prompt."""
    size = max(1, math.ceil(len(jobs) / (workers * SHARES_PER_WORKER)))
    return [_Share(start, list(jobs[start : start + size])) for start in range(0, len(jobs), size)]
