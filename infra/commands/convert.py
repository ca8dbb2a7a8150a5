"""`journeyman import` and `journeyman export`: real formats in, OpenAI's messages out."""

import json
from pathlib import Path
from typing import Annotated

import typer

from journeyman.errors import DataError, UserError


def import_(
    name: Annotated[str, typer.Argument(metavar="FORMAT", help="api-bank, bfcl, glaive, gsm8k, openai, ...")],
    path: Annotated[Path, typer.Argument(help="A file or folder.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder for what comes of it.", metavar="DIR")],
) -> None:
    """Read a format: problems.parquet, trajectories.parquet, apart.jsonl and counts.json."""
    from journeyman.formats import FORMATS, counts, import_path
    from journeyman.synthesis.problems import write_problems
    from journeyman.trajectory import write_trajectories

    if name not in FORMATS:
        raise UserError(f"there is no format {name!r}", remedy=f"take one of {', '.join(FORMATS)}")
    if out.exists() and not out.is_dir():
        raise UserError("not a folder", place=str(out), remedy="give another --out")
    imported = import_path(name, path)
    out.mkdir(parents=True, exist_ok=True)
    written = {
        "problems.parquet": write_problems(imported.problems, out / "problems.parquet") if imported.problems else 0,
        "trajectories.parquet": write_trajectories(imported.trajectories, out / "trajectories.parquet")
        if imported.trajectories
        else 0,
    }
    for file, count in written.items():
        if not count:
            (out / file).unlink(missing_ok=True)  # of an earlier import into the same folder
    with (out / "apart.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(dict(apart.to_json()), default=str) + "\n" for apart in imported.apart)
    result = counts(imported)
    (out / "counts.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    _print(result, out)


def _print(result: dict, out: Path) -> None:
    print(f"{result['rows']} rows: {result['problems']} problems, {result['trajectories']} trajectories")
    if result["apart"]:
        print(f"{result['apart']} rows apart, in {out / 'apart.jsonl'}:")
    for reason, count in result["reasons"].items():
        print(f"  {count:5} {reason}")


def export(
    path: Annotated[Path, typer.Argument(help="trajectories.parquet, or a folder with it.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="JSON Lines.", metavar="FILE")],
) -> None:
    """Write trajectories as OpenAI's messages with tools, a trajectory a line."""
    import pyarrow as pa

    from journeyman.environments import specs_of
    from journeyman.formats import write_openai
    from journeyman.trajectory import read_trajectories

    file = path / "trajectories.parquet" if path.is_dir() else path
    if out.is_dir():
        raise UserError("a folder", place=str(out), remedy="give a file's name to --out")
    try:
        trajectories = read_trajectories(file)
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        message = str(error).splitlines()[0]
        raise DataError(f"no trajectories: {message}", place=str(file), remedy="give a trajectories.parquet") from None
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", encoding="utf-8") as lines:
        for trajectory in trajectories:
            try:
                specs = specs_of(trajectory)
            except KeyError:
                specs = []  # tools of a family that isn't here
            lines.write(json.dumps(write_openai(trajectory, specs), ensure_ascii=False) + "\n")
    print(f"{len(trajectories)} trajectories in {out}")
