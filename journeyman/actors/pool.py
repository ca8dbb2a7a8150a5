"""Several sampler actors as one."""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any

from journeyman.actors.remote import START_S, RemoteActor, RemoteWeights
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
    """The sampler actors behind the SamplerPool protocol. A lost one is replaced and its jobs are given out again.

    Calls may come from several threads at once.
    """

    def __init__(self, make: Callable[[], RemoteActor], count: int) -> None:
        self._make = make
        self._actors = [make() for _ in range(count)]
        self._fresh: RemoteActor | None = None
        """One that has not got the weights yet."""
        self._weights: tuple[ObjectRef, int] | None = None
        self._given: list[tuple[RemoteActor, Future]] = []
        """Shares of all threads. Looked through, for what is called back from a future holds up Ray's own thread."""
        self._ended: Future[None] = Future()
        self._renewing, self._lock = RLock(), Lock()
        """Held while weights or actors are renewed, which takes long; held while an actor is made or a share noted."""

    def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        waiting = deque(_shares(jobs, len(self._actors)))
        flying: dict[Future, tuple[RemoteActor, _Share]] = {}
        done: dict[int, list[Trajectory]] = {}
        while waiting or flying:
            self._dispatch(waiting, flying)
            finished = self._first(flying)
            actor, share = flying.pop(finished)
            try:
                done[share.start] = actor.result(finished)
            except InfrastructureError as error:
                lost = [share, *(other for one, other in flying.values() if one is actor)]
                flying = {future: entry for future, entry in flying.items() if entry[0] is not actor}
                waiting.extendleft(lost)
                self._replace(actor, max(share.dispatched for share in lost), error)
        return [trajectory for start in sorted(done) for trajectory in done[start]]

    def _dispatch(self, waiting: deque[_Share], flying: dict[Future, tuple[RemoteActor, _Share]]) -> None:
        """Give shares to the workers that have fewest, the last ones only when somebody is idle enough."""
        actors, loads = list(self._actors), Counter(actor for actor, _ in flying.values())
        most = SHARES_PER_WORKER if len(actors) == 1 else SHARES_PER_WORKER - 1
        while waiting and min(loads[actor] for actor in actors) < most:
            with self._lock:
                self._given = [(one, future) for one, future in self._given if not future.done()]
                every = Counter(one for one, _ in self._given)
            actor = min(actors, key=lambda one: (loads[one], every[one]))
            share = waiting.popleft()
            share.dispatched += 1
            future = self._submit(actor, "rollout", share.jobs)
            flying[future] = (actor, share)
            loads[actor] += 1
            with self._lock:
                self._given.append((actor, future))

    def load_weights(self, weights: "Mapping[str, torch.Tensor]", version: int) -> None:
        import ray

        reference = weights.reference if isinstance(weights, RemoteWeights) else ray.put(dict(weights))
        with self._renewing:
            self._weights = (reference, version)
            self._everyone("load_weights", reference, version)

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        return [scores for found in self._everyone("score", list(rows)) for scores in found]

    def _everyone(self, method: str, *arguments: object) -> list[Any]:
        """Call all workers at once; results worker by worker."""
        calls = [(actor, actor.submit(method, *arguments)) for actor in self._actors]
        results = []
        for index, (actor, reference) in enumerate(calls):
            for attempt in range(1, REDISPATCHES + 2):
                try:
                    results.append(actor.result(reference.future()))
                    break
                except InfrastructureError as error:
                    self._replace(actor, attempt, error)
                    actor = self._actors[index]
                    reference = actor.submit(method, *arguments)
        return results

    def _replace(self, lost: RemoteActor, attempt: int, error: InfrastructureError) -> None:
        """A new worker with the weights of the lost one, unless that has been tried too often.

        Several threads may find the same one lost: the first replaces it, the others wait for that.
        """
        if attempt > REDISPATCHES:
            raise InfrastructureError(f"a sampler was lost {attempt} times over the same work: {error}") from error
        with self._renewing:
            if lost not in self._actors:
                return
            lost.kill()
            with self._lock:
                self._check_open()
                self._fresh = self._make()
            if self._weights is not None:
                self._fresh.result(self._first([self._submit(self._fresh, "load_weights", *self._weights)]))
            self._actors[self._actors.index(lost)] = self._fresh

    def _submit(self, actor: RemoteActor, method: str, *arguments: object) -> Future:
        """As `RemoteActor.submit`, unless the pool ends while the actor starts."""
        wait([actor.started, self._ended], timeout=START_S, return_when=FIRST_COMPLETED)
        self._check_open()
        return actor.submit(method, *arguments).future()

    def _first(self, futures: Iterable[Future]) -> Future:
        """The first that is done, unless the pool ends before: after that Ray leaves them as they are."""
        done = wait([*futures, self._ended], return_when=FIRST_COMPLETED).done
        self._check_open()
        return next(iter(done))

    def _check_open(self) -> None:
        """Whoever still waits when the pool ends makes no new actors: outside of a cluster Ray would start another one."""
        if self._ended.done():
            raise InfrastructureError("the samplers have ended")

    def kill(self) -> None:
        """End; whoever still waits for attempts gets an `InfrastructureError`."""
        with self._lock:
            self._ended.set_result(None)
        for actor in {*self._actors, *([self._fresh] if self._fresh else [])}:
            actor.kill()


def _shares(jobs: Sequence[RolloutJob], workers: int) -> list[_Share]:
    """Neighbouring jobs together: those of one problem share a prompt."""
    size = max(1, math.ceil(len(jobs) / (workers * SHARES_PER_WORKER)))
    return [_Share(start, list(jobs[start : start + size])) for start in range(0, len(jobs), size)]
