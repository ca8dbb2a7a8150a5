"""Strategies that make attempts: as they come, or only those that are right."""

from collections.abc import Sequence

from journeyman.expressions import Count
from journeyman.synthesis.base import Lesson, Logged, Studio, refusal, signed


async def plain(lesson: Lesson, studio: Studio) -> Sequence[Lesson]:
    """The teacher's attempt as it is: unverified, like the logs of a real agent.

    Of a teacher that has a log (`Logged`), its rows.
    """
    teacher, problem = studio.teacher, lesson.problem
    if isinstance(teacher, Logged):
        made = await teacher.logged(problem)
    else:
        made = [await teacher.attempt(problem, seed=studio.seed_of("plain", problem.id))]
    return [lesson.taking((*lesson.trajectories, *(signed(one, "plain") for one in made)))]


async def rejection(lesson: Lesson, studio: Studio, *, tries: Count = 4, keep: Count = 1) -> Sequence[Lesson]:
    """Rejection sampling: up to `tries` attempts, until `keep` of them are found right by the environment.

    The others are refused, each with its reason.
    """
    right, wrong = [], []
    for number in range(tries):
        if len(right) == keep:
            break
        seed = studio.seed_of("rejection", lesson.problem.id, number)
        made = signed(await studio.teacher.attempt(lesson.problem, seed=seed), "rejection", attempt=number)
        if made.correct:
            right.append(made)
        else:
            reason = "wrong" if made.correct is False else f"not verified ({made.stop_reason})"
            wrong.append(refusal(made, reason))
    return [lesson.taking((*lesson.trajectories, *right), wrong)]
