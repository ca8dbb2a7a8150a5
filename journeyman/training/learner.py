"""The learner: tokens, mask, log-probabilities and advantages in; better weights out. Blind to algorithms and worlds."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.config import ComputeConfig, ObjectiveConfig
from journeyman.config.objective import FlowObjective, LaserObjective, PolicyGradient
from journeyman.errors import ConfigError
from journeyman.seeds import derive
from journeyman.training.batching import MicroBatch, Surveyed, microbatches
from journeyman.training.handle import LearnerSpec, Row
from journeyman.training.heads import Heads
from journeyman.training.network import Network
from journeyman.training.objectives import ROW_OBJECTIVES, TOKEN_OBJECTIVES, TokenBatch, Totals
from journeyman.training.objectives.parts import entropy
from journeyman.training.objectives.rows import marked
from journeyman.training.objectives.survey import Survey, prepare, survey_covariance, survey_rows
from journeyman.training.optimizers import build_optimizers, rate_factor

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FLOW = "flow"
"""The head of flows."""
OPTIMIZERS = "optimizers.pt"


class Learner:
    """A causal LM with its optimizer, the weights that it began with, and heads.

    The loss is the same under any micro-batching: sums over tokens, divided by the whole batch's learned tokens.
    """

    def __init__(self, spec: LearnerSpec, compute: ComputeConfig) -> None:
        import torch
        from transformers import AutoTokenizer

        torch.manual_seed(spec.seed)
        if compute.device != "cuda":
            torch.set_num_threads(compute.threads)
        self._spec, self._compute = spec, compute
        self._tokenizer = AutoTokenizer.from_pretrained(spec.model)
        self._network = Network(spec.model, compute, packing=spec.packing, lora=spec.lora)
        self._model = self._network.model
        self._optimizers = build_optimizers(self._model, spec.optimizer)
        self._base_rates = [[group["lr"] for group in o.param_groups] for o in self._optimizers]
        self._heads = Heads(self._model.config.get_text_config().hidden_size, self._network.device)
        self._steps = 0
        if spec.reference:
            _check_same_tokens(spec.reference, self._tokenizer, self._model.config.get_text_config().vocab_size)

    @cached_property
    def _reference(self) -> Network:
        """The weights that the learner was built from, frozen; the spec may name others."""
        network = Network(self._spec.reference or self._spec.model, self._compute, packing=self._spec.packing)
        network.model.eval().requires_grad_(False)
        return network

    def step(self, rows: Sequence[Row], objective: ObjectiveConfig) -> dict[str, float]:
        """One optimizer step on `rows` with the global token mean; metrics by name."""
        import torch

        started = time.perf_counter()
        survey, objective = self._survey(rows, objective)
        totals = Totals.of([one.row for one in survey.rows])
        if totals.tokens == 0:
            return {}
        sums: dict[str, float] = {"loss/total": 0.0}
        with self._network.learning(derive(self._spec.seed, "dropout", self._steps)):
            for batch in microbatches(survey.rows, self._spec.microbatch_tokens, self._network.device):
                loss, parts = self._loss(batch, objective, totals)
                (loss / totals.tokens).backward()
                for name, value in {"loss/total": loss.detach(), **parts}.items():
                    sums[name] = sums.get(name, 0.0) + float(value)
        sums["loss/total"] += self._anchor(objective.anchor) * totals.tokens
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._spec.optimizer.clip_norm)
        factor = self._update(objective)
        return {
            **{name: value / totals.tokens for name, value in sums.items()},
            **survey.metrics,
            "loss/gradient_norm": float(norm),
            "optimizer/learning_rate": factor * self._spec.optimizer.learning_rate,
            "throughput/learned_tokens_per_s": totals.tokens / (time.perf_counter() - started),
        }

    def _survey(self, rows: Sequence[Row], objective: ObjectiveConfig) -> tuple[Survey, ObjectiveConfig]:
        """What is known of the batch before its first gradient."""
        if isinstance(objective, LaserObjective) and objective.token is None:
            objective = objective.model_copy(update={"token": self._tokenizer.pad_token_id})
        if objective.reference:
            rows = self._with_reference(rows)
        rows = prepare(rows, objective)
        if not objective.surveyed or not any(any(row.mask[1:]) for row in rows):
            return Survey(rows=[Surveyed(row=row) for row in rows], metrics={}), objective
        logprobs = self._read(rows, self._network, _chosen)
        if isinstance(objective, PolicyGradient):
            seed = derive(self._spec.seed, "survey", self._steps)
            return survey_covariance(rows, logprobs, objective, seed), objective
        return survey_rows(rows, logprobs, ROW_OBJECTIVES[objective.type], objective), objective

    def _with_reference(self, rows: Sequence[Row]) -> list[Row]:
        asked = [row for row in rows if not row.reference_logprobs]
        found = iter(self._read(asked, self._reference, _chosen))
        return [row if row.reference_logprobs else replace(row, reference_logprobs=(0.0, *next(found))) for row in rows]

    def _loss(
        self, batch: MicroBatch, objective: ObjectiveConfig, totals: Totals
    ) -> "tuple[Tensor, dict[str, Tensor]]":
        import torch

        tokens = self._tokens(batch, objective, totals)
        if objective.type in ROW_OBJECTIVES:
            loss, sums = marked(tokens), {}
        else:
            loss, sums = TOKEN_OBJECTIVES[objective.type](tokens, objective)
        with torch.no_grad():
            sums["policy/entropy_nats"] = (entropy(tokens.logs_BSV[:, :-1]) * batch.mask_BT).sum()
        return loss, sums

    def _tokens(self, batch: MicroBatch, objective: ObjectiveConfig, totals: Totals) -> TokenBatch:
        """A micro-batch as the objective sees it."""
        import torch

        flows_BS = reference_logs_BSV = None
        if isinstance(objective, FlowObjective):
            logits_BSV, states_BSD = self._network.logits_and_states(batch.ids_BT, batch.lengths)
            flows_BS = self._heads[FLOW](states_BSD)
        else:
            logits_BSV = self._network.logits(batch.ids_BT, batch.lengths)
        if objective.full_reference:
            with torch.no_grad():
                reference_logs_BSV = _logs(self._reference.logits(batch.ids_BT, batch.lengths), batch)
        logs_BSV = _logs(logits_BSV, batch)
        given = {name: getattr(batch, name) for name in batch.__slots__ if name not in ("ids_BT", "lengths")}
        return TokenBatch(
            **given,
            logprobs_BT=_chosen(logs_BSV, batch),
            logs_BSV=logs_BSV,
            totals=totals,
            reference_logs_BSV=reference_logs_BSV,
            flows_BS=flows_BS,
        )

    def _anchor(self, strength: float) -> float:
        """Add the gradient of strength * |theta - theta_0|^2; returns its value."""
        import torch

        if strength == 0:
            return 0.0
        total = 0.0
        with torch.no_grad():
            for own, first in zip(self._model.parameters(), self._reference.model.parameters(), strict=True):
                moved = own - first
                own.grad = 2 * strength * moved if own.grad is None else own.grad.add_(moved, alpha=2 * strength)
                total += float(moved.square().sum())
        return strength * total

    def _update(self, objective: ObjectiveConfig) -> float:
        factor = rate_factor(self._steps, self._spec.total_steps, self._spec.optimizer)
        for optimizer, rates in zip(self._optimizers, self._base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if isinstance(objective, FlowObjective):
            self._heads[FLOW].update(objective.head_rate)
        self._steps += 1
        return factor

    def score(
        self, rows: Sequence[Sequence[int]], temperature: float = 1.0, *, exact: bool = False
    ) -> list[list[float]]:
        """Log-probabilities of each row's tokens 1..T-1, in training's arithmetic or, where `exact`, in float32."""
        return self._read(_wanted(rows, temperature), self._network, _chosen, exact=exact)

    def score_reference(self, rows: Sequence[Sequence[int]], temperature: float = 1.0) -> list[list[float]]:
        """The same of the weights that the learner was built from."""
        return self._read(_wanted(rows, temperature), self._reference, _chosen)

    def score_means(self, rows: Sequence[Sequence[int]], temperature: float = 1.0) -> list[list[float]]:
        """Means over the vocabulary of the log-probabilities at those places."""
        return self._read(_wanted(rows, temperature), self._network, lambda logs_BSV, _: logs_BSV[:, :-1].mean(-1))

    def _read(
        self,
        rows: Sequence[Row],
        network: Network,
        take: "Callable[[Tensor, MicroBatch], Tensor]",
        *,
        exact: bool = False,
    ) -> list[list[float]]:
        """What `take` takes of each row's log-probabilities (B x T-1), in the order of the rows, without gradient."""
        import torch

        found: list[list[float]] = [[] for _ in rows]
        with torch.no_grad():
            for batch, places in self._in_order(rows):
                taken_BT = take(_logs(network.logits(batch.ids_BT, batch.lengths, exact=exact), batch), batch).cpu()
                for place, row_T in zip(places, taken_BT, strict=True):
                    found[place] = row_T[: len(rows[place].token_ids) - 1].tolist()
        return found

    def _in_order(self, rows: Sequence[Row]) -> Iterator[tuple[MicroBatch, list[int]]]:
        """Micro-batches, and which rows they hold."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].token_ids))
        wanted = [Surveyed(row=rows[i]) for i in order]
        for batch in microbatches(wanted, self._spec.microbatch_tokens, self._network.device):
            yield batch, [order.pop(0) for _ in batch.ids_BT]

    def values(
        self, rows: Sequence[Sequence[int]], heads: Sequence[str] = ("value",), *, slow: bool = False
    ) -> dict[str, list[list[float]]]:
        """By head, T+1 numbers a row: entry t is the value of the first t tokens, 0 where there are none."""
        import torch

        found: dict[str, list[list[float]]] = {name: [[] for _ in rows] for name in heads}
        with torch.no_grad():
            for batch, places in self._in_order(_wanted(rows)):
                states_BTD = self._network.states(batch.ids_BT, batch.lengths)
                for name in heads:
                    values_BT = self._heads[name](states_BTD, slow=slow).cpu()
                    for place, row_T in zip(places, values_BT, strict=True):
                        found[name][place] = [0.0, *row_T[: len(rows[place])].tolist()]
        return found

    def fit_values(
        self,
        rows: Sequence[Sequence[int]],
        targets: Mapping[str, Sequence[Sequence[float]]],
        *,
        learning_rate: float,
        epochs: int = 1,
        polyak: float = 1.0,
    ) -> dict[str, float]:
        """Regress heads to targets, T+1 numbers a row, NaN where there is none; a step of each head an epoch.

        The metric is the squared error before the first step, the mean over targets and heads.
        """
        wanted = {name: sum(not math.isnan(x) for own in of for x in own[1:]) for name, of in targets.items()}
        first: dict[str, float] = {}
        for _ in range(epochs):
            errors = dict.fromkeys(targets, 0.0)
            for batch, places in self._in_order(_wanted(rows)):
                states_BTD = self._network.states(batch.ids_BT, batch.lengths)
                for name, of in targets.items():
                    error = _squared_error(self._heads[name](states_BTD), [of[place][1:] for place in places])
                    (error / max(1, wanted[name])).backward()
                    errors[name] += float(error.detach())
            first = first or errors
            for name in targets:
                self._heads[name].update(learning_rate)
        for name in targets:
            self._heads[name].follow(polyak)
        return {"critic/loss": sum(first.values()) / max(1, sum(wanted.values()))}

    def hidden_ranks(self, rows: Sequence[Row], stride: int) -> list[tuple[float, float, float]]:
        """Effective rank of the learned tokens' last hidden states, its velocity and acceleration, by row."""
        import numpy as np

        from journeyman.credit.ranks import ranks_of

        found: dict[int, tuple[float, float, float]] = {}
        for batch, places in self._in_order(rows):
            states_BTD = self._network.states(batch.ids_BT, batch.lengths).cpu().double().numpy()
            for place, states_TD in zip(places, states_BTD, strict=True):
                learned = np.flatnonzero(np.array(rows[place].mask))
                rank, velocity, acceleration = ranks_of(states_TD[learned], stride)
                found[place] = (float(rank), float(velocity), float(acceleration))
        return [found[i] for i in range(len(rows))]

    def sampler_precision(self) -> str:
        """In what a sampler on this kind of device computes."""
        return "bfloat16" if self._network.device.type == "cuda" and self._compute.dtype != "float32" else "float32"

    def weights(self) -> "Mapping[str, torch.Tensor]":
        """Copies on the CPU, by parameter name, adapters merged; tied weights come once."""
        return {name: value.cpu().clone() for name, value in self._network.weights().items()}

    def save_model(self, folder: Path) -> None:
        self._network.save(folder)
        self._tokenizer.save_pretrained(folder)

    def save_optimizer(self, folder: Path) -> None:
        """The optimizers' state, into a folder that exists."""
        import torch

        torch.save([optimizer.state_dict() for optimizer in self._optimizers], folder / OPTIMIZERS)

    def load_optimizer(self, folder: Path) -> None:
        """Moments alone: rates and other settings are those of the learner's own spec."""
        for optimizer, theirs in zip(self._optimizers, _load(folder, self._network, OPTIMIZERS), strict=True):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": theirs["state"]})

    def save_checkpoint(self, folder: Path) -> None:
        """Weights (or adapters), optimizer state, heads and counters, into a folder that exists or is made."""
        import torch

        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self._network.state_dict(), folder / "model.pt")
        self.save_optimizer(folder)
        torch.save(self._heads.state_dict(), folder / "heads.pt")
        (folder / "learner.json").write_text(json.dumps({"steps": self._steps}))

    def load_checkpoint(self, folder: Path) -> None:
        """The inverse; keys are strict."""
        load = partial(_load, folder, self._network)
        self._network.load_state_dict(load("model.pt"))
        for optimizer, state in zip(self._optimizers, load(OPTIMIZERS), strict=True):
            optimizer.load_state_dict(state)
        self._heads.load_state_dict(load("heads.pt"))
        self._steps = json.loads((folder / "learner.json").read_text())["steps"]


