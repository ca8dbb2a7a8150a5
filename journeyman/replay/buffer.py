"""A bounded buffer of past successes: trajectories lie in Parquet segments, what is known of them in an index."""

import json
import math
import os
import shutil
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from journeyman.config import ReplayConfig
from journeyman.errors import DataError
from journeyman.replay.index import Index
from journeyman.replay.parts import (
    PRIORITIES,
    Floats,
    decay,
    one_a_problem,
    only_with_calls,
    probability,
    recalibration,
)
from journeyman.seeds import derive
from journeyman.trajectory import Trajectory, from_row, schema, write_trajectories

if TYPE_CHECKING:
    import pyarrow as pa

INDEX, STATE, SEGMENTS = "replay.parquet", "replay.json", "replay"
LOOKED_THROUGH = 4
"""Trajectories that are scored for each one that is asked for, at most, where their probability decides (ours)."""

Score = Callable[[Sequence[Trajectory]], Sequence[Sequence[float]]]
"""Log-probabilities, nats, that the policy as it is now gives to the tokens that each trajectory learns from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A trajectory worth learning from again."""

    trajectory: Trajectory
    advantage: float
    """Mean advantage on its learned tokens when it was sampled, or anew where the buffer recalibrates or lets it fade."""
    age: int = 0
    """Steps since it was sampled."""


