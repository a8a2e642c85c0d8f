"""Waiting for all results, through errors that may pass."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING, Any

from geovlm.errors import RateLimited, ServiceUnavailable

if TYPE_CHECKING:
    from geovlm.pixtral.batch.direct import Requests
    from geovlm.pixtral.batch.hosted import Jobs
    from geovlm.pixtral.batch.ledger import Ledger

_logger = logging.getLogger(__name__)

LONGEST_POLL = 60.0


class Waiting:
    """Looks until all is settled, rarer and rarer, and shows the progress.

    Args:
        sender: Takes the next steps.
        ledger: Knows what is settled.
        bar: Of requests.
    """

    def __init__(self, sender: Jobs | Requests, ledger: Ledger, bar: Any) -> None:
        self._sender, self._ledger, self._bar = sender, ledger, bar
        sender.told = self._show

    def run(self, *, poll: float, patience: float) -> None:
        """Return when all is settled.

        Args:
            poll: Seconds before the next look, at first.
            patience: Seconds without any answer after which the error is raised.

        Raises:
            ServiceError: The service refused, or gave no answer for so long.
        """
        pause, answered = poll, time.monotonic()
        while True:
            before = [shipment.step for shipment in self._ledger.shipments]
            try:
                self._sender.advance()
                answered = time.monotonic()
            except (ServiceUnavailable, RateLimited) as error:
                if time.monotonic() - answered > patience:
                    raise
                _logger.warning("the batch goes on, and this is tried again: %s", error)
            self._show()
            if not pending(self._ledger):
                return
            moved = before != [shipment.step for shipment in self._ledger.shipments]
            pause = poll if moved else min(pause * 1.5, max(LONGEST_POLL, poll))
            time.sleep(pause * random.uniform(0.9, 1.1))  # noqa: S311 - so that many clients do not ask at once

    def _show(self) -> None:
        settled = {s.number: s.requests for s in self._ledger.shipments if s.step == "settled"}
        self._bar.update(sum({**self._sender.progress, **settled}.values()) - self._bar.n)


def pending(ledger: Ledger) -> bool:
    """Whether something that may be sent has no results yet."""
    return any(shipment.step != "settled" for shipment in ledger.allowed())
