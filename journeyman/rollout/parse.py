"""The default wire format under short names: see `journeyman.rollout.formats`."""

from journeyman.messages import ParsedTurn
from journeyman.rollout.formats import CALL_FORMATS
from journeyman.rollout.formats.base import MAX_CALLS, MAX_DEPTH
from journeyman.rollout.formats.hermes import CALL, render_call

CALL_OPEN, CALL_CLOSE = CALL


def parse_turn(text: str) -> ParsedTurn:
    """Read a turn in the default format. Any text parses; none crashes."""
    return CALL_FORMATS["hermes"].parse(text)


__all__ = ["CALL_CLOSE", "CALL_OPEN", "MAX_CALLS", "MAX_DEPTH", "ParsedTurn", "parse_turn", "render_call"]
