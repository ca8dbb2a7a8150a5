"""What a run shows on its Prefect page: a progress bar, tables, links. A page that can't be written stops no stage."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_UI_URL

log = logging.getLogger(__name__)


def flow_run_url(flow_run_id: str) -> str:
    """The page of a flow run; empty where no server with pages is in use."""
    base = PREFECT_UI_URL.value()
    return f"{base.rstrip('/')}/v2/runs/flow-run/{flow_run_id}" if base and flow_run_id else ""


def progress_bar(stage: str) -> Callable[[float, str], None]:
    """A bar of its own on the current run's page; returns what moves it: (percent, note)."""
    made = _try(lambda: create_progress_artifact(progress=0.0, key=f"{stage}-progress", description=stage))

    def move(percent: float, note: str) -> None:
        if isinstance(made, UUID):
            text = f"{stage}: {note}" if note else stage
            _try(lambda: update_progress_artifact(made, progress=percent, description=text))

    return move


def table(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    _try(lambda: create_table_artifact(key=key, table=[dict(row) for row in rows], description=description))


def link(key: str, url: str, text: str, description: str) -> None:
    """Nothing where there is no address."""
    if url:
        _try(lambda: create_link_artifact(key=key, link=url, link_text=text, description=description))


def markdown(key: str, text: str, description: str) -> None:
    _try(lambda: create_markdown_artifact(key=key, markdown=text, description=description))


def with_pictures(card: str, mlflow_url: str, mlflow_run_id: str) -> str:
    """A data card whose pictures are those of its run in MLflow; as it is where the run has no page."""
    server, _, page = mlflow_url.partition("/#/")
    if not page:
        return card
    return card.replace("](pictures/", f"]({server}/get-artifact?run_uuid={mlflow_run_id}&path=pictures/")


def summary_rows(summary: Mapping[str, Any], prefix: str = "") -> list[dict[str, Any]]:
    """A stage's summary as the rows of a table, nested keys joined by dots; long lists are left to the manifest."""
    rows: list[dict[str, Any]] = []
    for key, value in summary.items():
        if isinstance(value, Mapping):
            rows += summary_rows(value, f"{prefix}{key}.")
        elif not isinstance(value, list | tuple):
            shown = round(value, 4) if isinstance(value, float) else value
            rows.append({"what": f"{prefix}{key}", "value": "" if shown is None else shown})
    return rows


def _try(write: Callable[[], Any]) -> Any:
    try:
        return write()
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        log.warning("the Prefect page could not be written: %s", error)
        return None
