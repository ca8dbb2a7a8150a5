"""The rewards of a step: its groups are scored by the expression that the rl block names."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from journeyman.config import ComputeConfig, RlConfig
from journeyman.config.judge import SamplerJudge
from journeyman.expressions import needs
from journeyman.problem import Problem
from journeyman.rewards import VOCABULARY, Group, History, apply_reward, build_reward
from journeyman.rewards.encoders import build_encoder
from journeyman.rollout.chat import ChatFormat
from journeyman.rollout.job import SamplerPool
from journeyman.rollout.sampler_judge import build_judge
from journeyman.training.handle import LearnerHandle
from journeyman.training.policy import LearnerPolicy
from journeyman.trajectory import Trajectory

JUDGED_AT_ONCE = 16
"""Groups whose judges are asked at the same time."""


class Scorer:
    """Scores groups. What it remembers of earlier steps is part of the stage's checkpoint."""

    def __init__(self, stage: RlConfig, supplies: Mapping[str, Any]) -> None:
        self.history = History()
        self._steps = stage.steps
        self._reward = build_reward(stage.reward, **{"history": self.history, **supplies})
        self._at_once = JUDGED_AT_ONCE if "judge" in needs(stage.reward, VOCABULARY) else 1

    def score(
        self, groups: Sequence[Sequence[Trajectory]], problems: Sequence[Problem], *, step: int
    ) -> list[list[Trajectory]]:
        """The groups with their rewards written in; attempts that failed through no fault of the policy have none.

        Rewards that compare see only those that say something about the policy.
        """
        telling = [tuple(t for t in group if t.stop_reason.scorable) for group in groups]
        asked = [
            Group(trajectories=group, problem=problem, step=step, steps=self._steps, batch=tuple(telling))
            for group, problem in zip(telling, problems, strict=True)
        ]
        with ThreadPoolExecutor(self._at_once) as threads:
            scored = list(threads.map(lambda group: apply_reward(self._reward, group), asked))
        return [_put_back(group, iter(found)) for group, found in zip(groups, scored, strict=True)]


def for_rewards(
    stage: RlConfig,
    *,
    policy: Path,
    learner: LearnerHandle,
    samplers: SamplerPool,
    compute: ComputeConfig,
    seed: int,
    folder: Path,
) -> dict[str, Any]:
    """What the block's reward needs besides its history, by name.

    `folder`: where a judge's answers are kept, unless the block names one: a killed stage asks nothing twice.
    """
    wanted, made = needs(stage.reward, VOCABULARY), dict[str, Any]()
    if "policy" in wanted:
        made["policy"] = LearnerPolicy(learner, ChatFormat.of_folder(policy))
    if "encoder" in wanted:
        made["encoder"] = build_encoder(stage.encoder)
    if "judge" in wanted and stage.judge is not None:
        judge = stage.judge
        if not isinstance(judge, SamplerJudge) and not judge.cache:
            judge = judge.model_copy(update={"cache": str(folder)})
        made["judge"] = build_judge(judge, pool=samplers, compute=compute, seed=seed)
    return made


def _put_back(group: Sequence[Trajectory], scored: Iterator[Trajectory]) -> list[Trajectory]:
    return [next(scored) if t.stop_reason.scorable else replace(t, reward=None, reward_parts={}) for t in group]
