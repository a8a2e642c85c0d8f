"""Reports of what became of every input, as results of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import asdict

from geovlm.cli.output import Result
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from geovlm.records import Report

__all__ = ["report_values", "write_report"]


def report_values(report: Report) -> dict[str, Any]:
    """A report as JSON-like values."""
    return {
        "stage": report.stage,
        "done": report.done,
        "skipped": report.skipped,
        "failed": report.failed,
        "seconds": report.seconds,
        "failures": [asdict(failure) for failure in report.failures],
    }


def write_report(report: Report, format_: str | None, out: Path | None, *, more: Mapping[str, Any]) -> None:
    """Write what became of every input.

    Raises:
        UsageError: Nothing at all could be used.
    """
    Result.of(report, title=f"geovlm {report.stage}", json=lambda: {**more, **report_values(report)}).write(
        format_, out
    )
    if report.total and report.failed == report.total:
        raise UsageError(f"None of the {report.total} inputs could be used; the first: {report.failures[0]}")
