"""What an rl block takes over from the one before: pipelines that can't, and blocks that go on where it ended."""

from pathlib import Path
from typing import Any

import pytest
import torch

from journeyman.actors import InlineWorkers
from journeyman.config import PipelineConfig
from journeyman.errors import ConfigError
from journeyman.training.inheritance import HANDED_ON
from journeyman.training.reinforce import Inputs, run_rl
from tasks.recipes import plan
from tests.unit.fakes import COMPUTE, MAX_LENGTH, World
from tests.unit.test_reinforce import TINY, Dying, stage

STATEFUL = {
    "curriculum": {"type": "weakest"},
    "replay": {"capacity": 8, "fraction": 0.5, "max_age": 3},
    "reward": "odd + otc_history",
}
"""A curriculum, a buffer and a reward that remembers."""


def pipeline(*blocks: dict[str, Any]) -> PipelineConfig:
    return PipelineConfig.model_validate({"rl": [{"steps": 2, **block} for block in blocks]})


@pytest.mark.parametrize(
    ("blocks", "fault"),
    [
        ([{"name": "a", "inherits": ["optimizer"]}], "there is no rl block before it"),
        (
            [{"name": "a"}, {"name": "b", "inherits": ["curriculum"], "curriculum": {"type": "weakest"}}],
            "curriculum needs curricula of the same type",
        ),
        ([{"name": "a"}, {"name": "b", "inherits": ["replay"]}], "replay needs a replay capacity in both blocks"),
        (
            [{"name": "a", "optimizer": {"type": "muon"}}, {"name": "b", "inherits": ["optimizer"]}],
            "optimizer needs optimizers of the same type",
        ),
        ([{"name": "a", "reference": "rl-b"}, {"name": "b"}], "no stage before is called `rl-b`; one of `sft`"),
    ],
)
def test_what_cannot_be_taken_over_is_told_at_load_time(blocks: list[dict[str, Any]], fault: str) -> None:
    with pytest.raises((ValueError, ConfigError), match=fault):
        pipeline(*blocks)


def test_a_block_writes_only_what_the_next_one_inherits() -> None:
    plain = pipeline({"name": "a"}, {"name": "b"})
    heir = pipeline({"name": "a"}, {"name": "b", "inherits": ["optimizer"], "reference": "sft"})
    assert "hands_on" not in plan(plain, "rl-a", []).config
    assert plan(heir, "rl-a", []).config["hands_on"] == ["optimizer"]
    assert plan(heir, "rl-b", []).inputs == {"policy": "rl-a", "problems": "synthesize", "reference": "sft"}


def block(world: World, folder: Path, inputs: Inputs, hands_on: tuple[str, ...] = (), **fields: Any) -> Dying:
    seen = Dying()
    with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
        run_rl(
            world.config,
            stage(**{**TINY, **STATEFUL, "steps": 3, **fields}),
            inputs,
            out=folder / "out",
            work=folder / "work",
            workers=workers,
            observer=seen,
            hands_on=hands_on,
        )
    return seen


@pytest.mark.usefixtures("odd")
def test_a_block_goes_on_with_what_it_inherits(world: World, tmp_path: Path) -> None:
    everything = ("curriculum", "history", "optimizer", "replay")
    first = Inputs(policy=world.model, problems=world.synthesized)
    block(world, tmp_path / "first", first, everything)
    handed = tmp_path / "first" / "out" / HANDED_ON
    policy = tmp_path / "first" / "out" / "policy"
    assert torch.load(handed / "optimizers.pt", weights_only=True)[0]["state"]

    def second(name: str, *inherits: str) -> Dying:
        inputs = Inputs(policy=policy, problems=world.synthesized, before=handed if inherits else None)
        return block(world, tmp_path / name, inputs, name="second", inherits=list(inherits))

    alone, heir, replaying = second("alone"), second("heir", *everything), second("replaying", "replay")
    assert alone.seen[1]["replay/replayed"] == 0
    # Three steps old at most: of those that the first block has kept some are drawn at once.
    for one in (heir, replaying):
        assert one.seen[1]["replay/replayed"] > 0 and one.seen[1]["replay/age_mean"] >= 1
    weights = {
        name: (tmp_path / name / "out" / "policy" / "model.safetensors").read_bytes()
        for name in ("alone", "heir", "replaying")
    }
    assert len(set(weights.values())) == 3


@pytest.mark.usefixtures("odd")
def test_an_inherited_state_survives_a_kill(world: World, tmp_path: Path) -> None:
    everything = ("curriculum", "history", "optimizer", "replay")
    block(world, tmp_path / "first", Inputs(policy=world.model, problems=world.synthesized), everything, steps=2)
    out = tmp_path / "first" / "out"
    inputs = Inputs(policy=out / "policy", problems=world.synthesized, before=out / HANDED_ON)

    def second(folder: Path, observer: Dying) -> None:
        with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
            run_rl(
                world.config,
                stage(**{**TINY, **STATEFUL, "inherits": list(everything)}),
                inputs,
                out=folder / "out",
                work=folder / "work",
                workers=workers,
                observer=observer,
            )

    second(tmp_path / "unbroken", Dying())
    with pytest.raises(KeyboardInterrupt):
        second(tmp_path / "broken", Dying(step=4))
    second(tmp_path / "broken", Dying())
    ours, theirs = (tmp_path / name / "out" / "policy" / "model.safetensors" for name in ("unbroken", "broken"))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.usefixtures("odd")
def test_a_block_that_reaches_its_target_ends_early(world: World, tmp_path: Path) -> None:
    target = {"target": {"metric": "rollout/reward_mean", "above": 0.0, "steps": 2}}
    seen = block(world, tmp_path, Inputs(policy=world.model, problems=world.synthesized), ends=target, reward="odd")
    assert list(seen.seen) == [1, 2]
    assert seen.told[-1][:2] == (2, 2) and "ended: rollout/reward_mean is" in seen.told[-1][2]  # a whole bar
    assert (tmp_path / "out" / "policy").is_dir()
