"""Stage evaluate: every policy of the ladder on held-out problems."""

from prefect import flow

from journeyman.config import EvaluateConfig
from tasks.evaluation import evaluate_policies, publish
from tasks.reap import mark_cancelled, mark_crashed
from tasks.run import continue_run
from tasks.stage import perform, result


@flow(name="evaluate", on_cancellation=[mark_cancelled], on_crashed=[mark_crashed])
def evaluate(from_run: str = "latest", options: EvaluateConfig | None = None) -> str:
    """Measure the base model, sft and every rl policy that an earlier run has. Returns the run's id.

    Args:
        from_run: The run whose artifacts are the inputs: its id, a pipeline's name (its latest run) or `latest`.
        options: The stage's options, all of them. Empty: as in that run.
    """
    with continue_run(from_run, "evaluate", evaluate=options) as run:
        publish(run, perform(evaluate_policies, run, "evaluate"))
    return result(run, "evaluate")
