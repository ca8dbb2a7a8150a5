"""A causal LM on its device, in its arithmetic: what the learner trains, and what it is held against."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.config import ComputeConfig, LoraConfig
from journeyman.errors import ConfigError
from journeyman.training.packing import packed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CROSS_TALK = 1e-4
"""Largest difference of logits, in their standard deviations, that rounding explains."""


class Network:
    """Masters are float32; arithmetic is bfloat16 where asked for. Padding is on the right, where causal attention never
    looks back at it.

    With `packing` rows whose `lengths` are given share sequences in the forward pass; the results are the same.
    """

    def __init__(
        self, folder: Path, compute: ComputeConfig, *, packing: bool = False, lora: LoraConfig | None = None
    ) -> None:
        """Raises `ConfigError` where the model can't be packed or has no place for the adapters."""
        import torch
        from transformers import AutoModelForCausalLM

        self.device = pick_device(compute)
        self.dtype = pick_dtype(compute, self.device)
        self._packing, self._lora = packing, lora
        # On a CPU the fused attention kernel is slow backwards in bfloat16: the plain one takes a fifth less for a step.
        attention = "eager" if self.device.type == "cpu" and self.dtype == torch.bfloat16 else "sdpa"
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
        self.model = model.to(self.device).train()  # pyright: ignore[reportArgumentType]
        if packing:
            self._check_packing(folder)
        if lora:
            from journeyman.training.adapters import add_adapters

            add_adapters(self.model, lora)

    def logits(self, ids_BT: "Tensor", lengths: Sequence[int] = (), *, exact: bool = False) -> "Tensor":
        """float32, B x T x V. `lengths`: of the rows before padding; empty: not packed."""
        with self._arithmetic(exact):
            found, rows = self._forward(self.model, ids_BT, lengths)
            return rows(found.logits).float()

    def states(self, ids_BT: "Tensor", lengths: Sequence[int] = ()) -> "Tensor":
        """The last hidden states in float32, B x T x D, without gradient."""
        import torch

        with torch.no_grad(), self._arithmetic():
            found, rows = self._forward(self.model.base_model, ids_BT, lengths)
            return rows(found.last_hidden_state).float()

    def logits_and_states(self, ids_BT: "Tensor", lengths: Sequence[int] = ()) -> "tuple[Tensor, Tensor]":
        """Both in one pass; the states without gradient."""
        with self._arithmetic():
            found, rows = self._forward(self.model, ids_BT, lengths, output_hidden_states=True)
            return rows(found.logits).float(), rows(found.hidden_states[-1]).detach().float()

    def _forward(
        self, model: Any, ids_BT: "Tensor", lengths: Sequence[int], **options: Any
    ) -> "tuple[Any, Callable[[Tensor], Tensor]]":
        """(what the model gives, how its values become B x T)."""
        packing = packed(lengths, self.device) if self._packing else None
        if packing is None:
            return model(input_ids=ids_BT, use_cache=False, **options), lambda values_BTX: values_BTX
        ids_PL = packing.pack(ids_BT)
        # Without an attention mask and a cache, positions that begin anew part what stands in one sequence.
        return model(input_ids=ids_PL, position_ids=packing.positions_PL, use_cache=False, **options), packing.unpack

    def _check_packing(self, folder: Path) -> None:
        """Two rows in one sequence must be what they are alone. Raises `ConfigError`."""
        import torch

        lengths = (5, 2, 3)
        ids_BT = torch.tensor([[5, 4, 3, 2, 1], [1, 2, 0, 0, 0], [3, 1, 4, 0, 0]], device=self.device)
        self.model.eval()
        try:
            with torch.no_grad():
                alone, together = (self.logits(ids_BT, given, exact=True) for given in ((), lengths))
            gap = max(float((alone - together)[i, :n].abs().max()) for i, n in enumerate(lengths))
            fault = (
                "" if gap <= CROSS_TALK * float(alone.std()) else f"its rows see each other (by {gap:.2g} in a logit)"
            )
        except TypeError as error:
            fault = str(error)
        self.model.train()
        if fault:
            raise ConfigError(f"{folder.name} can't be packed: {fault}", place="packing", remedy="set packing: false")

    @contextmanager
    def learning(self, seed: int) -> "Iterator[None]":
        """Passes of an optimizer step: the adapters' dropout, where there is any, is drawn from the seed."""
        if not (self._lora and self._lora.dropout):
            yield
            return
        from journeyman.training.adapters import dropping

        with dropping(self.model, seed, self.device):
            yield

    def weights(self) -> "dict[str, Tensor]":
        """The plain model's, by parameter name, adapters merged; tied ones once."""
        if self._lora is None:
            return {name: p.detach() for name, p in self.model.named_parameters()}
        from journeyman.training.adapters import merged

        return merged(self.model)

    def save(self, folder: Path) -> None:
        """The plain model in the usual Hugging Face format."""
        self.model.save_pretrained(folder, state_dict=self.weights() if self._lora else None)

    def state_dict(self) -> "dict[str, Tensor]":
        """All weights; of a model with adapters only these."""
        state = self.model.state_dict()
        return {name: value for name, value in state.items() if name in self._learned()} if self._lora else state

    def load_state_dict(self, state: "dict[str, Tensor]") -> None:
        """Keys are strict."""
        if self._lora and state.keys() != self._learned():
            raise RuntimeError(f"not the adapters of this model: {sorted(state.keys() ^ self._learned())[:4]}")
        self.model.load_state_dict(state, strict=self._lora is None)

    def _learned(self) -> set[str]:
        return {name for name, p in self.model.named_parameters() if p.requires_grad}

    def _arithmetic(self, exact: bool = False) -> "torch.autocast":
        import torch

        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32 and not exact)


def pick_device(compute: ComputeConfig) -> "torch.device":
    """The device that the config asks for; auto takes a GPU where there is one."""
    import torch

    if compute.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(compute.device)


def pick_dtype(compute: ComputeConfig, device: "torch.device") -> "torch.dtype":
    """The arithmetic that the config asks for; auto takes bfloat16 where the hardware multiplies it natively."""
    import torch

    if compute.dtype != "auto":
        return getattr(torch, compute.dtype)
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32
