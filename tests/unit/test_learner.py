"""The learner: the same step under any micro-batching, honest log-probabilities, and checkpoints that go on exactly."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from journeyman.config import ComputeConfig, GrpoObjective, NllObjective, ObjectiveConfig, OptimizerConfig
from journeyman.config.objective import (
    ChiSquarePenalty,
    DistillObjective,
    DpoObjective,
    FlowObjective,
    ImplicitRewardObjective,
    IpoObjective,
    KlCovariance,
    KlPenalty,
    KtoObjective,
    LaserObjective,
    PacsObjective,
    R0Objective,
    Rejection,
    RoverObjective,
    SuperHfObjective,
    WeightedMean,
)
from journeyman.credit.ranks import ranks_of
from journeyman.metrics import known
from journeyman.training.batching import Surveyed, collate, microbatches
from journeyman.training.handle import LearnerHandle, LearnerSpec, Row
from journeyman.training.learner import Learner
from journeyman.training.network import pick_device, pick_dtype
from journeyman.training.optimizers import build_optimizers, rate_factor
from tests.unit.fakes import COMPUTE, World

NLL, GRPO = NllObjective(), GrpoObjective()
ADAMW = OptimizerConfig(learning_rate=1e-3, warmup_steps=0, decay_fraction=0)
MUON = OptimizerConfig(type="muon", learning_rate=1e-3, muon_learning_rate=0.01, warmup_steps=2, decay_fraction=0.5)
CPU = torch.device("cpu")
SPEED = "throughput/learned_tokens_per_s"


def learner(world: World, *, optimizer: OptimizerConfig = ADAMW, tokens: int = 4096, dtype: str = "float32") -> Learner:
    spec = LearnerSpec(model=world.model, optimizer=optimizer, total_steps=10, microbatch_tokens=tokens, seed=1)
    return Learner(spec, ComputeConfig.model_validate({**COMPUTE.model_dump(), "dtype": dtype}))


def rows(count: int, *, seed: int = 0, longest: int = 30, full: bool = False) -> list[Row]:
    """Rows of different lengths with some of everything that a row can have; `full`: also what few objectives ask for."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        length = rng.randint(2, longest)
        mask = (0, *(rng.randint(0, 1) for _ in range(length - 1)))
        logprobs = tuple(m * -rng.uniform(4, 7) for m in mask)
        made.append(
            Row(
                token_ids=tuple(rng.randrange(300) for _ in range(length)),
                mask=mask,
                advantages=tuple(m * rng.uniform(-2, 2) for m in mask),
                logprobs=logprobs,
                old_logprobs=tuple(p * rng.uniform(0.95, 1.05) for p in logprobs),
                temperature=rng.choice([0.7, 1.0]),
                **(_more(rng, length) if full else {}),
            )
        )
    return made


