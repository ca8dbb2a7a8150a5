"""Artifacts: folders named by the digest of what they were made from, committed whole or not at all.

An artifact is `artifacts/<stage>/<key>/`: the data, `manifest.json`, and the marker `COMMITTED`, written last, which
holds the manifest's digest. What has no marker, or differs from its manifest, is never read: it is made again.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from journeyman.errors import ArtifactError, UserError

HOME_VARIABLE = "JOURNEYMAN_HOME"
FLOOR_VARIABLE = "JOURNEYMAN_MIN_FREE_GB"
MANIFEST, MARKER = "manifest.json", "COMMITTED"
UNFINISHED = ".unfinished-"

log = logging.getLogger(__name__)


def home() -> Path:
    """The folder of artifacts, runs and services: `JOURNEYMAN_HOME`, else `.journeyman` where the command was given."""
    return Path(os.environ.get(HOME_VARIABLE) or ".journeyman").absolute()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What an artifact is made from. Equal recipes have equal keys, and one artifact."""

    stage: str
    code_version: str
    """Digest of the sources that the stage runs."""
    config: Mapping[str, Any]
    """The part of the config that the stage reads (JSON)."""
    seed: int
    inputs: Mapping[str, str]
    """Role to key of the artifact, or digest of the file, that the stage reads."""

    @property
    def key(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file of an artifact."""

    bytes: int
    sha256: str
    rows: int | None = None
    """Rows of a Parquet file; None for other files."""
    columns: Mapping[str, str] | None = None
    """Name to Arrow type of a Parquet file's columns; None for other files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an artifact holds and how it was made."""

    recipe: Recipe
    files: Mapping[str, StoredFile]
    """By path relative to the artifact."""
    summary: Mapping[str, Any]
    """What the stage says of its work: counts, headline values (JSON)."""
    made_by: Mapping[str, str]
    """The run that made it, with its addresses in Prefect and MLflow."""
    seconds: float
    """From the start of the stage's work, in this attempt, to the commit."""
    created: str
    """ISO 8601, UTC."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Manifest":
        files = {name: StoredFile(**file) for name, file in data["files"].items()}
        return cls(**{**data, "recipe": Recipe(**data["recipe"]), "files": files})


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A committed artifact."""

    path: Path
    manifest: Manifest

    @property
    def stage(self) -> str:
        return self.manifest.recipe.stage

    @property
    def key(self) -> str:
        return self.manifest.recipe.key


@dataclass(slots=True, kw_only=True)
class Draft:
    """An artifact in the making."""

    out: Path
    """Fresh folder for the data."""
    work: Path
    """Folder for checkpoints: it outlives a kill and is there at the next try of the same key."""
    artifact: Artifact | None = None
    """Set when there is nothing to do: someone else has made it. Set in any case once committed."""
    summary: Mapping[str, Any] = field(default_factory=dict)
    made_by: Mapping[str, str] = field(default_factory=dict)


class ArtifactStore:
    """The artifacts of one home folder.

    Args:
        root: the home folder.
        min_free_bytes: nothing is begun with less disk than this; None: `JOURNEYMAN_MIN_FREE_GB` or 1 GB.
    """

    def __init__(self, root: Path, *, min_free_bytes: int | None = None) -> None:
        self._root = root
        self._floor = _floor() if min_free_bytes is None else min_free_bytes

    def path(self, stage: str, key: str) -> Path:
        return self._root / "artifacts" / stage / key

    def work(self, key: str) -> Path:
        return self._root / "work" / key

    def valid(self, stage: str, key: str) -> Artifact | None:
        """The artifact, if it is there and every byte of it is as committed."""
        try:
            return self.require(stage, key)
        except ArtifactError as error:
            if self.path(stage, key).exists():
                log.warning("%s; it will be made again", error.message)
            return None

    def require(self, stage: str, key: str) -> Artifact:
        """The artifact. Raises `ArtifactError` where it is missing or damaged."""
        folder = self.path(stage, key)
        return Artifact(path=folder, manifest=_verify(folder))

    def peek(self, stage: str, key: str) -> Artifact | None:
        """The artifact, if it was committed: its manifest is checked, the bytes of its files are not."""
        folder = self.path(stage, key)
        try:
            return Artifact(path=folder, manifest=_manifest(folder))
        except ArtifactError:
            return None

    @contextmanager
    def build(self, recipe: Recipe) -> Iterator[Draft]:
        """Hold the key's lock and hand out a draft; it is committed when the block ends without an error.

        A second builder of the key waits for the first; its draft then comes with `artifact` set. A failed or killed
        build leaves `draft.work` and nothing else; after a commit the caller ends with `discard_work`. Raises
        `UserError` where the disk is too full.
        """
        self.require_space()
        with self._lock(recipe.stage, recipe.key):
            draft = Draft(out=self._unfinished(recipe), work=self.work(recipe.key))
            draft.artifact = self.valid(recipe.stage, recipe.key)
            if draft.artifact:
                yield draft
                return
            self._discard(recipe)
            draft.out.mkdir(parents=True)
            draft.work.mkdir(parents=True, exist_ok=True)
            started = time.monotonic()
            try:
                with _full_disk_told(self._root):
                    yield draft
                    draft.artifact = self._commit(recipe, draft, seconds=time.monotonic() - started)
            finally:
                shutil.rmtree(draft.out, ignore_errors=True)

    def discard_work(self, key: str) -> None:
        """Remove the checkpoints of an artifact that is committed."""
        shutil.rmtree(self.work(key), ignore_errors=True)

    def sweep(self) -> list[Path]:
        """Remove what dead builders left half-written; returns what was removed."""
        removed = []
        for folder in (self._root / "artifacts").glob(f"*/{UNFINISHED}*"):
            key = folder.name.removeprefix(UNFINISHED)
            with self._lock(folder.parent.name, key, wait=False) as held:
                if held:
                    shutil.rmtree(folder, ignore_errors=True)
                    removed.append(folder)
        return removed

    def require_space(self) -> None:
        """Raise `UserError` where less than the floor is free."""
        self._root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._root).free
        if free < self._floor:
            message = f"too little disk: {free / 1e9:.1f} GB free, {self._floor / 1e9:.1f} GB are needed to begin"
            raise UserError(message, place=str(self._root), remedy=_SPACE_REMEDY)

    def _unfinished(self, recipe: Recipe) -> Path:
        return self.path(recipe.stage, UNFINISHED + recipe.key)

    def _discard(self, recipe: Recipe) -> None:
        """Take away a damaged artifact and what a dead builder left; first by a rename, which is all or nothing."""
        unfinished, folder = self._unfinished(recipe), self.path(recipe.stage, recipe.key)
        shutil.rmtree(unfinished, ignore_errors=True)
        if folder.exists():
            folder.rename(unfinished)
            shutil.rmtree(unfinished)

    def _commit(self, recipe: Recipe, draft: Draft, *, seconds: float) -> Artifact:
        manifest = Manifest(
            recipe=recipe,
            files={str(path.relative_to(draft.out)): _describe(path) for path in _files(draft.out)},
            summary=dict(draft.summary),
            made_by=dict(draft.made_by),
            seconds=round(seconds, 3),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False)
        (draft.out / MANIFEST).write_text(text, encoding="utf-8")
        _sync(draft.out)
        (draft.out / MARKER).write_text(_text_digest(text), encoding="utf-8")
        _sync_path(draft.out / MARKER)
        _sync_path(draft.out)
        folder = self.path(recipe.stage, recipe.key)
        draft.out.rename(folder)
        _sync_path(folder.parent)
        return Artifact(path=folder, manifest=Manifest.from_json(json.loads(text)))

    @contextmanager
    def _lock(self, stage: str, key: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold the lock of a key; yields False where `wait` is false and another process has it."""
        path = self._root / "artifacts" / ".locks" / f"{stage}-{key}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as handle:  # the lock goes with the open file: the kernel frees it however we end
            if not (held := try_lock(handle.fileno())) and wait:
                log.info("another process is making %s/%s: waiting for it", stage, key)
                fcntl.flock(handle, fcntl.LOCK_EX)
                held = True
            yield held


_SPACE_REMEDY = f"free some space (old folders under artifacts/ may go), or lower the floor with {FLOOR_VARIABLE}"


def try_lock(descriptor: int) -> bool:
    """Take an open file's lock if nobody has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_atomically(path: Path, text: str) -> None:
    """Replace a small file as a whole: a reader sees the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def _floor() -> int:
    text = os.environ.get(FLOOR_VARIABLE, "1")
    try:
        return int(float(text) * 1e9)
    except ValueError as error:
        raise UserError(
            f"`{text}` is not a number", place=FLOOR_VARIABLE, remedy="give gigabytes, such as 1"
        ) from error


@contextmanager
def _full_disk_told(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError("the disk is full", place=str(error.filename or root), remedy=_SPACE_REMEDY) from error


def _verify(folder: Path) -> Manifest:
    """The manifest of a committed folder after a check of every file. Raises `ArtifactError`."""
    manifest = _manifest(folder)
    present = {str(file.relative_to(folder)) for file in _files(folder)} - {MANIFEST, MARKER}
    for name in sorted(present ^ set(manifest.files)):
        state = "was added" if name in present else "is missing"
        raise ArtifactError(f"artifact {folder}: {name} {state}", place=str(folder / name), remedy=_REMAKE)
    for name, file in manifest.files.items():
        size = (folder / name).stat().st_size
        if size != file.bytes or digest_of_file(folder / name) != file.sha256:
            raise ArtifactError(f"artifact {folder}: {name} was altered", place=str(folder / name), remedy=_REMAKE)
    return manifest


def _manifest(folder: Path) -> Manifest:
    """The manifest of a committed folder. Raises `ArtifactError`."""
    marker, path = folder / MARKER, folder / MANIFEST
    if not marker.is_file() or not path.is_file():
        state = "was never finished" if folder.exists() else "is missing"
        raise ArtifactError(f"artifact {folder} {state}", place=str(folder), remedy=_REMAKE)
    text = path.read_text(encoding="utf-8", errors="replace")
    if _text_digest(text) != marker.read_text(encoding="utf-8", errors="replace"):
        raise ArtifactError(f"artifact {folder}: {MANIFEST} was altered", place=str(path), remedy=_REMAKE)
    try:
        return Manifest.from_json(json.loads(text))
    except (TypeError, KeyError) as error:
        raise ArtifactError(f"artifact {folder} has another format", place=str(path), remedy=_REMAKE) from error


_REMAKE = "run the pipeline again: what is missing or damaged is made again"


def _describe(path: Path) -> StoredFile:
    size, digest = path.stat().st_size, digest_of_file(path)
    if path.suffix != ".parquet":
        return StoredFile(bytes=size, sha256=digest)
    import pyarrow.parquet as pq

    data = pq.ParquetFile(path)
    columns = {column.name: str(column.type) for column in data.schema_arrow}
    return StoredFile(bytes=size, sha256=digest, rows=data.metadata.num_rows, columns=columns)


def digest_of_file(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sync(folder: Path) -> None:
    """Make a folder's files and names durable."""
    for path in [*folder.rglob("*"), folder]:
        _sync_path(path)


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
