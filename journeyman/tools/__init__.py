"""The tools. To add one: a module here, a test, a line in `TOOLS`."""

from journeyman.tools.base import Tool
from journeyman.tools.calculator import Calculator
from journeyman.tools.dictionary import Dictionary
from journeyman.tools.images import Crop, Zoom
from journeyman.tools.maker import MakeTool
from journeyman.tools.mcp import CallMcp
from journeyman.tools.memory import FoldMemory, Recall
from journeyman.tools.python import Python
from journeyman.tools.schema import Schema
from journeyman.tools.search import Search
from journeyman.tools.sql import Sql
from journeyman.tools.toolbox import CallTool, SearchTools

TOOLS: dict[str, type] = {
    "calculator": Calculator,
    "crop": Crop,
    "dictionary": Dictionary,
    "mcp": CallMcp,
    "python": Python,
    "schema": Schema,
    "search": Search,
    "sql": Sql,
    "zoom": Zoom,
    "search_tools": SearchTools,
    "call_tool": CallTool,
    "make_tool": MakeTool,
    "fold_memory": FoldMemory,
    "recall": Recall,
}
"""Name to class, for the catalog; environments build them with their own corpus or tables."""

__all__ = ["TOOLS", "Calculator", "Crop", "Python", "Search", "Sql", "Tool", "Zoom"]
