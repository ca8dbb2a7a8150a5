"""Texts as vectors by an encoder in a local folder."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.errors import DataError

if TYPE_CHECKING:
    import numpy as np

MAX_TOKENS = 512
"""Longest text; what is beyond is not seen."""
_HASHED = (".json", ".safetensors", ".bin", ".txt", ".model")


class Encoder:
    """The mean of the last layer over a text's tokens, scaled to length 1, as sentence-transformers has it.

    NOT covered: models with another pooling, or with a projection behind it.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "config.json").is_file():
            raise DataError("there is no encoder in this folder", place=str(folder))
        self._folder = folder

    @cached_property
    def digest(self) -> str:
        """Of the names and sizes of the folder's files, and of its configuration."""
        files = sorted(path for path in self._folder.iterdir() if path.suffix in _HASHED)
        made = hashlib.sha256((self._folder / "config.json").read_bytes())
        for path in files:
            made.update(f"{path.name}:{path.stat().st_size}:{path.stat().st_mtime_ns}\n".encode())
        return made.hexdigest()[:16]

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """(tokenizer, model)."""
        from transformers import AutoModel, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self._folder)
        return tokenizer, AutoModel.from_pretrained(self._folder).eval()

    def __call__(self, texts: Sequence[str]) -> "np.ndarray":
        """(N, D), float32."""
        import torch

        tokenizer, model = self._parts
        longest = min(MAX_TOKENS, model.config.max_position_embeddings)
        batch = tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            hidden_BTD = model(**batch).last_hidden_state
        mask_BT1 = batch["attention_mask"].unsqueeze(-1).to(hidden_BTD.dtype)
        mean_BD = (hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1).clamp(min=1)
        return torch.nn.functional.normalize(mean_BD, dim=-1).float().cpu().numpy()
