"""Credit: a scored group to an advantage per token. To add one: a function, a line in `CREDITS`, a test."""

from journeyman.credit.base import Credit
from journeyman.credit.group import best, group_mean, group_normalized

CREDITS: dict[str, Credit] = {"group": group_normalized, "group-mean": group_mean, "best": best}

__all__ = ["CREDITS", "Credit"]