def _more(rng: random.Random, length: int) -> dict[str, Any]:
    return {
        "old_means": tuple(rng.uniform(-7, -5) for _ in range(length)),
        "weights": tuple(rng.choice([1.0, 2.0]) for _ in range(length)),
        "turns": tuple(t // 6 for t in range(length)),
        "group": rng.randrange(3),
        "reward": rng.choice([0.0, 1.0, None]),
        "truncated": rng.random() < 0.2,
        "weight": rng.choice([0.5, 1.0]),
    }


@cache
def opened(model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(model)


def plain_logprobs(model: Path, ids: Sequence[int], temperature: float = 1.0) -> torch.Tensor:
    """By a forward pass of the one row, without padding."""
    network = opened(model)
    with torch.no_grad():
        logits = network(torch.tensor([ids])).logits[0, :-1] / temperature
    return torch.log_softmax(logits, -1).gather(-1, torch.tensor(ids[1:])[:, None]).squeeze(-1)


def difference(one: LearnerHandle, other: LearnerHandle) -> float:
    ours, theirs = one.weights(), other.weights()
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


@pytest.mark.parametrize("objective", [NLL, GRPO], ids=["nll", "grpo"])
@pytest.mark.parametrize("tokens", [1, 40, 100])
def test_a_step_is_the_same_under_any_micro_batching(world: World, objective: ObjectiveConfig, tokens: int) -> None:
    batch = rows(12)
    whole, parts = learner(world, tokens=10**6), learner(world, tokens=tokens)
    expected = whole.step(batch, objective)
    found = parts.step(random.Random(3).sample(batch, len(batch)), objective)
    for name in set(expected) - {SPEED}:
        assert found[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-7), name
    # AdamW's first step is the rate times the gradient's sign, where the gradient is not tiny.
    assert difference(whole, parts) < 2e-5


MORE: dict[str, ObjectiveConfig] = {
    "parts": GrpoObjective(
        ratio="turn",
        normalisation=WeightedMean(),
        reject=Rejection(token=(0.9, 1.5)),
        overlong_filter=True,
        kl=KlPenalty(coefficient=0.1),
        chi_square=ChiSquarePenalty(coefficient=0.01),
        entropy=0.01,
        covariance=KlCovariance(share=0.1),
    ),
    "r0": R0Objective(validity=1.0, floor=-6.0),
    "laser_self": LaserObjective(reference_logprob=-6.0),
    "superhf": SuperHfObjective(),
    "distill": DistillObjective(temperature=2.0),
    "rover": RoverObjective(),
    "flow": FlowObjective(to_reference=True),
    "pacs": PacsObjective(),
    "dpo": DpoObjective(),
    "ipo": IpoObjective(average=True),
    "kto": KtoObjective(),
    "implicit_reward": ImplicitRewardObjective(),
}


def moved(world: World, tokens: int) -> Learner:
    """A learner that has left the weights that it began with."""
    made = learner(world, tokens=tokens)
    weights = random.Random(7)
    with torch.no_grad():
        for parameter in made._model.parameters():
            parameter.mul_(weights.uniform(0.9, 1.1))
    return made


@pytest.mark.parametrize("case", MORE)
def test_every_objective_takes_the_same_step_under_any_micro_batching(world: World, case: str) -> None:
    batch = rows(12, full=True)
    whole, parts = moved(world, 10**6), moved(world, 40)
    expected = whole.step(batch, MORE[case])
    found = parts.step(random.Random(3).sample(batch, len(batch)), MORE[case])
    for name in set(expected) - {SPEED}:
        assert found[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-6), name
    assert expected["loss/gradient_norm"] > 0
    assert difference(whole, parts) < 1e-4
    assert all(known(name) for name in expected)


def test_a_loss_of_rows_is_worth_what_its_function_says(world: World) -> None:
    ours = learner(world)
    batch = [
        Row(token_ids=(5, 6, 7), mask=(0, 1, 1), reward=1.0, old_logprobs=(0.0, -5.0, -6.0)),
        Row(token_ids=(5, 9), mask=(0, 1), reward=0.0, old_logprobs=(0.0, -7.0)),
    ]
    good, bad = (sum(x) for x in ours.score([row.token_ids for row in batch]))
    # PACS: u = now - old of each row, A = +- (u_1 - u_2).
    gained = (good + 11) - (bad + 7)
    metrics = ours.step(batch, PacsObjective())
    assert metrics["loss/total"] == pytest.approx(math.log1p(math.exp(-gained)), rel=1e-4)
    assert metrics["policy/implicit_accuracy"] == float(gained > 0)


def test_the_reference_is_what_the_learner_began_with(world: World) -> None:
    ours, fresh = learner(world), learner(world)
    batch = [row.token_ids for row in rows(5, seed=1)]
    for _ in range(3):
        ours.step(rows(4), NLL)
    assert ours.score_reference(batch, 0.7) == fresh.score(batch, 0.7) != ours.score(batch, 0.7)
    penalty = GrpoObjective(kl=KlPenalty(coefficient=0.5))
    assert fresh.step(rows(4), penalty)["policy/reference_kl_nats"] == pytest.approx(0, abs=1e-9)
    assert ours.step(rows(4), penalty)["policy/reference_kl_nats"] > 1e-4


def test_reference_log_probabilities_of_rows_come_before_the_learners_own(world: World) -> None:
    row = replace(rows(1)[0], mask=(0, *(1,) * (len(rows(1)[0].mask) - 1)), temperature=1.0)
    now = (0.0, *learner(world).score([row.token_ids])[0])
    penalty = GrpoObjective(kl=KlPenalty(coefficient=0.5, estimator="k1"))
    given = replace(row, reference_logprobs=tuple(p - 1 for p in now))
    assert learner(world).step([given], penalty)["policy/reference_kl_nats"] == pytest.approx(1, rel=1e-4)


def test_means_over_the_vocabulary(world: World) -> None:
    ids = (5, 6, 7)
    with torch.no_grad():
        logits = opened(world.model)(torch.tensor([ids])).logits[0, :-1] / 0.5
    expected = torch.log_softmax(logits, -1).mean(-1).tolist()
    assert learner(world).score_means([ids, (3,)], 0.5) == [pytest.approx(expected, abs=1e-5), []]


def test_superhf_starts_at_the_likelihood(world: World) -> None:
    row = replace(rows(1)[0], advantages=())
    likelihood = learner(world).step([row], NLL)["loss/total"]
    metrics = learner(world).step([row], SuperHfObjective(kl=3.0))
    assert metrics["loss/total"] == pytest.approx(likelihood, rel=1e-5)
    assert metrics["policy/reference_kl_nats"] == pytest.approx(0, abs=1e-6)


def test_r0_is_held_by_its_first_weights(world: World) -> None:
    still = replace(rows(1)[0], advantages=(0.0,) * len(rows(1)[0].mask))
    ours, fresh = moved(world, 4096), learner(world)
    before = sum(
        float((a - b).square().sum()) for a, b in zip(ours.weights().values(), fresh.weights().values(), strict=True)
    )
    metrics = ours.step([still], R0Objective(validity=0, weight_anchor=2.0))
    # Nothing to learn: the loss is 2 |theta - theta_0|^2, its gradient 4 (theta - theta_0).
    assert metrics["loss/total"] == pytest.approx(2 * before, rel=1e-5)
    assert metrics["loss/gradient_norm"] == pytest.approx(4 * math.sqrt(before), rel=1e-5)
    after = sum(
        float((a - b).square().sum()) for a, b in zip(ours.weights().values(), fresh.weights().values(), strict=True)
    )
    assert after < before


def test_flows_are_learned_and_do_not_touch_the_policy(world: World) -> None:
    config = FlowObjective(beta=1.0, head_rate=0.1)
    row = Row(token_ids=(5, 6, 7), mask=(0, 1, 1), reward=1.0)
    ours = learner(world, optimizer=ADAMW.model_copy(update={"learning_rate": 1e-12}))
    losses = [ours.step([row], config)["loss/total"] for _ in range(200)]
    # log F(root) rises to beta r - log pi: the residual goes to 0 by the head alone.
    assert losses[0] > 10 and losses[-1] < 0.01
    assert difference(ours, learner(world)) < 1e-6


def test_values_begin_at_nought_and_learn_their_targets(world: World) -> None:
    ours = learner(world, tokens=30)
    batch = [row.token_ids for row in rows(4, longest=12)]
    assert ours.values(batch) == {"value": [[0.0] * (len(ids) + 1) for ids in batch]}
    targets = [[math.nan, *(float(i) for i, _ in enumerate(ids))] for ids in batch]
    targets[0][1] = math.nan
    known_ = [x for own in targets for x in own if not math.isnan(x)]
    first = ours.fit_values(batch, {"value": targets}, learning_rate=0.03)
    # Before the first step every value is 0.
    assert first == {"critic/loss": pytest.approx(sum(x * x for x in known_) / len(known_), rel=1e-5)}
    last = ours.fit_values(batch, {"value": targets}, learning_rate=0.03, epochs=300)
    assert ours.fit_values(batch, {"value": targets}, learning_rate=0.03)["critic/loss"] < 0.2 * last["critic/loss"]
    assert difference(ours, learner(world)) == 0


def test_values_are_of_the_tokens_so_far_and_the_same_under_any_micro_batching(world: World) -> None:
    ours, other = learner(world), learner(world, tokens=20)
    batch = [row.token_ids for row in rows(5)]
    targets = {"q": [[1.0] * (len(ids) + 1) for ids in batch]}
    assert ours.fit_values(batch, targets, learning_rate=0.1) == pytest.approx(
        other.fit_values(batch, targets, learning_rate=0.1), rel=1e-5
    )
    long, cut = ours.values([batch[0], batch[0][:5]], ["q"])["q"]
    assert long[:6] == pytest.approx(cut, abs=1e-5) and len(long) == len(batch[0]) + 1 and long[1] != 0
    for one, two in zip(ours.values(batch, ["q"])["q"], other.values(batch, ["q"])["q"], strict=True):
        assert one == pytest.approx(two, abs=1e-4)


def test_slow_heads_follow(world: World) -> None:
    ours, ids = learner(world), (5, 6, 7)
    targets = {"value": [[1.0] * 4]}
    ours.fit_values([ids], targets, learning_rate=0.1, polyak=0.25)
    [fast], [slow] = (ours.values([ids], slow=how)["value"] for how in (False, True))
    # The slow copy began at 0 and went a quarter of the way.
    assert slow == pytest.approx([0.25 * value for value in fast], abs=1e-6) and fast[2] != 0


def test_heads_are_part_of_the_checkpoint(world: World, tmp_path: Path) -> None:
    ours, restored, ids = learner(world), learner(world), (5, 6, 7)
    targets = {"value": [[math.nan, 1.0, 2.0, 3.0]]}
    ours.fit_values([ids], targets, learning_rate=0.1, polyak=0.5)
    ours.save_checkpoint(tmp_path)
    restored.values([ids], ["another"])
    restored.load_checkpoint(tmp_path)
    for slow in (False, True):
        assert restored.values([ids], slow=slow) == ours.values([ids], slow=slow)
    both = [one.fit_values([ids], targets, learning_rate=0.1) for one in (ours, restored)]
    assert both[0] == both[1] and restored.values([ids]) == ours.values([ids])
    state = torch.load(tmp_path / "heads.pt", weights_only=True)
    assert state.keys() == {"value"}
    del state["value"]["slow"]["bias"]
    torch.save(state, tmp_path / "heads.pt")
    with pytest.raises(RuntimeError, match="Missing key"):
        learner(world).load_checkpoint(tmp_path)


def test_making_a_head_changes_no_random_draw(world: World) -> None:
    ours = learner(world)
    state = torch.get_rng_state()
    ours.values([(5, 6)], ["value"])
    assert torch.equal(torch.get_rng_state(), state)


def test_hidden_ranks_are_of_the_learned_tokens_states(world: World) -> None:
    ours, batch = learner(world, tokens=50), rows(4, longest=25)
    for row, ranks in zip(batch, ours.hidden_ranks(batch, 4), strict=True):
        with torch.no_grad():
            states = opened(world.model)(torch.tensor([row.token_ids]), output_hidden_states=True).hidden_states[-1][0]
        learned = states.double().numpy()[[i for i, m in enumerate(row.mask) if m]]
        assert ranks == pytest.approx(tuple(ranks_of(learned, 4)), abs=1e-3)


def test_a_rows_padding_changes_nothing_for_it(world: World) -> None:
    short, long = Row(token_ids=(5, 6, 7), mask=(0, 1, 1)), Row(token_ids=(9,) * 40, mask=(0,) * 40)
    alone, padded = learner(world), learner(world)
    assert padded.step([short, long], NLL)["loss/total"] == pytest.approx(
        alone.step([short], NLL)["loss/total"], rel=1e-5
    )
    assert difference(alone, padded) < 2e-5


def test_the_loss_is_the_mean_over_all_learned_tokens(world: World) -> None:
    batch = [
        Row(token_ids=(5, 6, 7, 8), mask=(1, 0, 1, 1)),  # entry 0 has nothing before it: never learned
        Row(token_ids=(9, 10), mask=(0, 1)),
    ]
    first, second = (plain_logprobs(world.model, row.token_ids) for row in batch)
    # Three learned tokens in all: 7 and 8 of the first row, 10 of the second.
    expected = -(first[1] + first[2] + second[0]) / 3
    assert learner(world).step(batch, NLL)["loss/total"] == pytest.approx(expected.item(), rel=1e-5)


def test_sampling_temperature_divides_the_logits(world: World) -> None:
    row = Row(token_ids=(5, 6, 7), mask=(0, 1, 1), temperature=0.5)
    expected = -plain_logprobs(world.model, row.token_ids, 0.5).mean()
    assert learner(world).step([row], NLL)["loss/total"] == pytest.approx(expected.item(), rel=1e-5)


def test_policy_metrics_by_hand(world: World) -> None:
    ids = (5, 6, 7)
    now = plain_logprobs(world.model, ids)
    # The sampler's probabilities were a third of the learner's, the old ones two thirds: importance 2, ratio 1.5.
    row = Row(
        token_ids=ids,
        mask=(0, 1, 1),
        advantages=(0.0, 1.0, 1.0),
        logprobs=(0.0, *(now - math.log(3)).tolist()),
        old_logprobs=(0.0, *(now - math.log(1.5)).tolist()),
    )
    metrics = learner(world).step([row], GrpoObjective(importance_cap=1.9))
    assert metrics["policy/importance_ratio_mean"] == pytest.approx(3, rel=1e-4)
    assert (metrics["policy/clip_fraction"], metrics["policy/truncated_fraction"]) == (1, 1)
    assert metrics["loss/total"] == pytest.approx(-1.9 * 1.28, rel=1e-4)  # clipped, so no gradient either
    assert metrics["loss/gradient_norm"] == 0
    entropy = metrics["policy/entropy_nats"]
    assert 5 < entropy <= math.log(world.chat.tokenizer.vocab_size + 99)  # untrained: nearly uniform


def test_a_batch_without_anything_to_learn_changes_nothing(world: World) -> None:
    ours = learner(world)
    assert ours.step([Row(token_ids=(1, 2, 3), mask=(1, 0, 0))], NLL) == {} == ours.step([], NLL)
    assert difference(ours, learner(world)) == 0


def test_nll_makes_the_learned_tokens_likelier_and_zero_weights_do_nothing(world: World) -> None:
    ours = learner(world)
    row = Row(token_ids=(5, 6, 7), mask=(0, 0, 1))
    before = ours.score([row.token_ids])[0]
    for _ in range(3):
        ours.step([row], NLL)
    after = ours.score([row.token_ids])[0]
    assert after[1] > before[1] + 0.05
    idle = learner(world)
    idle.step([replace(row, advantages=(0.0, 0.0, 0.0))], NLL)
    assert difference(idle, learner(world)) == 0


def test_scores_are_those_of_a_plain_forward_pass(world: World) -> None:
    ours = learner(world, tokens=64)
    batch = [row.token_ids for row in rows(9, seed=1)]
    for temperature in (1.0, 0.5):
        for ids, scores in zip(batch, ours.score(batch, temperature), strict=True):
            expected = plain_logprobs(world.model, ids, temperature).tolist()
            assert scores == pytest.approx(expected, abs=1e-5) and len(scores) == len(ids) - 1
    assert ours.score([]) == [] and ours.score([(3,)]) == [[]]
    assert ours.score([(3,), (3, 4)])[1] == pytest.approx(ours.score([(3, 4)])[0])


def test_bfloat16_is_near_and_exact_scores_are_float32(world: World) -> None:
    half, full = learner(world, dtype="bfloat16"), learner(world)
    batch = [row.token_ids for row in rows(4)]
    exact, near, expected = half.score(batch, exact=True), half.score(batch), full.score(batch)
    assert [x for row in exact for x in row] == pytest.approx([x for row in expected for x in row], abs=1e-5)
    assert near != exact
    assert [x for row in near for x in row] == pytest.approx([x for row in expected for x in row], abs=0.1)
    assert half.step(rows(4), NLL)["loss/total"] == pytest.approx(full.step(rows(4), NLL)["loss/total"], rel=0.01)
    assert {p.dtype for p in half.weights().values()} == {torch.float32}  # masters
    assert half.sampler_precision() == full.sampler_precision() == "float32"


@pytest.mark.parametrize("optimizer", [ADAMW, MUON], ids=["adamw", "muon"])
def test_a_restored_learner_takes_the_same_steps(world: World, tmp_path: Path, optimizer: OptimizerConfig) -> None:
    unbroken, restored = learner(world, optimizer=optimizer), learner(world, optimizer=optimizer)
    for step in range(3):
        unbroken.step(rows(4, seed=step), NLL)
    unbroken.save_checkpoint(tmp_path / "a" / "b")
    restored.load_checkpoint(tmp_path / "a" / "b")
    assert difference(unbroken, restored) == 0
    for step in range(3, 7):
        ours, theirs = (one.step(rows(4, seed=step), GRPO) for one in (unbroken, restored))
        assert {**ours, SPEED: 0} == {**theirs, SPEED: 0}
    assert difference(unbroken, restored) == 0


def test_a_checkpoint_of_another_optimizer_or_model_is_refused(world: World, tmp_path: Path) -> None:
    ours = learner(world)
    ours.step(rows(2), NLL)
    ours.save_checkpoint(tmp_path)
    with pytest.raises(ValueError):
        learner(world, optimizer=MUON).load_checkpoint(tmp_path)
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    torch.save({name: value for name, value in state.items() if "norm" not in name}, tmp_path / "model.pt")
    with pytest.raises(RuntimeError, match="Missing key"):
        learner(world).load_checkpoint(tmp_path)


def test_a_saved_model_opens_with_the_auto_classes_and_computes_the_same(world: World, tmp_path: Path) -> None:
    ours = learner(world)
    ours.step(rows(4), NLL)
    ours.save_model(tmp_path)
    ids = tuple(range(20))
    assert ours.score([ids])[0] == pytest.approx(plain_logprobs(tmp_path, ids).tolist(), abs=1e-5)
    assert ours.score([ids])[0] != pytest.approx(plain_logprobs(world.model, ids).tolist(), abs=1e-3)
    saved = opened(tmp_path).state_dict()
    for name, value in ours.weights().items():
        torch.testing.assert_close(saved[name], value, rtol=0, atol=0)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.encode("6*7 <answer>") == world.chat.tokenizer.encode("6*7 <answer>")
    assert tokenizer.chat_template == world.chat.tokenizer.chat_template


def test_weights_are_copies_and_tied_ones_come_once(world: World) -> None:
    ours = learner(world)
    weights = ours.weights()
    assert "lm_head.weight" not in weights and "model.embed_tokens.weight" in weights
    before = {name: value.clone() for name, value in weights.items()}
    ours.step(rows(4), NLL)
    assert all(torch.equal(weights[name], before[name]) for name in before)
    assert difference(ours, learner(world)) > 0


def test_muon_has_the_layers_matrices_and_adamw_the_rest(world: World) -> None:
    model = AutoModelForCausalLM.from_pretrained(world.model)
    names = {id(p): name for name, p in model.named_parameters()}
    muon, adamw = build_optimizers(model, MUON)
    ours, rest = ([names[id(p)] for g in o.param_groups for p in g["params"]] for o in (muon, adamw))
    assert len(ours) == 14 and all(name.endswith("_proj.weight") for name in ours)  # 2 layers of q k v o gate up down
    assert "model.embed_tokens.weight" in rest and all("norm" in name or "embed" in name for name in rest)
    assert sorted(ours + rest) == sorted(names.values())
    [alone] = build_optimizers(model, ADAMW)
    assert sum(len(group["params"]) for group in alone.param_groups) == len(names)
    assert (muon.param_groups[0]["lr"], adamw.param_groups[0]["lr"]) == (0.01, 1e-3)


SCHEDULE = OptimizerConfig(warmup_steps=4, decay_fraction=0.5, final_fraction=0.1)


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        *((0, 0.25), (1, 0.5), (2, 0.75), (3, 1.0), (4, 1.0), (10, 1.0)),
        (15, 0.55),  # 5 of the last 10 steps are left: .1 + .9 * 5/10
        (19, 0.19),  # .1 + .9 * 1/10
        *((20, 0.1), (99, 0.1)),
    ],
)
def test_the_schedule_by_hand(step: int, factor: float) -> None:
    assert rate_factor(step, 20, SCHEDULE) == pytest.approx(factor)