def _load(folder: Path, network: Network, name: str) -> Any:
    import torch

    return torch.load(folder / name, map_location=network.device, weights_only=True)


def _check_same_tokens(reference: Path, tokenizer: Any, width: int) -> None:
    """Distributions can only be compared over the same tokens. Raises `ConfigError`."""
    from transformers import AutoConfig, AutoTokenizer

    theirs = AutoConfig.from_pretrained(reference).get_text_config().vocab_size
    if theirs != width or AutoTokenizer.from_pretrained(reference).get_vocab() != tokenizer.get_vocab():
        raise ConfigError(
            f"{reference} has other tokens ({theirs} of them) than the model that learns ({width})",
            place="distill.teacher",
            remedy="choose a teacher of the model's own family, with the same tokenizer",
        )


def _wanted(rows: Sequence[Sequence[int]], temperature: float = 1.0) -> list[Row]:
    return [Row(token_ids=tuple(ids), mask=(1,) * len(ids), temperature=temperature) for ids in rows]


def _logs(logits_BSV: "Tensor", batch: MicroBatch) -> "Tensor":
    """Log-probabilities of all tokens at each row's temperature."""
    import torch

    return torch.log_softmax(logits_BSV / batch.temperature_B[:, None, None], dim=-1)


def _chosen(logs_BSV: "Tensor", batch: MicroBatch) -> "Tensor":
    """Those of the tokens that stand there."""
    return logs_BSV[:, :-1].gather(-1, batch.ids_BT[:, 1:, None]).squeeze(-1)


def _squared_error(values_BT: "Tensor", targets: Sequence[Sequence[float]]) -> "Tensor":
    """The sum over the targets that are there."""
    import torch

    width = values_BT.shape[1]
    padded = torch.tensor([[*own, *[math.nan] * (width - len(own))] for own in targets], device=values_BT.device)
    return torch.where(padded.isnan(), 0.0, values_BT - padded.nan_to_num()).square().sum()
