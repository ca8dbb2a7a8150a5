"""One Ray actor as seen by the process that owns it."""

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.config import ObjectiveConfig
from journeyman.errors import InfrastructureError
from journeyman.training.handle import Row

if TYPE_CHECKING:
    import torch
    from ray import ObjectRef

START_S = 1800.0
"""An actor must have loaded its model within this time, the wait for its CPUs and GPUs included."""


class DeferredStart:
    """Runs the plain class's constructor in `start`: an error in an actor's constructor comes back as text only."""

    def __init__(self, *arguments: object) -> None:
        self._arguments = arguments

    def start(self) -> None:
        super().__init__(*self._arguments)  # type: ignore[call-arg]


class RemoteActor:
    """One Ray actor of a class with a `start` method. Errors of ours come back as themselves."""

    def __init__(self, kind: type, arguments: tuple, *, name: str, options: Mapping[str, Any]) -> None:
        import ray

        self._name = f"{name}-{secrets.token_hex(3)}"
        self._handle: Any = ray.remote(kind).options(name=self._name, **options).remote(*arguments)
        self._latest = time.monotonic() + START_S
        self.started: Future[None] = self._handle.start.remote().future()
        """Done once it has loaded what it needs, or could not."""

    def submit(self, method: str, *arguments: object, **named: object) -> "ObjectRef":
        """Call without waiting for the result; the first time, wait until the actor has loaded what it needs."""
        self.result(self.started, timeout=max(0.0, self._latest - time.monotonic()))
        return getattr(self._handle, method).remote(*arguments, **named)

    def result(self, future: Future, timeout: float | None = None) -> Any:
        return _result(future, self._name, timeout)

    def call(self, method: str, *arguments: object, **named: object) -> Any:
        return self.result(self.submit(method, *arguments, **named).future())

    def kill(self) -> None:
        import ray

        ray.kill(self._handle)


class RemoteLearner:
    """A learner actor behind the LearnerHandle protocol."""

    def __init__(self, actor: RemoteActor) -> None:
        self._actor = actor

    def step(self, rows: Sequence[Row], objective: ObjectiveConfig) -> dict[str, float]:
        return self._actor.call("step", list(rows), objective)

    def score(
        self, rows: Sequence[Sequence[int]], temperature: float = 1.0, *, exact: bool = False
    ) -> list[list[float]]:
        return self._actor.call("score", list(rows), temperature, exact=exact)

    def score_reference(self, rows: Sequence[Sequence[int]], temperature: float = 1.0) -> list[list[float]]:
        return self._actor.call("score_reference", list(rows), temperature)

    def score_means(self, rows: Sequence[Sequence[int]], temperature: float = 1.0) -> list[list[float]]:
        return self._actor.call("score_means", list(rows), temperature)

    def values(
        self, rows: Sequence[Sequence[int]], heads: Sequence[str] = ("value",), *, slow: bool = False
    ) -> dict[str, list[list[float]]]:
        return self._actor.call("values", list(rows), tuple(heads), slow=slow)

    def fit_values(
        self,
        rows: Sequence[Sequence[int]],
        targets: Mapping[str, Sequence[Sequence[float]]],
        *,
        learning_rate: float,
        epochs: int = 1,
        polyak: float = 1.0,
    ) -> dict[str, float]:
        return self._actor.call(
            "fit_values", list(rows), dict(targets), learning_rate=learning_rate, epochs=epochs, polyak=polyak
        )

    def hidden_ranks(self, rows: Sequence[Row], stride: int) -> list[tuple[float, float, float]]:
        return self._actor.call("hidden_ranks", list(rows), stride)

    def sampler_precision(self) -> str:
        return self._actor.call("sampler_precision")

    def weights(self) -> "RemoteWeights":
        return RemoteWeights(self._actor)

    def save_model(self, folder: Path) -> None:
        self._actor.call("save_model", folder.absolute())

    def save_checkpoint(self, folder: Path) -> None:
        self._actor.call("save_checkpoint", folder.absolute())

    def load_checkpoint(self, folder: Path) -> None:
        self._actor.call("load_checkpoint", folder.absolute())

    def save_optimizer(self, folder: Path) -> None:
        self._actor.call("save_optimizer", folder.absolute())

    def load_optimizer(self, folder: Path) -> None:
        self._actor.call("load_optimizer", folder.absolute())


class RemoteWeights(Mapping[str, "torch.Tensor"]):
    """The learner's weights of one moment, in Ray's object store: fetched when looked at, passed on without."""

    def __init__(self, actor: RemoteActor) -> None:
        self._actor = actor
        self.reference = actor.submit("weights")

    @cached_property
    def _tensors(self) -> "dict[str, torch.Tensor]":
        return self._actor.result(self.reference.future())

    def __getitem__(self, name: str) -> "torch.Tensor":
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _result(future: Future, what: str, timeout: float | None) -> Any:
    """What the actor returned or raised; InfrastructureError where the actor itself failed.

    Waits for a future, not with `ray.get`: there a signal handler that raises ends in a SystemError.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return future.result(timeout)
    except RayTaskError as error:
        if isinstance(error.cause, Exception) and not isinstance(error.cause, RayError):
            raise error.cause from error
        raise InfrastructureError(f"{what} failed: {error}") from error
    except RayError as error:
        raise InfrastructureError(f"{what} was lost: {error}") from error
    except TimeoutError as error:
        free = ", ".join(f"{ray.available_resources().get(name, 0):g} {name}s" for name in ("CPU", "GPU"))
        raise InfrastructureError(f"{what} did not start within {START_S:g} s; free on the cluster: {free}") from error
