"""A `transformers` model as the torch sampler runs it: a step's tokens in, logits of the ones that matter out.

Any causal LM runs through its own forward pass, with `attend` in the place of its attention function. For models with
Llama's layout this module has a forward pass of its own on the same weights: at quickstart's size the modules' overhead
takes longer than the arithmetic.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    AttentionInterface,
    LlamaForCausalLM,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)
from transformers.activations import ACT2FN
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from journeyman.rollout.kv_cache import StepPlan, attend

ATTENTION = "journeyman_slots"
"""The sampler's attention function, for `attn_implementation`."""

_FIXED_ROPES = {"default", "linear", "llama3", "yarn"}
"""Rotary embeddings that depend on the position alone."""

_QKV_BIASES = ("q_proj.bias", "k_proj.bias", "v_proj.bias")

StepModel = Callable[[torch.Tensor, torch.Tensor, StepPlan, torch.Tensor | None], torch.Tensor]
"""(token ids T, positions T, plan, which tokens' logits are wanted: None for all) -> logits."""


def step_model(model: PreTrainedModel, max_length: int) -> StepModel:
    """The fastest way to run `model` that gives its results."""
    llamas = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
    if isinstance(model, llamas) and _is_plain(model):
        return LlamaStep(model, max_length)
    return lambda tokens, positions, plan, keep: model(
        input_ids=tokens.unsqueeze(0),
        position_ids=positions.unsqueeze(0),
        use_cache=False,
        logits_to_keep=0 if keep is None else keep,
        plan=plan,
    ).logits[0]


def _is_plain(model: PreTrainedModel) -> bool:
    biases = [name for name, _ in model.named_parameters() if name.endswith(".bias") and not name.endswith(_QKV_BIASES)]
    return model.config.rope_parameters["rope_type"] in _FIXED_ROPES and not biases


def _attention_function(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    plan: StepPlan | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """As `transformers` calls it: query 1 x H x T x D to 1 x T x H x D. Without a plan it is sdpa's."""
    if plan is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    layer = module.layer_idx
    assert isinstance(layer, int)
    queries, keys, values = (states[0].transpose(0, 1) for states in (query, key, value))
    return attend(plan, layer, queries, keys, values, scaling).unflatten(1, queries.shape[1:]).unsqueeze(0), None


AttentionInterface.register(ATTENTION, _attention_function)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """Weights of one layer. The fused ones share their storage with the model's own, so new weights are copied once."""

    before_attention: torch.Tensor
    qkv: torch.Tensor
    qkv_bias: torch.Tensor | None
    head_norms: tuple[torch.Tensor, torch.Tensor] | None
    """Norms of the queries and of the keys."""
    out: torch.Tensor
    """Transposed."""
    before_mlp: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    """Transposed."""


class LlamaStep:
    """Forward pass of Llama-like models; tested against `transformers` for each family."""

    def __init__(self, model: PreTrainedModel, max_length: int) -> None:
        config = model.config
        named = dict(model.named_parameters(remove_duplicate=False))
        self._embedding, self._head = named["model.embed_tokens.weight"], named["lm_head.weight"]
        self._norm, self._eps = named["model.norm.weight"], config.rms_norm_eps
        self._layers = [_fuse(named, f"model.layers.{number}.") for number in range(config.num_hidden_layers)]
        self._activation = ACT2FN[config.hidden_act]
        self._heads = config.num_attention_heads
        self._both = self._heads + config.num_key_value_heads
        """Heads of queries and of keys together."""
        positions = torch.arange(max_length, device=model.device).unsqueeze(0)
        cosines, sines = model.get_submodule("model.rotary_emb")(self._norm, positions)
        self._size = cosines.shape[2]
        half = self._size // 2
        self._cosines = cosines[0].unsqueeze(1)
        self._sines = torch.cat((-sines[0, :, :half], sines[0, :, half:]), dim=1).unsqueeze(1)

    def __call__(
        self, tokens_T: torch.Tensor, positions_T: torch.Tensor, plan: StepPlan, keep: torch.Tensor | None
    ) -> torch.Tensor:
        hidden = F.embedding(tokens_T, self._embedding)
        cosines, sines = self._cosines.index_select(0, positions_T), self._sines.index_select(0, positions_T)
        for number, layer in enumerate(self._layers):
            normed = F.rms_norm(hidden, hidden.shape[1:], layer.before_attention, self._eps)
            qkv = F.linear(normed, layer.qkv, layer.qkv_bias).unflatten(1, (-1, self._size))
            queries, keys = self._rotate(qkv, layer, cosines, sines)
            seen = attend(plan, number, queries, keys, qkv[:, self._both :], self._size**-0.5)
            hidden = torch.addmm(hidden, seen, layer.out)
            normed = F.rms_norm(hidden, hidden.shape[1:], layer.before_mlp, self._eps)
            gate, up = F.linear(normed, layer.gate_up).chunk(2, dim=1)
            hidden = torch.addmm(hidden, self._activation(gate).mul_(up), layer.down)
        if keep is not None:
            hidden = hidden.index_select(0, keep)
        return F.linear(F.rms_norm(hidden, hidden.shape[1:], self._norm, self._eps), self._head)

    def _rotate(
        self, qkv: torch.Tensor, layer: _Layer, cosines: torch.Tensor, sines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries and keys with their norms and rotary embeddings, both at once where they are treated alike."""
        both = qkv[:, : self._both]
        if layer.head_norms:
            both = F.rms_norm(both, both.shape[2:], None, self._eps)
            both[:, : self._heads].mul_(layer.head_norms[0])
            both[:, self._heads :].mul_(layer.head_norms[1])
        turned = torch.roll(both, self._size // 2, -1)
        both = (both * cosines).addcmul_(turned, sines)
        return both[:, : self._heads], both[:, self._heads :]


def _fuse(named: Mapping[str, nn.Parameter], layer: str) -> _Layer:
    """The weights whose names begin with `layer`."""
    projections = [f"{layer}self_attn.{name}_proj" for name in "qkv"]
    biased = f"{projections[0]}.bias" in named
    norms = [f"{layer}self_attn.{name}_norm.weight" for name in "qk"]
    return _Layer(
        before_attention=named[f"{layer}input_layernorm.weight"],
        qkv=_share([named[f"{name}.weight"] for name in projections]),
        qkv_bias=_share([named[f"{name}.bias"] for name in projections]) if biased else None,
        head_norms=(named[norms[0]], named[norms[1]]) if norms[0] in named else None,
        out=named[f"{layer}self_attn.o_proj.weight"].t(),
        before_mlp=named[f"{layer}post_attention_layernorm.weight"],
        gate_up=_share([named[f"{layer}mlp.gate_proj.weight"], named[f"{layer}mlp.up_proj.weight"]]),
        down=named[f"{layer}mlp.down_proj.weight"].t(),
    )


def _share(parameters: list[nn.Parameter]) -> torch.Tensor:
    """One tensor of several, which become views of it."""
    fused = torch.cat([parameter.data for parameter in parameters])
    start = 0
    for parameter in parameters:
        parameter.data = fused[start : start + parameter.shape[0]]
        start += parameter.shape[0]
    return fused
