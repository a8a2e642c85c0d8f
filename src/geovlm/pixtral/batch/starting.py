"""The call that begins a batch, or goes on with one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from geovlm._files import locked
from geovlm._parts import Parts
from geovlm.errors import ConfigMismatch, UsageError
from geovlm.pixtral.batch.costs import BatchPlan, plan_of
from geovlm.pixtral.batch.job import BatchRun
from geovlm.pixtral.batch.ledger import Ledger
from geovlm.pixtral.batch.options import BatchOptions
from geovlm.pixtral.batch.planning import KIND, Task, prepare, seal
from geovlm.pixtral.batch.service import service_of
from geovlm.pixtral.models import BATCH_DISCOUNT, Price, find_model

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from geovlm.pixtral.batch.options import Means
    from geovlm.pixtral.batch.service import JobService
    from geovlm.pixtral.client import PixtralClient
    from geovlm.protocols import ImageSource
    from geovlm.records import Record, Report

_logger = logging.getLogger(__name__)


def start(
    client: PixtralClient,
    source: ImageSource | Iterable[Record],
    task: Task,
    *,
    out: str | os.PathLike[str],
    max_cost: float | None,
    dry_run: bool,
    options: BatchOptions | None,
    progress: bool | None,
) -> BatchRun | BatchPlan:
    """Prepare, and send unless it is a dry run; `PixtralClient.batch_classify` tells the arguments."""
    options = BatchOptions() if options is None else options
    if not isinstance(options, BatchOptions):
        raise UsageError(f"options is a BatchOptions, not {options!r:.80}.")
    folder, service = Path(out).expanduser(), service_of(client)
    weights = None if service.local is None else service.local.fingerprint
    config = {**task.config(client.requests), "weights": weights}
    parts = Parts(folder, kind=KIND, config=config)
    report = prepare(parts, source, task, client.requests, options, progress=progress)
    with locked(folder), Ledger.open(folder) as ledger:
        _note(ledger, report)
        seal(parts, ledger, folder)
        means = _means(ledger, service, options)
        price = _price(service, means, options)
        plan = plan_of(ledger, client.requests, task, report=report, means=means, price=price)
        plan.check(max_cost)
        if dry_run:
            return plan
        run = BatchRun(folder, client=client)
        _allow(ledger, plan, options, client, max_cost=max_cost)
    run.submit()
    return run


def _note(ledger: Ledger, report: Report) -> None:
    """Keep what the parts do not: inputs that were set aside because their id came before."""
    known = ledger.prepared
    if known is None or report.total > known["inputs"]:
        aside = [
            [failure.id, failure.uri, str(failure.reason)] for failure in report.failures if failure.stage == "read"
        ]
        ledger.append("prepared", inputs=report.total, set_aside=aside)


def _means(ledger: Ledger, service: JobService, options: BatchOptions) -> Means:
    if ledger.means is not None:
        if options.via not in {"auto", ledger.means}:
            raise ConfigMismatch(f"The batch was begun via={ledger.means!r}; it goes on in the same way.")
        return ledger.means
    if options.via != "auto":
        return options.via
    return "jobs" if service.offers_jobs() else "requests"


def _price(service: JobService, means: Means, options: BatchOptions) -> Price | None:
    if options.price is not None:
        return options.price
    known = find_model(service.model)
    return known.price if known and (means == "jobs" or service.is_hosted) else None


def _allow(
    ledger: Ledger, plan: BatchPlan, options: BatchOptions, client: PixtralClient, *, max_cost: float | None
) -> None:
    price = plan.price
    ledger.append(
        "sending",
        url=client.base_url,
        means=plan.means,
        until=len(ledger.shipments),
        max_cost=max_cost,
        price=None if price is None else [price.prompt, price.completion],
        share=BATCH_DISCOUNT if plan.means == "jobs" else 1.0,
        text_tokens=plan.text_tokens // max(1, plan.requests),
        max_tokens=client.requests.max_tokens,
        max_attempts=options.max_attempts,
        max_requests=options.max_requests,
        max_bytes=options.max_bytes,
        timeout_hours=options.timeout_hours,
    )
