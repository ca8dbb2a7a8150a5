"""A rollout worker: an engine and the agent loop beside it. The Ray actor is an empty subclass."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from journeyman.config import ComputeConfig, TorchSampler
from journeyman.errors import UserError
from journeyman.rollout.beam import search
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.rollout.sampler import Sampler
from journeyman.rollout.search import searched
from journeyman.rollout.tree import grow
from journeyman.trajectory import Trajectory

if TYPE_CHECKING:
    import torch

    from journeyman.rollout.outside import OutsideAgent


class RolloutWorker:
    """Samples trajectories with the model of a folder (Hugging Face format)."""

    def __init__(self, model: Path, compute: ComputeConfig, max_length: int) -> None:
        self._sampler = build_sampler(model, compute, max_length)
        self._agent = Agent.of_folder(self._sampler, model, max_length)
        self._outside: dict[str, OutsideAgent] = {}
        self._folder, self._max_length = model, max_length

    async def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        """Make every attempt at once; order as in `jobs`, those that fork from one behind it."""
        trees = await asyncio.gather(*(self._tree(job) for job in jobs))
        return [trajectory for tree in trees for trajectory in tree]

    async def _tree(self, job: RolloutJob) -> list[Trajectory]:
        agent = self._agent_of(job)
        if not job.branches and not job.beam and not job.search:
            return [await agent.attempt(job)]
        if not isinstance(agent, Agent):
            raise UserError(
                "an agent from outside can't be forked", remedy="remove `program`, or let attempts be made apart"
            )
        if job.search:
            return await searched(agent, job)
        return [await search(agent, job)] if job.beam else await grow(agent, job)

    def _agent_of(self, job: RolloutJob) -> "Agent | OutsideAgent":
        """The built-in loop, or the program that the job names, in front of the same sampler."""
        if not job.program:
            return self._agent
        key = json.dumps(job.program)
        if key not in self._outside:
            from journeyman.rollout.outside import OutsideAgent
            from journeyman.rollout.programs import program_of

            program = program_of(job.program)
            self._outside[key] = OutsideAgent.of_folder(self._sampler, self._folder, self._max_length, program)
        return self._outside[key]

    async def load_weights(self, weights: Mapping[str, "torch.Tensor"], version: int) -> None:
        await self._sampler.load_weights(weights, version)

    async def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        return await self._sampler.score(rows)

    async def close(self) -> None:
        for agent in self._outside.values():
            await agent.close()
        await self._sampler.close()


def build_sampler(model: Path, compute: ComputeConfig, max_length: int) -> Sampler:
    """The engine that the config asks for."""
    if isinstance(compute.sampler, TorchSampler):
        from journeyman.rollout.torch_sampler import TorchEngine

        return TorchEngine(model, compute, max_length)
    from journeyman.rollout.vllm_sampler import VllmEngine

    return VllmEngine(model, compute, max_length)