class ReplayBuffer:
    """Keeps trajectories of positive advantage: so many, so old, so often used and such as its config says.

    Args:
        config: what is kept and drawn.
        seed: of the draws; each follows from it and the step.
        folder: of the segments; emptied first, for a checkpoint has links of its own. None: a temporary one.

    Memory holds the index alone, some 60 bytes a trajectory.
    """

    def __init__(self, config: ReplayConfig, seed: int, folder: Path | None = None) -> None:
        self._config, self._seed, self._folder = config, seed, folder
        self._index, self._segments = Index.of(), 0
        self._groups: deque[tuple[float, float]] = deque(
            maxlen=config.recalibration.history if config.recalibration else 0
        )
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def __len__(self) -> int:
        return len(self._index)

    def observe(self, rewards: Sequence[Sequence[float]]) -> None:
        """Take note of what a step's groups earned; only recalibration asks for it."""
        self._groups.extend((float(np.mean(group)), float(np.std(group))) for group in rewards if group)

    def add(self, found: Sequence[Replayed], *, version: int) -> None:
        """Take in successes, drop the old and, beyond the capacity, the oldest."""
        config = self._config
        taken = [r for r in found if r.advantage > 0]
        if config.only_with_calls:
            taken = [r for r in taken if only_with_calls(len(r.trajectory.calls))]
        if config.one_a_problem:
            taken.sort(key=lambda r: r.advantage)
        if taken and config.capacity:
            write_trajectories([r.trajectory for r in taken], self._path(self._segments))
            rows = [_facts(r, row) | {"segment": self._segments, "step": version} for row, r in enumerate(taken)]
            self._index = self._index.joined(Index.of(rows))
            self._segments += 1
        self._drop(version)

    def _drop(self, version: int) -> None:
        config, index = self._config, self._index
        kept = version - index["policy_version"] <= config.max_age
        if config.max_uses is not None:
            kept &= index["uses"] < config.max_uses
        index = index if kept.all() else index.where(kept)
        if config.one_a_problem:
            index = index.where(one_a_problem(index["problem"]))
        self._index = index.where(slice(max(0, len(index) - config.capacity), None))
        needed = {self._path(number) for number in np.unique(self._index["segment"]).tolist()}
        for path in self._place().glob("*.parquet"):
            if path not in needed:
                path.unlink()

    def sample(self, count: int, *, step: int, score: Score | None = None) -> list[Replayed]:
        """Up to `count` different trajectories, seeded by step; each counts as used. `score`: see `probability`."""
        if self._config.when_full and len(self) < self._config.capacity:
            return []
        advantages, places = self._advantages(step), self.places(count, step=step)
        if self._config.probability is None:
            found = dict(zip(places, self._read(places), strict=True))
        elif score is None:
            raise ValueError("`probability` needs `score`")
        else:
            found = self._likely(places, count, score)
        self._index["uses"][list(found)] += 1
        ages = step - self._index["policy_version"]
        return [
            Replayed(trajectory=t, advantage=float(advantages[place]), age=int(ages[place]))
            for place, t in found.items()
        ]

    def places(self, count: int, *, step: int) -> list[int]:
        """Where in the index the draw of a step falls: `count` places, or more where probability decides among them."""
        wanted = count * (1 if self._config.probability is None else LOOKED_THROUGH)
        advantages = self._advantages(step)
        anew = self._config.recalibration is not None or self._config.decay < 1
        usable = advantages > 0 if anew else np.ones(len(self), dtype=bool)
        if self._config.max_uses is not None:
            usable &= self._index["uses"] < self._config.max_uses
        draw, seed = PRIORITIES[self._config.priority], derive(self._seed, "replay", step)
        if usable.all():
            return draw(advantages, wanted, seed, self._config.exponent)
        chosen = np.flatnonzero(usable)
        return chosen[draw(advantages[chosen], wanted, seed, self._config.exponent)].tolist()

    def newest_of(self, problems: Sequence[str]) -> dict[str, Trajectory]:
        """Problem id -> what was kept last of it, where there is something; each counts as used."""
        of_problem = self._index["problem"]
        numbers = {id: number_of(id) for id in dict.fromkeys(problems)}
        places = {
            id: int(here[-1]) for id, number in numbers.items() if len(here := np.flatnonzero(of_problem == number))
        }
        self._index["uses"][list(places.values())] += 1
        return dict(zip(places, self._read(list(places.values())), strict=True))

    def _advantages(self, step: int) -> Floats:
        if self._config.decay < 1:
            return decay(self._index["advantage"], step - self._index["policy_version"], self._config.decay)
        if self._config.recalibration is None or not self._groups:
            return self._index["advantage"]
        means, deviations = zip(*self._groups, strict=True)
        return recalibration(self._index["reward"], means, deviations, scale=self._config.recalibration.scale)

    def _likely(self, places: Sequence[int], count: int, score: Score) -> dict[int, Trajectory]:
        """The first `count` whose probability lies in the band."""
        found: dict[int, Trajectory] = {}
        for start in range(0, len(places), max(1, count)):
            looked_at = places[start : start + count]
            read = self._read(looked_at)
            for place, trajectory, logprobs in zip(looked_at, read, score(read), strict=True):
                if len(found) < count and self._config.probability and probability(logprobs, self._config.probability):
                    found[place] = trajectory
            if len(found) == count:
                break
        return found

    def _read(self, places: Sequence[int]) -> list[Trajectory]:
        """Trajectories from their segments, each of which is opened once."""
        import pyarrow.parquet as pq

        segments, rows = self._index["segment"][list(places)], self._index["row"][list(places)]
        found: dict[int, Trajectory] = {}
        for segment in np.unique(segments).tolist():
            here = np.flatnonzero(segments == segment)
            read = pq.read_table(self._path(segment), schema=schema()).take(rows[here]).to_pylist()
            found |= {int(i): from_row(row) for i, row in zip(here, read, strict=True)}
        return [found[i] for i in range(len(places))]

    def save(self, folder: Path) -> None:
        """Write the index, and link to the segments; `load` brings a buffer to the same state."""
        (folder / SEGMENTS).mkdir(parents=True)
        self._index.write(folder / INDEX)
        state = {
            "segments": self._segments,
            "groups": list(self._groups),
            "config": self._config.model_dump(mode="json"),
        }
        (folder / STATE).write_text(json.dumps(state))
        for path in self._place().glob("*.parquet"):
            _link(path, folder / SEGMENTS / path.name)

    def load(self, folder: Path) -> None:
        """The inverse of `save`. Raises `DataError` where that was a buffer of another config, or not all is there."""
        kept = _state(folder)["config"]
        ours = self._config.model_dump(mode="json")
        if kept != ours:
            other = ", ".join(sorted(key for key in {*kept, *ours} if kept.get(key) != ours.get(key)))
            raise DataError(
                f"this buffer was kept with other options: {other}", place=str(folder), remedy="start the stage anew"
            )
        self._load(folder)

    def _load(self, folder: Path) -> None:
        state, index = _state(folder), Index.read(folder / INDEX)
        files = {path.name: path for path in (folder / SEGMENTS).glob("*.parquet")}
        missing = {_name(number) for number in np.unique(index["segment"]).tolist()} - files.keys()
        if missing:
            raise DataError(f"{min(missing)} is missing", place=str(folder / SEGMENTS), remedy="start the stage anew")
        self._index, self._segments = index, state["segments"]
        self._groups.clear()
        self._groups.extend((mean, deviation) for mean, deviation in state["groups"])
        shutil.rmtree(self._place())
        for name, path in files.items():
            _link(path, self._place() / name)

    def take_over(self, folder: Path, steps: int) -> None:
        """The buffer of an earlier block that took so many steps, as `save` wrote it: all in it is that much older."""
        self._load(folder)
        self._index["policy_version"][:] -= steps
        self._index["step"][:] -= steps
        self._drop(0)

    def table(self) -> "pa.Table":
        """What is kept, a row a trajectory, without its turns and tokens."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = dict(self._index.columns)
        segments, rows = columns.pop("segment"), columns.pop("row")
        del columns["problem"]
        names = pa.schema([schema().field(name) for name in ("id", "problem_id", "family", "source")])
        read = [
            pq.read_table(self._path(number), columns=names.names).take(rows[segments == number])
            for number in np.unique(segments).tolist()
        ]
        table = pa.concat_tables([names.empty_table(), *read])  # the index is in the order of its segments
        for name, values in columns.items():
            table = table.append_column(name, pa.array(values))
        return table

    def _path(self, segment: int) -> Path:
        return self._place() / _name(segment)

    def _place(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="journeyman-replay-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder


def export(buffers: Mapping[str, ReplayBuffer], path: Path) -> None:
    """Write what buffers keep as a table for SQL, with their names as `kept_as`; see `ReplayBuffer.table`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [(name, buffer.table()) for name, buffer in buffers.items()]
    named = [table.append_column("kept_as", pa.array([name] * len(table), pa.string())) for name, table in tables]
    pq.write_table(pa.concat_tables(named), path, compression="zstd")


