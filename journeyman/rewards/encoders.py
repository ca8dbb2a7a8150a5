"""Texts to vectors of length 1, for rewards that compare texts."""

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from journeyman.config.judge import EncoderConfig, HashedEncoding
from journeyman.rewards.base import Encoder

if TYPE_CHECKING:
    import numpy as np

    from journeyman.tools import embedder


class HashedEncoder:
    """Character n-grams, hashed into so many dimensions; the same in every process. Needs no model (ours).

    A gram counts 1 + ln(how often); one bit of its hash gives the sign, so that collisions cancel in the mean (arXiv
    0902.2206). Case and kinds of space don't count. It knows nothing of meaning: only spelling is compared.
    """

    def __init__(self, dimensions: int = 1024, *, shortest: int = 3, longest: int = 5) -> None:
        if not 1 <= shortest <= longest:
            raise ValueError("the shortest n-gram is longer than the longest, or empty")
        self._dimensions, self._sizes = dimensions, range(shortest, longest + 1)

    def embed(self, texts: Sequence[str]) -> "np.ndarray":
        """n x d, float64."""
        import numpy as np

        rows = np.zeros((len(texts), self._dimensions))
        for row, text in zip(rows, texts, strict=True):
            for gram, count in self._grams(text).items():
                hashed = zlib.crc32(gram.encode("utf-8", "surrogatepass"))
                row[(hashed >> 1) % self._dimensions] += (1 if hashed & 1 else -1) * (1 + math.log(count))
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows[lengths[:, 0] == 0, 0] = 1.0  # grams that cancel: length 1 all the same
        return rows / np.where(lengths == 0, 1, lengths)

    def _grams(self, text: str) -> Counter[str]:
        """The n-grams of a text between two spaces; the empty text has one of its own."""
        plain = f" {' '.join(text.casefold().split())} "
        grams = Counter(plain[i : i + size] for size in self._sizes for i in range(len(plain) - size + 1))
        return grams or Counter([plain])


class ModelEncoder:
    """The mean of the last layer of a model in a local folder; it is read when first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def embed(self, texts: Sequence[str]) -> "np.ndarray":
        """n x d, float64. Raises `DataError` where there is no model in the folder."""
        import numpy as np

        if not texts:
            return np.zeros((0, 0))
        rows = self._model(texts).astype(np.float64)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    @cached_property
    def _model(self) -> "embedder.Encoder":
        from journeyman.tools.embedder import Encoder

        return Encoder(self._folder)


def build_encoder(config: EncoderConfig) -> Encoder:
    """The one that pipelines.yaml describes."""
    if isinstance(config, HashedEncoding):
        return HashedEncoder(config.dimensions, shortest=config.shortest, longest=config.longest)
    return ModelEncoder(Path(config.path))
