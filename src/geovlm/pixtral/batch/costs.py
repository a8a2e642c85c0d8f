"""What a batch would send, and what that would cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attrs import field, frozen

from geovlm._markup import listing, panel
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from geovlm.pixtral.batch.ledger import Ledger
    from geovlm.pixtral.batch.options import Means
    from geovlm.pixtral.batch.planning import Task
    from geovlm.pixtral.models import Price
    from geovlm.pixtral.requests import RequestBuilder
    from geovlm.records import Failure, Report

__all__ = ["BatchPlan", "plan_of"]

# A cautious estimate: English has more characters a token, JSON and rare names fewer.
CHARACTERS_A_TOKEN = 3


@frozen(kw_only=True)
class BatchPlan:
    """What a batch would send and cost; the requests are on disk already, and sending them takes no second encoding.

    Args:
        requests: How many.
        failures: Inputs that cannot be sent.
        image_tokens: Of all images, exactly as the model counts them.
        text_tokens: Of all other text, estimated from its length, rather too many.
        most_completion_tokens: If every answer is as long as it may be.
        bytes: Of all request files.
        jobs: Request files, which are jobs where the server has them.
        means: How they travel.
        price: Of a token; `None` where it is not known, as on a server of one's own.

    Examples:
        >>> from geovlm.pixtral import Price
        >>> plan = BatchPlan(requests=2, image_tokens=760, text_tokens=300, most_completion_tokens=512, bytes=60_000,
        ...     jobs=1, means="jobs", price=Price(prompt=0.15, completion=0.15))
        >>> print(plan)
        2 requests in 1 job, 0.1 MB; 760 image tokens, about 300 of text; at most $0.0001, with the batch discount
    """

    requests: int
    image_tokens: int
    text_tokens: int
    most_completion_tokens: int
    bytes: int
    jobs: int
    means: Means
    price: Price | None
    failures: tuple[Failure, ...] = field(default=(), repr=lambda value: f"<{len(value)}>")

    @property
    def cost(self) -> float | None:
        """US dollars for what is read; answers come on top. `None` where the price is not known."""
        return self._cost(0)

    @property
    def most_cost(self) -> float | None:
        """US dollars if every answer is as long as it may be and every request is answered once."""
        return self._cost(self.most_completion_tokens)

    def _cost(self, written: int) -> float | None:
        read = self.image_tokens + self.text_tokens
        if self.price is None:
            return None
        return self.price.of(prompt_tokens=read, completion_tokens=written, batch=self.means == "jobs")

    def check(self, max_cost: float | None) -> None:
        """Raise if it may cost more than is allowed.

        Raises:
            UsageError: It may, or nobody knows.
        """
        if max_cost is None:
            return
        if isinstance(max_cost, bool) or not isinstance(max_cost, int | float) or not 0 <= max_cost < math.inf:
            raise UsageError(f"max_cost is an amount of US dollars, not {max_cost!r}.")
        if self.most_cost is None:
            raise UsageError(
                "max_cost needs a price, and none is known for this model on this server: give one with"
                " options=BatchOptions(price=Price(prompt=…, completion=…)), 0 for a server of your own. Nothing was"
                " sent."
            )
        if self.most_cost > max_cost:
            raise UsageError(
                f"This may cost ${self.most_cost:.4f}, which is more than max_cost={max_cost}: {self}. Nothing was"
                " sent; allow more, or make it cheaper with image_tokens= or max_tokens= of the client."
            )

    def _repr_html_(self) -> str:
        known = {
            "requests": self.requests,
            "jobs": self.jobs if self.means == "jobs" else "single requests",
            "megabytes": f"{self.bytes / 1e6:.1f}",
            "image tokens": self.image_tokens,
            "text tokens (about)": self.text_tokens,
            "cost at most": "unknown" if self.most_cost is None else f"${self.most_cost:.4f}",
            "inputs that cannot be sent": len(self.failures),
        }
        return panel("Batch plan", listing(known))

    def __str__(self) -> str:
        jobs = f"{self.jobs} {'job' if self.jobs == 1 else 'jobs'}" if self.means == "jobs" else "single requests"
        discount = ", with the batch discount" if self.means == "jobs" else ""
        cost = "cost unknown: no price is known" if self.most_cost is None else f"at most ${self.most_cost:.4f}"
        return (
            f"{self.requests} requests in {jobs}, {self.bytes / 1e6:.1f} MB; {self.image_tokens} image tokens, about"
            f" {self.text_tokens} of text; {cost}{discount if self.most_cost is not None else ''}"
        )


def plan_of(
    ledger: Ledger, builder: RequestBuilder, task: Task, *, report: Report, means: Means, price: Price | None
) -> BatchPlan:
    """What the shipments that are sent for the first time amount to."""
    first = [shipment for shipment in ledger.shipments if shipment.attempt == 1]
    count = sum(shipment.requests for shipment in first)
    text = len(task.text(builder))
    return BatchPlan(
        requests=count,
        image_tokens=sum(shipment.image_tokens for shipment in first),
        text_tokens=count * (math.ceil(text / CHARACTERS_A_TOKEN) + 8),
        most_completion_tokens=count * builder.max_tokens,
        bytes=sum(shipment.bytes for shipment in first),
        jobs=len(first),
        means=means,
        price=price,
        failures=report.failures,
    )
