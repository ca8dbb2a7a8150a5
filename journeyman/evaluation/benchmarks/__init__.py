"""Benchmarks by adapter. To add one: a function in `adapters`, a test, a line in `BENCHMARKS`."""

from journeyman.evaluation.benchmarks.adapters import bfcl, environment, gsm8k, math, search_qa, tau2
from journeyman.evaluation.benchmarks.base import Benchmark, Questions, load

BENCHMARKS: dict[str, Benchmark] = {
    "bfcl": bfcl,
    "tau2": tau2,
    "gsm8k": gsm8k,
    "math": math,
    "search_qa": search_qa,
    "environment": environment,
}
"""Name on the command line -> function of a path; keyword-only parameters are its options."""

__all__ = ["BENCHMARKS", "Benchmark", "Questions", "load"]