@given(
    st.integers(0, 300),
    st.integers(1, 200),
    st.builds(
        OptimizerConfig,
        warmup_steps=st.integers(0, 50),
        decay_fraction=st.floats(0, 1),
        final_fraction=st.floats(0, 1),
    ),
)
def test_the_rate_stays_between_its_ends(step: int, total: int, config: OptimizerConfig) -> None:
    factor = rate_factor(step, total, config)
    lowest = min(config.final_fraction, 1 / max(1, config.warmup_steps))
    assert lowest - 1e-9 <= factor <= 1
    if step >= config.warmup_steps:
        assert rate_factor(step + 1, total, config) <= factor + 1e-9


def test_the_schedule_drives_every_optimizer(world: World) -> None:
    ours = learner(world, optimizer=MUON)
    rates = [ours.step(rows(2), NLL)["optimizer/learning_rate"] for _ in range(10)]
    # Two steps of warm-up, flat until half of ten, then a tenth of the rate at the end: .1 + .9 * left/5.
    expected = [0.5, 1, 1, 1, 1, 1, 0.82, 0.64, 0.46, 0.28]
    assert rates == pytest.approx([1e-3 * factor for factor in expected])


def test_the_gradient_norm_is_that_before_clipping(world: World) -> None:
    loose, tight = (learner(world, optimizer=ADAMW.model_copy(update={"clip_norm": c})) for c in (1e9, 1e-3))
    ours, theirs = (one.step(rows(4), NLL)["loss/gradient_norm"] for one in (loose, tight))
    assert ours == theirs > 1e-3


