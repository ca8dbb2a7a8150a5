"""A causal LM on its device, in its arithmetic: what the learner trains, and what it is held against."""

from pathlib import Path
from typing import TYPE_CHECKING

from journeyman.config import ComputeConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Network:
    """Masters are float32; arithmetic is bfloat16 where asked for. Padding is on the right, where causal attention never
    looks back at it."""

    def __init__(self, folder: Path, compute: ComputeConfig) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self.device = pick_device(compute)
        self.dtype = pick_dtype(compute, self.device)
        # On a CPU the fused attention kernel is slow backwards in bfloat16: the plain one takes a fifth less for a step.
        attention = "eager" if self.device.type == "cpu" and self.dtype == torch.bfloat16 else "sdpa"
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
        self.model = model.to(self.device).train()  # pyright: ignore[reportArgumentType]

    def logits(self, ids_BT: "Tensor", *, exact: bool = False) -> "Tensor":
        """float32, B x T x V."""
        with self._arithmetic(exact):
            return self.model(input_ids=ids_BT, use_cache=False).logits.float()

    def states(self, ids_BT: "Tensor") -> "Tensor":
        """The last hidden states in float32, B x T x D, without gradient."""
        import torch

        with torch.no_grad(), self._arithmetic():
            return self.model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state.float()

    def logits_and_states(self, ids_BT: "Tensor") -> "tuple[Tensor, Tensor]":
        """Both in one pass; the states without gradient."""
        with self._arithmetic():
            found = self.model(input_ids=ids_BT, use_cache=False, output_hidden_states=True)
        return found.logits.float(), found.hidden_states[-1].detach().float()

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
