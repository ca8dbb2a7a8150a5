"""Graders that can be used alone. To add one: a module here, a test, a line in `GRADERS`."""

from collections.abc import Callable, Mapping
from typing import Any

from journeyman.graders.answers import grade_answers
from journeyman.graders.calls import grade_calls
from journeyman.graders.grade import Grade, GradeError

GRADERS: dict[str, Callable[[Mapping[str, Any]], Grade]] = {"answers": grade_answers, "calls": grade_calls}
"""Name to function: an item in, a verdict out."""

__all__ = ["GRADERS", "Grade", "GradeError", "grade_answers", "grade_calls"]