LENGTHS = st.lists(st.integers(1, 40), max_size=20)


@given(LENGTHS, st.integers(1, 200))
@settings(max_examples=50)
def test_micro_batches_hold_every_row_once_within_their_bound(lengths: list[int], most: int) -> None:
    made = [Row(token_ids=(i + 1,) * length, mask=(1,) * length) for i, length in enumerate(lengths)]
    batches = microbatches([Surveyed(row=row) for row in made], most, CPU)
    seen = [int(ids[0]) for batch in batches for ids in batch.ids_BT]
    assert sorted(seen) == list(range(1, len(lengths) + 1))
    for batch in batches:
        assert batch.ids_BT.numel() <= most or len(batch.ids_BT) == 1
    widths = [batch.ids_BT.shape[1] for batch in batches]
    assert widths == sorted(widths)


def test_columns_are_about_the_next_token() -> None:
    long = Row(
        token_ids=(7, 8, 9),
        mask=(0, 1, 1),
        advantages=(0.0, 2.0, 3.0),
        logprobs=(0.0, -1.0, -2.0),
        old_logprobs=(0.0, -1.5, -2.5),
        temperature=0.5,
    )
    short = Row(token_ids=(5, 6), mask=(0, 1))
    made = collate([Surveyed(row=long, marks=(9, 4, 5), term=2.5), Surveyed(row=short)], CPU)
    assert made.ids_BT.tolist() == [[7, 8, 9], [5, 6, 0]]
    assert made.mask_BT.tolist() == [[1, 1], [1, 0]]
    assert made.advantages_BT.tolist() == [[2, 3], [1, 0]]  # supervised rows: 1 each
    assert made.sampler_logprobs_BT.tolist() == [[-1, -2], [0, 0]]
    assert made.old_logprobs_BT.tolist() == [[-1.5, -2.5], [0, 0]]
    assert made.temperature_B.tolist() == [0.5, 1.0]
    assert made.marks_BT.tolist() == [[4, 5], [0, 0]] and made.term_B.tolist() == [2.5, 0]
    assert made.weights_BT.tolist() == [[1, 1], [1, 0]] and made.turns_BT.tolist() == [[0, 0], [0, -1]]
    assert made.reward_B.isnan().all() and made.old_means_BT.isnan().all()
    assert made.reference_logprobs_BT.tolist() == [[0, 0], [0, 0]]
    [plain] = collate([Surveyed(row=replace(long, old_logprobs=()))], CPU).old_logprobs_BT.tolist()
    assert plain == [-1, -2]  # the sampler's


