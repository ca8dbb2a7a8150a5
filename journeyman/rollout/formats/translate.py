"""A written turn in another wire format."""

from journeyman.rollout.formats import base
from journeyman.rollout.formats.hermes import Hermes


def translated(text: str, wire: base.CallFormat) -> str:
    """A turn of a demonstration, written in the default format, as `wire` has it.

    A turn that is malformed on purpose stays as it is, and so do plain words; words beside a call are left out.
    """
    if wire.name == Hermes.name:
        return text
    parsed = Hermes().parse(text)
    if parsed.error:
        return text
    thought, _ = base.split_thought(text)
    if parsed.calls or parsed.answer is not None:
        return wire.render(thought, parsed.calls, parsed.answer)
    if wire.name == "toolrl":
        return wire.render(thought, answer=parsed.text)
    return text
