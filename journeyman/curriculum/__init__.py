"""Curricula: which problems come next. To add one: a class, its options in `journeyman.config.curriculum`, a line in
`CURRICULA`, a test."""

from collections.abc import Callable, Sequence
from typing import Any

from journeyman.curriculum.base import Curriculum
from journeyman.curriculum.families import Uniform, Weakest
from journeyman.curriculum.guided import Guided
from journeyman.curriculum.ordered import Ordered
from journeyman.curriculum.rated import Balance, Bands, Controlled, Edge
from journeyman.curriculum.reverse import Reverse
from journeyman.curriculum.sets import Sets
from journeyman.problem import Problem

CURRICULA: dict[str, Callable[[Sequence[Problem], int, Any], Curriculum]] = {
    "uniform": Uniform,
    "weakest": Weakest,
    "bands": Bands,
    "edge": Edge,
    "balance": Balance,
    "ordered": Ordered,
    "sets": Sets,
    "reverse": Reverse,
    "guided": Guided,
    "controlled": Controlled,
}
"""What makes one of problems, seed and its block of the config."""

__all__ = ["CURRICULA", "Curriculum"]
