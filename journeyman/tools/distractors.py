"""Tools that no problem needs, as many as are asked for: what retrieval is measured against (#48)."""

from collections.abc import Mapping
from itertools import islice, product
from typing import Any

from journeyman.messages import Fault, ToolResult
from journeyman.seeds import derive
from journeyman.tools.arguments import arguments_error
from journeyman.tools.base import CallContext, Tool

_VERBS = (
    *(
        "list",
        "find",
        "create",
        "update",
        "delete",
        "archive",
        "export",
        "count",
        "approve",
        "assign",
        "share",
        "rename",
    ),
    *("schedule", "cancel", "compare", "summarize", "validate", "restore", "merge", "track"),
)
_OBJECTS = (
    *(
        "invoice",
        "ticket",
        "contract",
        "shipment",
        "customer",
        "employee",
        "meeting",
        "repository",
        "document",
        "alert",
    ),
    *(
        "campaign",
        "warehouse",
        "subscription",
        "budget",
        "device",
        "certificate",
        "survey",
        "payment",
        "role",
        "backup",
    ),
    *("pipeline", "dashboard", "vehicle", "course", "review", "order", "refund", "license", "message", "report"),
)
_SCOPES = (
    *("by_region", "by_team", "by_owner", "by_status", "by_date", "by_priority", "by_project", "by_vendor", "by_label"),
    *("in_bulk", "in_draft", "in_review", "in_archive", "in_folder", "in_calendar", "in_inbox", "in_sandbox"),
    *("for_month", "for_quarter", "for_branch", "for_partner", "for_tenant", "for_audit", "for_release", "for_visitor"),
    *("with_history", "with_notes", "with_totals", "with_links", "with_images"),
)
MOST = len(_VERBS) * len(_OBJECTS) * len(_SCOPES)
"""18,000, the size of the largest collection that was published (#48)."""


class Distractor(Tool):
    """A tool of an office that has nothing in it."""

    def __init__(self, verb: str, thing: str, scope: str) -> None:
        self.name = f"{verb}_{thing}_{scope}"
        self._description = f"{verb.capitalize()} {thing} records {scope.replace('_', ' ')}."

    def spec(self) -> dict[str, Any]:
        schema = {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]}
        function = {"name": self.name, "description": self._description, "parameters": schema}
        return {"type": "function", "function": function}

    async def call(self, arguments: Mapping[str, Any], context: CallContext = CallContext()) -> ToolResult:
        if error := arguments_error(self.spec(), arguments):
            return ToolResult(name=self.name, ok=False, output=f"error: {error}", fault=Fault.POLICY)
        return ToolResult(name=self.name, ok=True, output="no records")


def distractors(count: int) -> dict[str, Tool]:
    """So many of them, always the same, mixed over all verbs. Raises `ValueError` beyond `MOST`."""
    if count > MOST:
        raise ValueError(f"there are {MOST} distractors, not {count}")
    mixed = sorted(product(_VERBS, _OBJECTS, _SCOPES), key=lambda parts: derive("distractor", *parts))
    return {tool.name: tool for tool in (Distractor(*parts) for parts in islice(mixed, count))}
