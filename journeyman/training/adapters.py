"""Low-rank adapters (LoRA) by `peft`, put into a model in place: everything else still sees the plain model.

Everything that leaves the learner is merged: samplers and later stages know nothing of adapters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from journeyman.config import LoraConfig
from journeyman.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, device
    from transformers import PreTrainedModel

ADAPTER = "default"
"""The name that `peft` gives the only one."""
PLACE = "lora.targets"


def add_adapters(model: "PreTrainedModel", config: LoraConfig) -> None:
    """LoRA (arXiv 2106.09685, secondary): W + alpha / rank * B A, B zero at first; W is frozen.

    Raises `ConfigError` where a target isn't there, or is an embedding that the head shares: merged, an adapter of one
    would change the other.
    """
    import peft

    options = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.targets) or "all-linear",
    )
    tied = model.config.get_text_config().tie_word_embeddings
    shared = {"embed_tokens", "lm_head"} & set(config.targets) if tied else set()
    if shared:
        raise ConfigError(
            f"this model's embedding is its head: no adapter for {', '.join(sorted(shared))}",
            place=PLACE,
            remedy="name layers inside the blocks",
        )
    try:
        peft.inject_adapter_in_model(options, model)
    except ValueError as error:
        names = sorted({name.rpartition(".")[2] for name, _ in model.named_modules() if name.endswith("_proj")})
        raise ConfigError(str(error), place=PLACE, remedy=f"this model has {', '.join(names)}") from error
    for _, layer in _layers(model):
        layer.lora_dropout.eval()


def _layers(model: "PreTrainedModel") -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def merged(model: "PreTrainedModel") -> "dict[str, Tensor]":
    """The weights of the plain model that computes the same, by its parameters' names; tied ones once."""
    layers, state = dict(_layers(model)), {}
    for name, parameter in model.named_parameters():
        owner, _, leaf = name.rpartition(".base_layer.")
        if owner not in layers:
            if not any(name.startswith(f"{own}.lora_") for own in layers):
                state[name] = parameter.detach()
        elif leaf == "weight":
            state[f"{owner}.{leaf}"] = parameter.detach() + layers[owner].get_delta_weight(ADAPTER).detach()
        else:
            state[f"{owner}.{leaf}"] = parameter.detach()
    return state


@contextmanager
def dropping(model: "PreTrainedModel", seed: int, device: "device") -> Iterator[None]:
    """The adapters' dropout is on in here, and only in here: scores are exact, and a resumed run draws the same."""
    import torch

    layers = [layer for _, layer in _layers(model)]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for layer in layers:
            layer.lora_dropout.train()
        try:
            yield
        finally:
            for layer in layers:
                layer.lora_dropout.eval()
