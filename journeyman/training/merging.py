"""Weights of fine-tuned models put together: pure functions of state dicts.

They take what `named_parameters` gives, in which a head that is tied to the embedding comes once, as the embedding.
"""

import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from journeyman.config import LinesConfig
from journeyman.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

State = Mapping[str, "Tensor"]
Merge = Callable[..., "dict[str, Tensor]"]
"""(base, tuned models, *, options) -> the merged weights."""
BLOCK = r"(?:^|\.)(?:layers|blocks?|h)\.(\d+)\."
"""What a parameter of a block is called."""
HEAD = r"(?:^|\.)(?:lm_head|embed_out)\."


def average(base: State, tuned: Sequence[State]) -> "dict[str, Tensor]":
    """The mean of the weights (model soups, arXiv 2203.05482, secondary): the base plus the mean of the updates."""
    _check_alike([base, *tuned])
    return {name: sum(state[name] for state in tuned) / len(tuned) for name in base}  # pyright: ignore[reportReturnType]


def lines(
    base: State,
    tuned: Sequence[State],
    *,
    alpha: float | None = None,
    beta: float = 0.9,
    block: str = BLOCK,
    head: str = HEAD,
) -> "dict[str, Tensor]":
    """Updates that grow with depth (LiNeS, #200, verified): base + (alpha + beta l / (L - 1)) * update in block l of L.

    The update is the sum of the models' own. `alpha` empty: 1/N; there also times the L1 norm of the sum by that of the
    merged update, which is 1 for the sum. What is in no block has `alpha`. A head counts as the last block, or alpha 0
    would freeze it (ours); one that is tied to the embedding is an embedding. For one model alpha + beta = 1 there.
    Adapters have to be merged before. Not covered: other ways to merge updates (TIES, consensus).
    """
    import torch

    _check_alike([base, *tuned])
    alpha = 1 / len(tuned) if alpha is None else alpha
    scales = _scales(base, alpha, beta, block=block, head=head)
    merged = tuned[0] if len(tuned) == 1 else {n: base[n] + sum(s[n] - base[n] for s in tuned) for n in base}
    # `lerp` is exact at 0 and 1.
    return {name: torch.lerp(base[name], merged[name].to(base[name].dtype), scales[name]) for name in base}


def _scales(names: Iterable[str], alpha: float, beta: float, *, block: str, head: str) -> dict[str, float]:
    """What each parameter's update is multiplied by. Raises `DataError` where there are no blocks."""
    found = {name: re.search(block, name) for name in names}
    depths = {name: int(match[1]) for name, match in found.items() if match}
    if not depths:
        raise DataError("no parameter is in a block", place=block, remedy="give the pattern of this model's blocks")
    last = max(depths.values())
    depths |= {name: last for name in found if re.search(head, name)}
    return {name: alpha + (beta * depths[name] / last if last and name in depths else 0.0) for name in found}


def _check_alike(states: Sequence[State]) -> None:
    """Raises `DataError` where the models are of different shape, or there is none to merge."""
    first, others = states[0], states[1:]
    if not others:
        raise DataError("there is no model to merge")
    for state in others:
        odd = state.keys() ^ first.keys() or {n for n in first if state[n].shape != first[n].shape}
        if odd:
            raise DataError(
                f"the models differ in {', '.join(sorted(odd)[:4])}", remedy="merge models that come from one base"
            )


MERGES: dict[str, Merge] = {"lines": lines, "average": average}


def scale_by_depth(base: Path, policy: Path, out: Path, config: LinesConfig) -> None:
    """`lines` of one policy: model folders in, a model folder with the policy's tokenizer out."""
    import torch
    from transformers import AutoModelForCausalLM

    models = [AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for folder in (base, policy)]
    first, tuned = ({name: p.detach() for name, p in model.named_parameters()} for model in models)
    for name, value in lines(first, [tuned], alpha=config.alpha, beta=config.beta).items():
        tuned[name].copy_(value)
    shutil.copytree(policy, out, dirs_exist_ok=True)
    models[1].save_pretrained(out)
