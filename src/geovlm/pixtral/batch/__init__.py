"""Batches: thousands of images asked the same, by batch jobs or by single requests, with one state for every image.

A batch lives in a directory::

    manifest.json     what is asked of every image
    part-….parquet    the inputs, and where the request of each is
    requests/         request lines, in files that the service takes
    ledger.jsonl      each step on the network, written before it is taken
    results/          the service's result lines, as they came
"""

from geovlm.pixtral.batch.costs import BatchPlan
from geovlm.pixtral.batch.job import BatchRun, BatchStatus, JobStatus
from geovlm.pixtral.batch.options import BatchOptions
from geovlm.pixtral.batch.results import STATES, BatchResult, BatchRow, Strays

__all__ = [
    "STATES",
    "BatchOptions",
    "BatchPlan",
    "BatchResult",
    "BatchRow",
    "BatchRun",
    "BatchStatus",
    "JobStatus",
    "Strays",
]
