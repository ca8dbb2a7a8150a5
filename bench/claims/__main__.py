"""The claims of papers, tried in the small: the quickstart's model and worlds, several seeds, whatever comes out.

    python -m bench.claims                     # what there is
    python -m bench.claims otc --seeds 0 1 2   # one claim
    python -m bench.claims all --jobs 2        # every claim; results that are there already are kept

Each writes bench/results/claims/NAME.json: options, every figure of every seed and arm, the training curves, and the
paired differences with their 95 % interval over the seeds. `--table` prints the table of docs/claims.md.
"""

import argparse
from pathlib import Path

from bench.claims.definitions import CLAIMS
from bench.claims.study import run_claim, save
from bench.claims.table import summary, table

RESULTS = Path(__file__).resolve().parents[1] / "results" / "claims"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claims", nargs="*", metavar="NAME", help="names, or `all`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="arms trained at the same time, one thread each")
    parser.add_argument("--steps", type=int, help="of every rl block; else as the claim says")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(arguments.out))
        return
    every = arguments.claims == ["all"]
    unknown = [name for name in arguments.claims if name not in CLAIMS and not every]
    if unknown or not arguments.claims:
        print("\n".join(f"{name:<12} {claim.papers:<18} {claim.says}" for name, claim in CLAIMS.items()))
        parser.exit(2 if unknown else 0, f"there is no claim {', '.join(unknown)}\n" if unknown else "")
    for name in list(CLAIMS) if every else arguments.claims:
        if every and (arguments.out / f"{name}.json").exists():
            continue
        print(f"{name}: {CLAIMS[name].says}", flush=True)
        result = run_claim(name, CLAIMS[name], arguments.seeds, jobs=arguments.jobs, steps=arguments.steps)
        save(result, arguments.out)
        print(summary(result), flush=True)


if __name__ == "__main__":
    main()
