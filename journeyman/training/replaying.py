"""Replay in an rl stage: what is learned from beside a step's own attempts, and which of those are compared."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np

from journeyman.config import ReplayConfig, RlConfig
from journeyman.credit.base import Floats
from journeyman.replay import SELECTIONS, ReplayBuffer, Replayed, determination, export
from journeyman.replay.parts import seeds, solutions, warmup
from journeyman.rollout.chat import ChatFormat
from journeyman.seeds import derive
from journeyman.training.crediting import contexts
from journeyman.training.handle import LearnerHandle, Row
from journeyman.training.rows import by_temperature, rows_of
from journeyman.training.seeding import seeds_of
from journeyman.trajectory import SEARCH, SOLUTION, Trajectory

Pair = tuple[Trajectory, Floats, int]
"""A trajectory, T advantages, the number of its group."""
SUCCESS, SEED, SOLVED = "success", "seed", "solution"
"""What a trajectory is kept as."""
FOLDER = "replayed"
"""Folder of a checkpoint with the buffers."""
FOREVER = 2**31 - 1


class Replaying:
    """The buffers of a block, and what a step learns from because of them. With the default config it does nothing."""

    def __init__(self, stage: RlConfig, learner: LearnerHandle, seed: int, folder: Path | None) -> None:
        """`folder`: of the buffers' segments; None: temporary ones."""
        config = stage.replay
        self._stage, self._learner, self._seed = stage, learner, seed

        def made(name: str, own: ReplayConfig) -> ReplayBuffer:
            return ReplayBuffer(own, derive(seed, name) if name != SUCCESS else seed, folder and folder / name)

        self.buffer = made(SUCCESS, config)
        self._seeds = made(SEED, _lasting(config.seeds.most or FOREVER)) if config.seeds else None
        solved = config.solutions
        self._solved = made(SOLVED, _lasting(solved.capacity, one_a_problem=True)) if solved else None
        every = {SUCCESS: self.buffer if config.capacity else None, SEED: self._seeds, SOLVED: self._solved}
        self._buffers = {name: buffer for name, buffer in every.items() if buffer is not None}

    def begin(self, demonstrations: Sequence[Trajectory], policy: Path, max_length: int) -> None:
        """Fill the buffer of seeds, before the first step; their log-probabilities are the policy's as it begins.

        `policy`: folder with the tokenizer; `max_length`: of the model. Raises `DataError` where none can be used.
        """
        if self._seeds is None or not self._stage.replay.seeds:
            return
        found = seeds_of(
            demonstrations,
            ChatFormat.of_folder(policy),
            most=self._stage.replay.seeds.most,
            max_length=max_length,
            temperature=self._stage.temperature,
            seed=derive(self._seed, "seeds"),
        )
        self._seeds.add([Replayed(trajectory=t, advantage=1.0) for t in self._scored(found)], version=0)

    def compared(self, groups: Sequence[Sequence[Trajectory]], *, step: int) -> list[list[Trajectory]]:
        """The groups as they are compared: with known solutions, and what the selection leaves of what was scored."""
        with_solutions = self._with_solutions(groups)
        config = self._stage.replay.selection
        if config is None:
            return with_solutions
        left = []
        for number, group in enumerate(with_solutions):
            scored = [t for t in group if t.reward is not None]
            if len(scored) > config.keep:
                seed = derive(self._seed, "selection", step, number)
                scored = [scored[i] for i in sorted(SELECTIONS[config.by](scored, config.keep, seed, config.part))]
            left.append(scored)
        return left

    def _with_solutions(self, groups: Sequence[Sequence[Trajectory]]) -> list[list[Trajectory]]:
        config = self._stage.replay.solutions
        if self._solved is None or config is None:
            return [list(group) for group in groups]
        seldom = {g[0].problem_id for g in groups if g and solutions(*_verdicts(g), config.below)}
        known = self._solved.newest_of(sorted(seldom))
        return [
            _joined(group, known[group[0].problem_id], config.direct)
            if group and solutions(*_verdicts(group), config.below) and group[0].problem_id in known
            else list(group)
            for group in groups
        ]

    def rows(
        self,
        groups: Sequence[Sequence[Trajectory]],
        compared: Sequence[Sequence[Trajectory]],
        pairs: Sequence[Pair],
        *,
        fresh: int,
        step: int,
    ) -> tuple[list[Row], dict[str, float]]:
        """What a step learns from besides `fresh` rows of its own, and metrics; then what it has found is kept.

        `groups`: all that the step has sampled, scored; `compared`: what came of them; `pairs`: what is learned from.
        """
        own = {t.id for group in groups for t in group}
        again, metrics = self._again(groups, [pair for pair in pairs if pair[0].id in own], fresh=fresh, step=step)
        seeded, of_seeds = self._seeded(groups, fresh=fresh, step=step, first_group=len(groups) + len(again))
        metrics |= of_seeds | self._of_selection(groups, compared)
        if self._solved is not None:
            metrics["replay/solutions"] = float(sum(t.id not in own for group in compared for t in group))
            self._solved.add([Replayed(trajectory=t, advantage=1.0) for t in self._found(groups)], version=step)
            metrics["replay/solutions_kept"] = float(len(self._solved))
        return again + seeded, metrics

    def _again(
        self, groups: Sequence[Sequence[Trajectory]], pairs: Sequence[Pair], *, fresh: int, step: int
    ) -> tuple[list[Row], dict[str, float]]:
        """Rows of past successes."""
        config = self._stage.replay
        if not config.capacity:
            return [], {}
        self.buffer.observe([[t.reward for t in group if t.reward is not None] for group in groups])
        replayed = self.buffer.sample(round(config.fraction * fresh), step=step, score=self._learned)
        weight = warmup(step, config.warmup)
        rows = _rows([(r.trajectory, r.advantage) for r in replayed], first_group=len(groups), weight=weight)
        self.buffer.add([Replayed(trajectory=t, advantage=_mean(t, a)) for t, a, _ in pairs], version=step)
        return rows, _metrics(self.buffer, replayed)

    def _seeded(
        self, groups: Sequence[Sequence[Trajectory]], *, fresh: int, step: int, first_group: int
    ) -> tuple[list[Row], dict[str, float]]:
        """Rows of demonstrations: a share of the batch, or as if all attempts were rows where none became one."""
        config = self._stage.replay.seeds
        if self._seeds is None or config is None:
            return [], {}
        right, tried = _verdicts(t for group in groups for t in group)
        advantage, share = (1 - right / tried if tried else 0.0), seeds(step, config.steps)
        wanted = round((fresh or tried) * share / (1 - share)) if advantage > 0 else 0
        drawn = [r.trajectory for r in self._seeds.sample(wanted, step=step)]
        # The policy's own log-probabilities make every ratio 1: a demonstration was not sampled by any policy.
        rows = _rows([(t, advantage) for t in self._scored(drawn)], first_group=first_group)
        return rows, {"replay/seeds": float(len(drawn))}

    def _of_selection(
        self, groups: Sequence[Sequence[Trajectory]], compared: Sequence[Sequence[Trajectory]]
    ) -> dict[str, float]:
        kept = [t for group in compared for t in group if t.reward is not None]
        if self._stage.replay.selection is None or not kept:
            return {}
        rewards, verdicts = [t.reward or 0.0 for t in kept], [float(bool(t.correct)) for t in kept]
        scored = sum(t.reward is not None for group in groups for t in group)
        return {
            "replay/selected_fraction": len(kept) / scored,
            "replay/reward_determination": determination(rewards, verdicts),
        }

    def _found(self, groups: Sequence[Sequence[Trajectory]]) -> list[Trajectory]:
        """What is worth keeping as solutions, one a problem at most: what a search has marked before other attempts."""
        config, best = self._stage.replay.solutions, dict[str, Trajectory]()
        for group in groups:
            seldom = config is not None and solutions(*_verdicts(group), config.below)
            right = [t for t in group if t.correct and t.reward is not None]
            marked = [t for t in right if t.provenance.get(SOLUTION)]
            for t in marked[:1] or (right[:1] if seldom else []):
                best.setdefault(t.problem_id, t)
        return list(best.values())

    def _learned(self, trajectories: Sequence[Trajectory]) -> list[list[float]]:
        """Log-probabilities of the tokens that each trajectory learns from, as the learner is now."""
        return [
            [logprob for logprob, m in zip(t.logprobs, t.loss_mask, strict=True) if m]
            for t in self._scored(trajectories)
        ]

    def _scored(self, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        """With the learner's log-probabilities as it is now."""
        places = contexts(trajectories)
        ids = [trajectories[i].token_ids[s] for i, s in places]
        found = [np.zeros(len(t.token_ids)) for t in trajectories]
        scores = by_temperature(ids, [trajectories[i].temperature for i, _ in places], self._learner.score)
        for (i, s), score in zip(places, scores, strict=True):
            found[i][s.start + 1 : s.stop] = score
        return [
            replace(t, logprobs=tuple((logprobs * t.loss_mask).tolist()))
            for t, logprobs in zip(trajectories, found, strict=True)
        ]

    def save(self, folder: Path) -> None:
        for name, buffer in self._buffers.items():
            buffer.save(folder / FOLDER / name)

    def load(self, folder: Path) -> None:
        """The inverse of `save`. Raises `DataError`."""
        for name, buffer in self._buffers.items():
            buffer.load(folder / FOLDER / name)

    def take_over(self, folder: Path, steps: int) -> None:
        """What an earlier block of so many steps has saved: its successes and its solutions."""
        for name, buffer in self._buffers.items():
            if name != SEED and (folder / FOLDER / name).is_dir():
                buffer.take_over(folder / FOLDER / name, steps)

    def export(self, path: Path) -> None:
        """Write what is kept as a table for SQL."""
        export(self._buffers, path)


def _lasting(capacity: int, **options: bool) -> ReplayConfig:
    return ReplayConfig.model_validate({"capacity": capacity, "fraction": 1.0, "max_age": FOREVER, **options})


def _rows(pairs: Sequence[tuple[Trajectory, float]], *, first_group: int, weight: float = 1.0) -> list[Row]:
    """Rows of trajectories with an advantage each, every one a group of its own."""
    return [
        row
        for number, (t, advantage) in enumerate(pairs, first_group)
        for row in rows_of(t, advantage * np.array(t.loss_mask), number, weight=weight)
    ]


def _verdicts(trajectories: Iterable[Trajectory]) -> tuple[int, int]:
    """(how many are right, how many have a verdict)"""
    verdicts = [bool(t.correct) for t in trajectories if t.correct is not None]
    return sum(verdicts), len(verdicts)


def _joined(group: Sequence[Trajectory], solution: Trajectory, direct: int | None) -> list[Trajectory]:
    """A group with a solution in the place of its last wrong attempt."""
    wrong = [place for place, t in enumerate(group) if t.correct is False]
    # What its search said of it was said of the leaves of another tree.
    alone = replace(solution, provenance={key: one for key, one in solution.provenance.items() if key != SEARCH})
    return [*[t for place, t in enumerate(group) if place != wrong[-1]][:direct], alone]


def _mean(trajectory: Trajectory, advantages: Floats) -> float:
    return float(advantages.sum()) / max(1, sum(trajectory.loss_mask))


def _metrics(buffer: ReplayBuffer, replayed: Sequence[Replayed]) -> dict[str, float]:
    ages = [r.age for r in replayed]
    found = {"replay/kept": float(len(buffer)), "replay/replayed": float(len(replayed))}
    return found | ({"replay/age_mean": fmean(ages)} if ages else {})
