"""What a tool is: a name, a JSON Schema, an asynchronous call whose errors are observations."""

from collections.abc import Mapping
from typing import Any, Protocol

from journeyman.trajectory import ToolResult


class Tool(Protocol):
    """Something the model can call."""

    name: str

    def spec(self) -> dict[str, Any]:
        """The tool in the form chat templates take: `{"type": "function", "function": {...}}`."""
        ...

    async def call(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Run the tool. The model's mistakes come back as `ok=False`; an `InfrastructureError` is raised for ours."""
        ...
