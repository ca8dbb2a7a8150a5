"""What is done about runs that did not come to an end of their own: cancelled from outside, or their process died."""

import logging
from collections.abc import Sequence
from uuid import UUID

import httpx
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Crashed

from journeyman.artifacts import home
from journeyman.runs import RunRecord, RunStore, Status, ended

log = logging.getLogger(__name__)


def mark_cancelled(flow: Flow, flow_run: FlowRun, state: State) -> None:
    """Hook of every flow, `on_cancellation`; it may run in the worker's process, after the run's own is gone."""
    _mark(flow_run, Status.CANCELLED)


def mark_crashed(flow: Flow, flow_run: FlowRun, state: State) -> None:
    """Hook of every flow, `on_crashed`."""
    _mark(flow_run, Status.CRASHED)


def crash_in_prefect(records: Sequence[RunRecord]) -> None:
    """Prefect may still call a dead process's flow runs, or tasks in them, running: set those to Crashed."""
    with get_client(sync_client=True) as client:
        for record in records:
            log.warning("run %s: its process died; what it had finished is kept", record.id)
            if record.flow_run_id:
                _crash(client, UUID(record.flow_run_id))


def _crash(client: SyncPrefectClient, flow_run_id: UUID) -> None:
    state = Crashed(message="The process died.")
    try:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        children = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run_id]))
        for run in [*client.read_flow_runs(flow_run_filter=children), *client.read_flow_runs(flow_run_filter=wanted)]:
            only = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
            for task_run in client.read_task_runs(flow_run_filter=only):
                if task_run.state is None or not task_run.state.is_final():
                    client.set_task_run_state(task_run.id, state, force=True)
            if run.state is None or not run.state.is_final():
                client.set_flow_run_state(run.id, state, force=True)
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        log.warning("flow run %s could not be set to Crashed: %s", flow_run_id, error)


def _mark(flow_run: FlowRun, status: Status) -> None:
    runs = RunStore(home())
    record = runs.of_flow_run(str(flow_run.id))
    if record is not None and record.status == Status.RUNNING:
        runs.save(ended(record, status))
