"""Does it learn? The ladder of a pipeline on several seeds, with its two controls, on held-out problems.

    python bench/ladder.py quickstart --seeds 0 1 2 --out ladder.json

Per seed: base, sft, every rl block, and

- `control-sft`: SFT laid out for as many more steps as the first rl block takes seconds (equal compute, no RL);
- `control-accuracy`: the last rl block again, rewarded for accuracy alone (equal compute, no price on calls).

Stages run in this process, one after the other, with the code that the pipeline runs; the tasks' caching, tracking and
Ray are left out. Prints a table per seed and one over the seeds; writes every figure as JSON.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from journeyman.actors import InlineWorkers
from journeyman.config import PipelineConfig, RlConfig
from journeyman.config.load import load_pipeline
from journeyman.curation.stage import curate
from journeyman.evaluation.stage import evaluate
from journeyman.progress import Silent
from journeyman.synthesis.stage import synthesize
from journeyman.training.inheritance import HANDED_ON
from journeyman.training.reinforce import Inputs, run_rl
from journeyman.training.sft import run_sft
from tasks.recipes import handed_on

SHOWN = ("accuracy_sampled", "accuracy_greedy", "tool_calls_per_problem", "needless_calls_per_solved", "seconds")


class Study:
    """One seed's ladder in a folder."""

    def __init__(self, config: PipelineConfig, root: Path) -> None:
        self._config, self._root = config, root
        self._policies: dict[str, Path] = {}
        self._seconds: dict[str, float] = {}

    def run(self, *, controls: bool = True) -> dict[str, Any]:
        """The report of every policy on the held-out problems, `controls` included."""
        config, root = self._config, self._root
        if not (root / "sft").exists():
            self.start()
        self._policies = {"base": root / "sft" / "base", "sft": root / "sft" / "policy"}
        before = ["sft", *(f"rl-{block.name}" for block in config.rl)]
        for start, block in zip(before, config.rl, strict=False):
            self._rl(f"rl-{block.name}", block, start)
        if controls:
            self._controls()
        return self._evaluate()

    def start(self) -> None:
        """The stages before rl."""
        config, root = self._config, self._root
        synthesize(config, root / "synthesize", Silent())
        self._timed("curate", lambda out: curate(config, root / "synthesize", out, Silent()))
        self._sft("sft", config)

    def _controls(self) -> None:
        config = self._config
        more = 1 + self._seconds[f"rl-{config.rl[0].name}"] / self._seconds["sft"]
        longer = config.sft.model_copy(update={"steps": round(config.sft.steps * more)})
        self._sft("control-sft", config.model_copy(update={"sft": longer}))
        self._policies["control-sft"] = self._root / "control-sft" / "policy"
        if len(config.rl) > 1:
            accuracy_only = config.rl[-1].model_copy(update={"reward": "correct"})
            self._rl("control-accuracy", accuracy_only, f"rl-{config.rl[-2].name}")

    def _sft(self, name: str, config: PipelineConfig) -> None:
        def body(out: Path) -> None:
            with InlineWorkers(config.compute, max_length=config.model.max_length) as workers:
                run_sft(config, self._root / "curate", out=out, work=out / "work", workers=workers, observer=Silent())

        self._timed(name, body)

    def _rl(self, name: str, block: RlConfig, before: str) -> None:
        config, root = self._config, self._root
        inputs = Inputs(
            policy=root / before / "policy",
            problems=root / ("curate" if config.curate.problems else "synthesize"),
            demonstrations=root / "curate" if block.uses_demonstrations else None,
            taught=root / "synthesize" if block.uses_taught else None,
            reference=root / block.reference / "policy" if block.reference else None,
            before=root / before / HANDED_ON if block.inherits else None,
        )

        def body(out: Path) -> None:
            with InlineWorkers(config.compute, max_length=config.model.max_length) as workers:
                run_rl(
                    config,
                    block,
                    inputs,
                    out=out,
                    work=out / "work",
                    workers=workers,
                    observer=Silent(),
                    hands_on=handed_on(config, block),
                )

        self._timed(name, body)
        self._policies[name] = root / name / "policy"

    def _timed(self, name: str, body: Callable[[Path], object]) -> None:
        started = time.perf_counter()
        out = self._root / name
        out.mkdir(parents=True)
        body(out)
        self._seconds[name] = time.perf_counter() - started
        print(f"  seed {self._config.seed}: {name} took {self._seconds[name]:.0f} s", flush=True)

    def _evaluate(self) -> dict[str, Any]:
        config, out = self._config, self._root / "evaluate"
        out.mkdir()
        with InlineWorkers(config.compute, max_length=config.model.max_length) as workers:
            evaluate(
                config,
                self._policies,
                problems=self._root / "synthesize",
                out=out,
                workers=workers,
                observer=Silent(),
                seconds=self._seconds,
            )
        return json.loads((out / "report.json").read_text())


def show(reports: list[dict[str, Any]]) -> None:
    """A line per policy: each seed's figure, for the measures that the ladder is judged by."""
    for measure in SHOWN:
        print(f"\n{measure}")
        for stage in reports[0]["stages"]:
            name = stage["name"]
            values = [next(s for s in report["stages"] if s["name"] == name)[measure] for report in reports]
            print(f"  {name:<18}" + "".join(f"{'-' if v is None else format(v, '.3f'):>10}" for v in values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", nargs="?", default="quickstart")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--out", type=Path, default=Path("ladder.json"))
    arguments = parser.parse_args()
    reports = []
    for seed in arguments.seeds:
        config = load_pipeline(arguments.pipeline, overrides=[*arguments.overrides, f"seed={seed}"])
        root = Path(tempfile.mkdtemp(prefix="ladder-"))
        reports.append(Study(config, root).run())
        shutil.rmtree(root)
        arguments.out.write_text(json.dumps(reports, indent=1))
        show(reports)


if __name__ == "__main__":
    main()
