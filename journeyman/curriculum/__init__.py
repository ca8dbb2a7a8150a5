"""Curricula: which problems come next. To add one: a class, a line in `CURRICULA`, a test."""

from journeyman.curriculum.base import Curriculum
from journeyman.curriculum.families import Uniform, Weakest

CURRICULA: dict[str, type[Uniform] | type[Weakest]] = {"uniform": Uniform, "weakest": Weakest}

__all__ = ["CURRICULA", "Curriculum"]