def test_what_rows_say_of_themselves_is_aligned_too() -> None:
    row = Row(
        token_ids=(7, 8, 9),
        mask=(1, 0, 1),
        reference_logprobs=(0.0, -3.0, -4.0),
        old_means=(0.0, -6.0, -7.0),
        weights=(1.0, 2.0, 3.0),
        turns=(0, 0, 4),
        reward=0.5,
        truncated=True,
        weight=2.0,
    )
    made = collate([Surveyed(row=row)], CPU)
    assert made.reference_logprobs_BT.tolist() == [[-3, -4]] and made.old_means_BT.tolist() == [[-6, -7]]
    assert made.weights_BT.tolist() == [[2, 3]] and made.turns_BT.tolist() == [[-1, 4]]
    assert (made.reward_B.item(), made.truncated_B.item(), made.weight_B.item()) == (0.5, 1, 2)


def test_devices_and_arithmetic_follow_the_config() -> None:
    assert pick_device(ComputeConfig(device="cpu")) == CPU
    assert pick_device(ComputeConfig()).type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_dtype(ComputeConfig(dtype="float32"), CPU) is torch.float32
    assert pick_dtype(ComputeConfig(dtype="bfloat16"), CPU) is torch.bfloat16
    assert pick_dtype(ComputeConfig(), CPU) in (torch.float32, torch.bfloat16)
