"""How many tokens an image takes in a model's prompt."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from journeyman.errors import DataError, UserError
from journeyman.messages import Image
from journeyman.tools.pixels import size


class Vision:
    """A model's image processor, as far as lengths go.

    The placeholder of an image is repeated as often as the model has embeddings for it: what is recorded is what the
    model sees, budgets are right, and a learner needs nothing but the images besides.

    Args:
        processor: of transformers, with `get_number_of_image_patches` and `merge_size`: the Qwen-VL families.
        pad_id: the token that stands for an image's embeddings.
    """

    def __init__(self, processor: Any, pad_id: int) -> None:
        self._processor, self.pad_id = processor, pad_id
        self._tokens = lru_cache(maxsize=4096)(self._count)

    @classmethod
    def of_folder(cls, model: Path) -> "Vision | None":
        """That of a model in Hugging Face format; None where it takes no images. Raises `UserError`."""
        if not (model / "preprocessor_config.json").is_file():
            return None
        from transformers import AutoConfig, AutoImageProcessor

        config, processor = AutoConfig.from_pretrained(model), AutoImageProcessor.from_pretrained(model)
        # Families differ in what they have: these three are what the arithmetic needs.
        needed = (("image_token_id", config), ("get_number_of_image_patches", processor), ("merge_size", processor))
        if missing := [name for name, where in needed if not hasattr(where, name)]:
            raise UserError(
                f"images of this model family are not known here: it has no {', '.join(missing)}",
                place=str(model),
                remedy="use a model of the Qwen2-VL, Qwen2.5-VL or Qwen3-VL family",
            )
        return cls(processor, config.image_token_id)

    def tokens(self, image: Image) -> int:
        """Tokens of one image. Raises `DataError` where it can't be read."""
        return self._tokens(*size(image))

    def _count(self, width: int, height: int) -> int:
        try:
            patches = self._processor.get_number_of_image_patches(height, width, {})
        except ValueError as error:  # too long and thin, say
            raise DataError(f"an image of {width} x {height} pixels that the model can't take: {error}") from error
        return patches // self._processor.merge_size**2


def contracted(ids: Sequence[int], pad_id: int, images: int) -> list[int]:
    """A prompt with one placeholder an image, as samplers take it that repeat placeholders themselves.

    Raises `ValueError` where the prompt has room for another number of images.
    """
    short, runs = [], 0
    for token, run in groupby(ids):
        short += [token] if token == pad_id else run
        runs += token == pad_id
    if runs != images:
        raise ValueError(f"the prompt has places for {runs} images, but {images} are given")
    return short
