import errno
import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.artifacts import MANIFEST, MARKER, ArtifactStore, Recipe, home
from journeyman.errors import ArtifactError, UserError
from journeyman.provenance import code_version, content_digest, sources, syntax_digest
from journeyman.trajectory import StopReason, Trajectory, write_trajectories

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CONFIGS = st.dictionaries(st.text(), JSON, max_size=4)


def recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {"stage": "sft", "code_version": "c0", "config": {"steps": 3}, "seed": 0, "inputs": {}}
    return Recipe(**{**values, **changes})


def make(store: ArtifactStore, made_from: Recipe, **files: str) -> Path:
    with store.build(made_from) as draft:
        if draft.artifact is None:
            for name, text in (files or {"data": "x"}).items():
                (draft.out / name).write_text(text)
            draft.summary = {"rows": 1}
    assert draft.artifact is not None
    return draft.artifact.path


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path, min_free_bytes=0)


@given(CONFIGS)
def test_the_key_does_not_depend_on_the_order_of_a_config(config: dict[str, Any]) -> None:
    turned = dict(reversed(config.items()))
    assert recipe(config=config).key == recipe(config=turned).key


@given(CONFIGS, CONFIGS)
def test_different_configs_have_different_keys(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (recipe(config=one).key == recipe(config=other).key) == same


@pytest.mark.parametrize(
    "change",
    [{"stage": "rl"}, {"code_version": "c1"}, {"config": {"steps": 4}}, {"seed": 1}, {"inputs": {"policy": "k"}}],
)
def test_everything_in_a_recipe_counts(change: dict[str, Any]) -> None:
    assert recipe(**change).key != recipe().key


def test_the_key_is_the_same_in_another_process_and_in_years() -> None:
    # printf %s '{"code_version": "c0", "config": {"steps": 3}, "inputs": {}, "seed": 0, "stage": "sft"}' | sha256sum
    assert recipe().key == "d9d538b12714963cb0de"


@settings(max_examples=20)
@given(files=st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.binary(max_size=50), min_size=1))
def test_what_was_committed_is_what_is_read(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    store = ArtifactStore(tmp_path_factory.mktemp("home"), min_free_bytes=0)
    with store.build(recipe()) as draft:
        for name, data in files.items():
            (draft.out / "deep" / name).parent.mkdir(exist_ok=True)
            (draft.out / "deep" / name).write_bytes(data)
        draft.summary, draft.made_by = {"loss": 0.5}, {"run": "r"}
    artifact = store.require("sft", recipe().key)
    assert {name: file.bytes for name, file in artifact.manifest.files.items()} == {
        f"deep/{name}": len(data) for name, data in files.items()
    }
    assert artifact.manifest.recipe == recipe()
    assert (artifact.manifest.summary, artifact.manifest.made_by) == ({"loss": 0.5}, {"run": "r"})


def test_parquet_files_are_described(store: ArtifactStore) -> None:
    row = Trajectory(
        id="a",
        problem_id="p",
        family="f",
        question="q",
        reference="r",
        tools=(),
        min_calls=0,
        turns=(),
        stop_reason=StopReason.ANSWER,
    )
    with store.build(recipe()) as draft:
        write_trajectories([row, row], draft.out / "kept.parquet")
    stored = store.require("sft", recipe().key).manifest.files["kept.parquet"]
    assert stored.rows == 2
    assert stored.columns is not None and stored.columns["token_ids"] == "list<element: int32>"


def test_a_second_build_reuses_the_first(store: ArtifactStore) -> None:
    first = make(store, recipe(), data="first")
    second = make(store, recipe(), data="second")
    assert first == second
    assert (second / "data").read_text() == "first"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["data", "more", MANIFEST, MARKER])
@pytest.mark.parametrize("damage", [Path.unlink, truncate, flip])
def test_a_damaged_artifact_is_made_again(store: ArtifactStore, name: str, damage: Any) -> None:
    path = make(store, recipe(), data="good", more="better")
    damage(path / name)
    assert store.valid("sft", recipe().key) is None
    with pytest.raises(ArtifactError, match="run the pipeline again"):
        store.require("sft", recipe().key)
    make(store, recipe(), data="good", more="better")
    assert store.valid("sft", recipe().key) is not None


def test_a_file_that_was_not_committed_is_not_trusted(store: ArtifactStore) -> None:
    path = make(store, recipe())
    (path / "stranger").write_text("x")
    assert store.valid("sft", recipe().key) is None
    assert not (make(store, recipe()) / "stranger").exists()


def test_a_deleted_artifact_is_missing(store: ArtifactStore) -> None:
    with pytest.raises(ArtifactError, match="is missing"):
        store.require("sft", recipe().key)


def test_a_manifest_of_another_format_is_not_read(store: ArtifactStore) -> None:
    path = make(store, recipe())
    manifest = json.loads((path / MANIFEST).read_text())
    del manifest["seconds"]
    text = json.dumps(manifest)
    (path / MANIFEST).write_text(text)
    (path / MARKER).write_text(hashlib.sha256(text.encode()).hexdigest())
    assert store.valid("sft", recipe().key) is None