def number_of(problem_id: str) -> int:
    """A problem's number in the index."""
    return int.from_bytes(blake2b(problem_id.encode(), digest_size=8).digest(), signed=True)


def _name(segment: int) -> str:
    return f"segment-{segment:08d}.parquet"


def _state(folder: Path) -> dict[str, Any]:
    """What `save` wrote beside the index. Raises `DataError`."""
    try:
        state = json.loads((folder / STATE).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        state = {}
    if state.keys() != {"segments", "groups", "config"}:
        raise DataError("there is no replay buffer of this version", place=str(folder), remedy="start the stage anew")
    return state


def _facts(replayed: Replayed, row: int) -> dict[str, float]:
    t = replayed.trajectory
    learned = [logprob for logprob, mask in zip(t.logprobs, t.loss_mask, strict=True) if mask]
    return {
        "row": row,
        "problem": number_of(t.problem_id),
        "policy_version": t.policy_version,
        "advantage": replayed.advantage,
        "reward": math.nan if t.reward is None else t.reward,
        "perplexity": math.exp(-math.fsum(learned) / len(learned)) if learned else math.nan,
        "calls": len(t.calls),
        "uses": 0,
    }


def _link(path: Path, other: Path) -> None:
    """A second name for a file that is never written again; a copy where the disk knows no links."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)
