"""Which characters of a turn's text each of its tokens wrote."""

from collections.abc import Callable, Sequence

from journeyman.credit.readings import Edges
from journeyman.rollout.chat import ChatFormat
from journeyman.trajectory import Trajectory

UNFINISHED = "\ufffd"
"""What stands for the bytes of a character that is not complete."""


def token_edges(ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[tuple[int, int]]:
    """For each token (start, stop) of the characters that it wrote at least a byte of, in the text of all of them.

    A character that several tokens write belongs to each; a token without text has start = stop. `decode` may put the same
    beginning before every text, and may treat the first token differently: it is only asked for stretches that overlap.
    Where the model wrote no valid UTF-8, the stretches around it are up to the spoilt characters too wide.
    """
    edges: list[tuple[int, int]] = []
    done = len(decode(()))  # characters of the finished tokens
    window = finished = 0  # the stretch that is decoded begins at `window`; tokens before `finished` are finished
    reached = 0  # complete characters since then
    for i in range(len(ids)):
        before, now = decode(ids[window:finished]), decode(ids[window : i + 1])
        pending = now.endswith(UNFINISHED)
        complete = max(reached, len(now.rstrip(UNFINISHED) if pending else now) - len(before))
        edges.append((done + reached, done + complete + pending))
        reached = complete
        if not pending and complete:
            done, reached, window, finished = done + complete, 0, finished, i + 1
    return edges


def edges_of(chat: ChatFormat) -> Edges:
    """`token_edges` of a sampled turn, against its `Turn.text`; empty for a turn that was never sampled."""

    def edges(trajectory: Trajectory, number: int) -> list[tuple[int, int]]:
        turn = trajectory.turns[number]
        return token_edges(trajectory.token_ids[turn.start : turn.stop], chat.decode)

    return edges
