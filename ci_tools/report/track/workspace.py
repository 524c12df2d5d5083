"""A W&B report that shows the runs of one pull request side by side, made through W&B's reports API."""

import warnings
from typing import Any

from ci_tools.report.track import labels
from ci_tools.report.track.history import TRACE_VALUES

PANELS = ("loss", "grad_norm", "lr", "step_ms")
"""Columns of the trace that are drawn for all runs of the group."""


def publish(project: str, group: str) -> tuple[str, str]:
    """The address of the report on a group of runs, and why there is none; one of the two is empty.

    It is made once and found again by its title: its panels show whatever runs the group has when it is looked at.

    Args:
        project: `entity/project`.
        group: of the runs.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its own use of pydantic
            import wandb_workspaces.reports.v2 as reports
    except ModuleNotFoundError:
        return "", "no W&B report was made: the package wandb-workspaces is not installed"
    try:
        return _find(project, _title(group)) or _make(reports, project, group), ""
    except Exception as error:  # tracking must not fail for want of a report
        return "", f"no W&B report was made ({next(iter(str(error).splitlines()), type(error).__name__)})"


def _title(group: str) -> str:
    """Without signs that mean something in an address, because W&B makes one of it."""
    return labels.artifact_name("Switchback", group)


def _find(project: str, title: str) -> str:
    import wandb

    found = (report.url for report in wandb.Api().reports(project) if report.display_name == title)
    return str(next(found, ""))


def _make(reports: Any, project: str, group: str) -> str:
    from wandb_workspaces import expr

    entity, _, name = project.partition("/")
    runs = reports.Runset(project=name, entity=entity, name="runs", filters=expr.And(expr.Metric("Group") == group))
    lines = [reports.LinePlot(x="Step", y=[TRACE_VALUES[column]]) for column in PANELS]
    report = reports.Report(
        project=name,
        entity=entity,
        title=_title(group),
        description="Runs of one change, as Switchback recorded them.",
        blocks=[reports.PanelGrid(runsets=[runs], panels=lines)],
    )
    report.save()
    return str(report.url)
