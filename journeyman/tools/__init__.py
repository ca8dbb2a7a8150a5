"""The tools. To add one: a module here, a test, a line in `TOOLS`."""

from journeyman.tools.base import Tool
from journeyman.tools.calculator import Calculator
from journeyman.tools.search import Search
from journeyman.tools.sql import Sql

TOOLS: dict[str, type] = {"calculator": Calculator, "search": Search, "sql": Sql}
"""Name to class, for the catalog; environments build them with their own corpus or tables."""

__all__ = ["TOOLS", "Calculator", "Search", "Sql", "Tool"]
