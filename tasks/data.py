"""The tasks of the stages that make and choose data."""

from tasks.stage import Desk, Summary, stage_task


@stage_task
def make_demonstrations(desk: Desk) -> Summary:
    """Problems in their splits, and cold-start demonstrations."""
    from journeyman.synthesis.stage import synthesize

    return synthesize(desk.config, desk.out, desk.observer)


@stage_task
def curate_trajectories(desk: Desk) -> Summary:
    """The demonstrations that pass the curation rules; the others with their reasons."""
    from journeyman.curation.stage import curate

    return curate(desk.config, desk.inputs["demonstrations"].path, desk.out, desk.observer)