def test_a_failed_build_leaves_its_work_and_nothing_else(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="bad step"), store.build(recipe()) as draft:
        (draft.out / "half").write_text("x")
        (draft.work / "checkpoint").write_text("step 5")
        raise RuntimeError("bad step")
    assert list((tmp_path / "artifacts" / "sft").iterdir()) == []
    with store.build(recipe()) as again:
        assert (again.work / "checkpoint").read_text() == "step 5"
        assert list(again.out.iterdir()) == []
    store.discard_work(recipe().key)
    assert not again.work.exists()


KILLED = """
import os, sys, signal
from pathlib import Path
from journeyman.artifacts import ArtifactStore, Recipe
made_from = Recipe(stage="sft", code_version="c0", config={"steps": 3}, seed=0, inputs={})
with ArtifactStore(Path(sys.argv[1]), min_free_bytes=0).build(made_from) as draft:
    (draft.out / "half").write_text("x")
    (draft.work / "checkpoint").write_text("step 5")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_builder_left_is_swept_and_its_checkpoints_are_kept(store: ArtifactStore, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode < 0
    assert store.valid("sft", recipe().key) is None
    assert len(store.sweep()) == 1
    with store.build(recipe()) as draft:
        assert list(draft.out.iterdir()) == []
        assert (draft.work / "checkpoint").read_text() == "step 5"


def test_a_sweep_leaves_what_is_being_built(store: ArtifactStore) -> None:
    with store.build(recipe()) as draft:
        assert store.sweep() == []
        assert draft.out.is_dir()


def _build_slowly(root: Path, started: Any, go_on: Any, made: Any) -> None:
    with ArtifactStore(root, min_free_bytes=0).build(recipe()) as draft:
        if draft.artifact is None:
            started.set()
            go_on.wait(30)
            (draft.out / "data").write_text(str(os.getpid()))
            made.put(os.getpid())


def test_a_second_builder_of_the_same_key_waits_and_reuses(store: ArtifactStore, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    started, go_on, made = spawn.Event(), spawn.Event(), spawn.Queue()
    first = spawn.Process(target=_build_slowly, args=(tmp_path, started, go_on, made))
    first.start()
    assert started.wait(30)
    paths: list[Path] = []
    second = threading.Thread(target=lambda: paths.append(make(store, recipe(), data="mine")))
    second.start()
    second.join(0.3)
    assert second.is_alive()
    go_on.set()
    second.join(30)
    first.join(30)
    assert (paths[0] / "data").read_text() == str(made.get(timeout=5))


def test_builders_of_different_keys_do_not_wait(store: ArtifactStore) -> None:
    with store.build(recipe()), store.build(recipe(seed=1)) as other:
        assert other.artifact is None


def test_too_little_disk_is_told_before_anything_is_begun(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path, min_free_bytes=10**18)
    with pytest.raises(UserError, match="too little disk") as caught, store.build(recipe()):
        raise AssertionError("not begun")
    assert caught.value.place == str(tmp_path)
    assert "JOURNEYMAN_MIN_FREE_GB" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_told_and_leaves_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="disk is full"), store.build(recipe()) as draft:
        raise OSError(errno.ENOSPC, "No space left on device", str(draft.out / "data"))
    assert list((tmp_path / "artifacts" / "sft").iterdir()) == []


def test_a_floor_that_is_no_number_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNEYMAN_MIN_FREE_GB", "much")
    with pytest.raises(UserError, match="JOURNEYMAN_MIN_FREE_GB"):
        ArtifactStore(tmp_path)


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOURNEYMAN_HOME", raising=False)
    assert home() == tmp_path / ".journeyman"
    monkeypatch.setenv("JOURNEYMAN_HOME", str(tmp_path / "elsewhere"))
    assert home() == tmp_path / "elsewhere"


def test_content_counts_and_not_the_place(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / "rows.jsonl").write_text("{}")
    assert content_digest(tmp_path / "one") == content_digest(tmp_path / "other")
    (tmp_path / "other" / "deep" / "rows.jsonl").write_text("{} ")
    assert content_digest(tmp_path / "one") != content_digest(tmp_path / "other")
    assert content_digest(tmp_path / "one" / "deep" / "rows.jsonl") != content_digest(tmp_path / "one")


def test_the_code_of_a_stage_is_what_it_imports_late_or_through_a_registry() -> None:
    code = sources("journeyman.training.reinforce", "journeyman.rollout.worker")
    assert {
        "journeyman.rewards.efficiency",  # named by the registry of its package
        "journeyman.rollout.torch_sampler",  # imported inside a function
        "journeyman.tools.calculator",  # two imports away
        "journeyman.trajectory",
    } <= code.keys()


def test_the_code_of_a_stage_is_not_what_its_output_does_not_depend_on() -> None:
    code = sources("journeyman.curation.stage")
    assert not {"journeyman.progress", "journeyman.tracking", "journeyman.config"} & code.keys()
    assert not {name for name in code if name.startswith(("journeyman.training", "journeyman.rewards"))}
    assert code_version("journeyman.curation.stage") != code_version("journeyman.training.sft")


def test_comments_and_layout_are_no_other_code() -> None:
    assert syntax_digest(b"x = [1,\n  2]  # why") == syntax_digest(b"x = [1, 2]")
    assert syntax_digest(b"x = [1, 3]") != syntax_digest(b"x = [1, 2]")
