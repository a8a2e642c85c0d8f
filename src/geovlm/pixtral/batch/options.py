"""How a batch is sent, and what it may cost."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import field, frozen, validators

from geovlm.errors import UsageError
from geovlm.pixtral._checks import whole
from geovlm.pixtral.models import Price

__all__ = ["BatchOptions", "Means"]

Means: TypeAlias = Literal["jobs", "requests"]
"""How requests travel: in batch jobs, or one by one to a server that has no jobs."""

# Mistral's documentation contradicts itself: 100,000 requests a job on one page, a million pending on another; a file
# may have 512 MB. The smaller number counts, with some room.
MOST_REQUESTS = 100_000
MOST_BYTES = 480_000_000


def _via(_: object, __: object, value: object) -> None:
    if value not in ("auto", "jobs", "requests"):
        raise UsageError(f"via is 'auto', 'jobs' or 'requests', not {value!r:.80}.")


@frozen(kw_only=True)
class BatchOptions:
    """Settings of a batch that rarely need a change.

    Args:
        via: `"jobs"` sends batch jobs, `"requests"` single requests, several at a time; `"auto"` takes jobs where the
            server has them.
        max_attempts: How often one input is sent, at most. Only inputs that failed or are missing are sent again.
        timeout_hours: After which the service gives a job up.
        max_requests: In one job.
        max_bytes: Of one request file.
        price: Of a token; `None` takes Mistral's list price of the model where there is one.

    Raises:
        UsageError: A setting cannot be right.

    Examples:
        >>> BatchOptions(max_requests=5_000).max_attempts
        3
    """

    via: Literal["auto", "jobs", "requests"] = field(default="auto", validator=_via)
    max_attempts: int = field(default=3, validator=whole(1))
    timeout_hours: int = field(default=24, validator=whole(1, 168))
    max_requests: int = field(default=MOST_REQUESTS, validator=whole(1))
    max_bytes: int = field(default=MOST_BYTES, validator=whole(1))
    price: Price | None = field(default=None, validator=validators.optional(validators.instance_of(Price)))
