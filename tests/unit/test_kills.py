"""SIGKILL at random moments changes nothing of how a block with everything stateful ends; `bench/kills.py` has more."""

from pathlib import Path

from bench.kills import Given, differences
from journeyman.trajectory import write_trajectories
from tests.unit.fakes import World


def test_killed_runs_end_where_an_unbroken_one_ends(world: World, tmp_path: Path) -> None:
    (tmp_path / "curated").mkdir()
    write_trajectories(world.demonstrations, tmp_path / "curated" / "kept.parquet")
    what = Given(model=world.model, synthesized=world.synthesized, curated=tmp_path / "curated", steps=4)
    found, runs = differences(what, tmp_path, kills=3, seed=1)
    assert found == [] and runs >= 1
