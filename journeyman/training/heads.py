"""Scalar heads on the policy's last hidden state: values for critics, flows. Their gradient doesn't reach the policy."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Linear


@dataclass(slots=True)
class Head:
    """A linear map of the hidden state to a number, 0 at first, with its optimizer and a copy that follows it."""

    linear: "Linear"
    slow: "Linear"
    optimizer: "torch.optim.Optimizer"

    def __call__(self, states_BTD: "Tensor", *, slow: bool = False) -> "Tensor":
        """B x T numbers."""
        return (self.slow if slow else self.linear)(states_BTD).squeeze(-1)

    def update(self, learning_rate: float) -> None:
        """A step on the gradient that has gathered."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def follow(self, polyak: float) -> None:
        """Move the slow copy towards the head: Polyak averaging, as ArCHer (#192, derived) has it for its targets."""
        import torch

        with torch.no_grad():
            for own, other in zip(self.slow.parameters(), self.linear.parameters(), strict=True):
                own.lerp_(other, polyak)

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).state_dict() for name in ("linear", "slow", "optimizer")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("linear", "slow", "optimizer"):
            getattr(self, name).load_state_dict(state[name])


class Heads:
    """Heads by name, made when first asked for."""

    def __init__(self, width: int, device: "torch.device") -> None:
        self._width, self._device = width, device
        self._heads: dict[str, Head] = {}

    def __getitem__(self, name: str) -> Head:
        if name not in self._heads:
            self._heads[name] = _make(self._width, self._device)
        return self._heads[name]

    def state_dict(self) -> dict[str, Any]:
        return {name: head.state_dict() for name, head in self._heads.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Exactly the heads of the state are there afterwards."""
        self._heads = {}
        for name, own in state.items():
            self[name].load_state_dict(own)


def _make(width: int, device: "torch.device") -> Head:
    import torch

    with torch.random.fork_rng(devices=[]):  # being made changes no random draw
        linear = torch.nn.Linear(width, 1).to(device)
    for parameter in linear.parameters():
        torch.nn.init.zeros_(parameter)
    slow = deepcopy(linear)
    slow.requires_grad_(False)
    return Head(linear, slow, torch.optim.Adam(linear.parameters()))
