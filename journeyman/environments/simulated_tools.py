"""Worlds whose tools a model plays: any problems with tool specs of their own become attempts (#120, #130)."""

from collections.abc import Mapping, Sequence

from journeyman.environments.base import Course, Environment, same_answer
from journeyman.environments.episode import Episode
from journeyman.problem import Problem
from journeyman.tools.base import CallContext, Tool
from journeyman.tools.simulated import Simulator


class SimulatedEpisode(Episode):
    """An attempt whose simulated tools remember each other's answers."""

    sequential = True  # each answer must agree with those before it

    def __init__(self, environment: Environment, problem: Problem, context: CallContext, simulator: Simulator) -> None:
        self._simulator = simulator
        super().__init__(environment, problem, context)

    def offered(self) -> Mapping[str, Tool]:
        opened = self._simulator.open(self.context)
        return {name: opened[name] for name in self.problem.tools or opened}


class SimulatedTools(Environment):
    """Problems with a reference answer over one set of simulated tools."""

    def __init__(self, name: str, simulator: Simulator) -> None:
        self.name, self._simulator = name, simulator

    def tools(self) -> Mapping[str, Tool]:
        return self._simulator.open(CallContext())

    def reset(self, problem: Problem, context: CallContext) -> SimulatedEpisode:
        return SimulatedEpisode(self, problem, context, self._simulator)

    def courses(self, problem: Problem) -> Sequence[Course]:
        return (Course(steps=(), answer=problem.answer),)

    def verify(self, problem: Problem, answer: str) -> bool:
        return same_answer(problem.answer, answer)

    def validate(self) -> None:
        """Nothing to walk: what the tools say depends on the model. Specs are checked."""
        from journeyman.tools.arguments import spec_error

        for made in self._simulator.specs.values():
            if error := spec_error(made.spec):
                raise ValueError(f"{self.name}: {error}")
