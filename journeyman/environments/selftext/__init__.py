"""Self-supervised tasks on any text: its order, what was left out of it, what comes next, what a search recovers."""

from journeyman.environments.selftext.masking import Masking
from journeyman.environments.selftext.ordering import Ordering
from journeyman.environments.selftext.segments import Segments
from journeyman.environments.selftext.spans import MaskSearch, mark_spans

__all__ = ["MaskSearch", "Masking", "Ordering", "Segments", "mark_spans"]
