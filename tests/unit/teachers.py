"""A teacher of given texts: what it says is played in the real world."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from journeyman.problem import Problem
from journeyman.synthesis.written import WrittenAttempt
from journeyman.trajectory import Trajectory, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a teacher was asked for."""

    problem: Problem
    seed: int
    temperature: float
    hint: str
    tools: tuple[str, ...] | None
    start: tuple[Turn, ...]


class StubTeacher:
    """Says the turns of one attempt after another, or what a function of the request gives; keeps the requests."""

    name = "stub"

    def __init__(self, says: Iterable[Sequence[str]] | Callable[[Asked], Sequence[str]]) -> None:
        self._say: Callable[[Asked], Sequence[str]]
        if callable(says):
            self._say = says
        else:
            left = iter(says)
            self._say = lambda _: next(left)
        self.asked: list[Asked] = []

    async def attempt(
        self,
        problem: Problem,
        *,
        seed: int,
        temperature: float = 1.0,
        hint: str = "",
        tools: Sequence[str] | None = None,
        start: Sequence[Turn] = (),
    ) -> Trajectory:
        offered = None if tools is None else tuple(tools)
        request = Asked(
            problem=problem, seed=seed, temperature=temperature, hint=hint, tools=offered, start=tuple(start)
        )
        self.asked.append(request)
        attempt = await WrittenAttempt.begin(problem, seed=seed, tools=tools, start=start)
        for text in self._say(request):
            if attempt.stop_reason is not None:
                break
            await attempt.say(text)
        return await attempt.finish(source=self.name)
