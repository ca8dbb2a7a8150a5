"""The learner: tokens, mask, log-probabilities and advantages in; better weights out. Blind to algorithms and worlds."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.config import ComputeConfig, ObjectiveConfig
from journeyman.training.batching import MicroBatch, microbatches
from journeyman.training.handle import LearnerSpec, Row
from journeyman.training.objective import OBJECTIVES, TokenBatch
from journeyman.training.optimizers import build_optimizers, rate_factor

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Learner:
    """A causal LM with its optimizer. Masters are float32; arithmetic is bfloat16 where asked for.

    The loss is the same under any micro-batching: sums over tokens, divided by the whole batch's learned tokens.
    """

    def __init__(self, spec: LearnerSpec, compute: ComputeConfig) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.manual_seed(spec.seed)
        if compute.device != "cuda":
            torch.set_num_threads(compute.threads)
        self._spec, self._compute = spec, compute
        self._device = pick_device(compute)
        self._dtype = pick_dtype(compute, self._device)
        self._tokenizer = AutoTokenizer.from_pretrained(spec.model)
        # On a CPU the fused attention kernel is slow backwards in bfloat16: the plain one takes a fifth less for a step.
        attention = "eager" if self._device.type == "cpu" and self._dtype == torch.bfloat16 else "sdpa"
        model = AutoModelForCausalLM.from_pretrained(spec.model, dtype=torch.float32, attn_implementation=attention)
        self._model = model.to(self._device).train()  # pyright: ignore[reportArgumentType]
        self._optimizers = build_optimizers(self._model, spec.optimizer)
        self._base_rates = [[group["lr"] for group in o.param_groups] for o in self._optimizers]
        self._steps = 0

    def step(self, rows: Sequence[Row], objective: ObjectiveConfig) -> dict[str, float]:
        """One optimizer step on `rows` with the global token mean; metrics by name."""
        import torch

        started = time.perf_counter()
        learned = sum(sum(row.mask[1:]) for row in rows)
        if learned == 0:
            return {}
        sums: dict[str, float] = {"loss/total": 0.0}
        for batch in microbatches(rows, self._spec.microbatch_tokens, self._device):
            loss, parts = self._loss(batch, objective)
            (loss / learned).backward()
            for name, value in {"loss/total": loss.detach(), **parts}.items():
                sums[name] = sums.get(name, 0.0) + float(value)
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._spec.optimizer.clip_norm)
        factor = self._set_rates()
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._steps += 1
        return {
            **{name: value / learned for name, value in sums.items()},
            "loss/gradient_norm": float(norm),
            "optimizer/learning_rate": factor * self._spec.optimizer.learning_rate,
            "throughput/learned_tokens_per_s": learned / (time.perf_counter() - started),
        }

    def _loss(self, batch: MicroBatch, objective: ObjectiveConfig) -> "tuple[Tensor, dict[str, Tensor]]":
        import torch

        logits_BTV = self._logits(batch.ids_BT)[:, :-1] / batch.temperature_B[:, None, None]
        logs_BTV = torch.log_softmax(logits_BTV, dim=-1)
        logprobs_BT = logs_BTV.gather(-1, batch.ids_BT[:, 1:, None]).squeeze(-1)
        tokens = TokenBatch(
            logprobs_BT=logprobs_BT,
            old_logprobs_BT=batch.old_logprobs_BT,
            sampler_logprobs_BT=batch.sampler_logprobs_BT,
            advantages_BT=batch.advantages_BT,
            mask_BT=batch.mask_BT,
        )
        loss, sums = OBJECTIVES[objective.type](tokens, objective)
        with torch.no_grad():
            entropy_BT = -(logs_BTV.exp() * logs_BTV).sum(-1)
            sums["policy/entropy_nats"] = (entropy_BT * batch.mask_BT).sum()
        return loss, sums

    def _logits(self, ids_BT: "Tensor", *, exact: bool = False) -> "Tensor":
        """float32 logits. Padding is on the right, where causal attention never looks back at it."""
        import torch

        mixed = self._dtype != torch.float32 and not exact
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=mixed):
            return self._model(input_ids=ids_BT, use_cache=False).logits.float()

    def _set_rates(self) -> float:
        factor = rate_factor(self._steps, self._spec.total_steps, self._spec.optimizer)
        for optimizer, rates in zip(self._optimizers, self._base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        return factor

    def score(
        self, rows: Sequence[Sequence[int]], temperature: float = 1.0, *, exact: bool = False
    ) -> list[list[float]]:
        """Log-probabilities of each row's tokens 1..T-1, in training's arithmetic or, where `exact`, in float32."""
        import torch

        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        wanted = [Row(token_ids=tuple(rows[i]), mask=(1,) * len(rows[i]), temperature=temperature) for i in order]
        found: list[list[float]] = [[] for _ in rows]
        with torch.no_grad():
            for batch in microbatches(wanted, self._spec.microbatch_tokens, self._device):
                logs_BTV = torch.log_softmax(self._logits(batch.ids_BT, exact=exact)[:, :-1] / temperature, dim=-1)
                logprobs_BT = logs_BTV.gather(-1, batch.ids_BT[:, 1:, None]).squeeze(-1).cpu()
                for row_T in logprobs_BT:
                    index = order.pop(0)
                    found[index] = row_T[: len(rows[index]) - 1].tolist()
        return found

    def sampler_precision(self) -> str:
        """In what a sampler on this kind of device computes."""
        return "bfloat16" if self._device.type == "cuda" and self._compute.dtype != "float32" else "float32"

    def weights(self) -> "Mapping[str, torch.Tensor]":
        """Copies on the CPU, by parameter name; tied weights come once."""
        return {name: p.detach().cpu().clone() for name, p in self._model.named_parameters()}

    def save_model(self, folder: Path) -> None:
        self._model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)

    def save_checkpoint(self, folder: Path) -> None:
        """Weights, optimizer state and counters, into a folder that exists or is made."""
        import torch

        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self._model.state_dict(), folder / "model.pt")
        torch.save([optimizer.state_dict() for optimizer in self._optimizers], folder / "optimizers.pt")
        (folder / "learner.json").write_text(json.dumps({"steps": self._steps}))

    def load_checkpoint(self, folder: Path) -> None:
        """The inverse; keys are strict."""
        import torch

        self._model.load_state_dict(torch.load(folder / "model.pt", map_location=self._device, weights_only=True))
        states: list[dict[str, Any]] = torch.load(
            folder / "optimizers.pt", map_location=self._device, weights_only=True
        )
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(state)
        self._steps = json.loads((folder / "learner.json").read_text())["steps"]


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
