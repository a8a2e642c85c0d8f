"""How many items go through a model at once: what fits, found by trying, and smaller after memory ran out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from geovlm.protocols import Vectors

# Beyond this many, GPUs gain nothing, and a batch of decoded images takes hundreds of megabytes.
MOST_AT_ONCE = 1024
# Of the free memory, what batches may take: the rest is for fragments and for the other programs on the device.
SHARE_OF_FREE = 0.7


class BatchLimit:
    """The number of items that go through the model at once, as far as it is known.

    Attributes:
        most: No larger batch is tried; `None` as long as memory has never run out.
    """

    def __init__(self) -> None:
        self.most: int | None = None

    def run(self, work: Callable[[Any], Vectors], items: Sequence[Any] | np.ndarray) -> Vectors:
        """Call `work` on all items at once; where memory runs out, on halves, and on no more than fit from then on.

        Raises:
            UsageError: Not even one item fits.
        """
        found: list[Vectors] = []
        start = 0
        while start < len(items):
            part = items[start : start + (self.most or len(items))]
            vectors = _unless_out_of_memory(work, part)
            if vectors is None:
                self._shrink(len(part))
                continue
            found.append(vectors)
            start += len(part)
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _shrink(self, size: int) -> None:
        if size == 1:
            raise UsageError(
                "Not even one item fits in the memory of the device. Free some of it, or load the encoder with"
                " dtype='bfloat16', on another device, or a smaller one."
            )
        self.most = size // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _unless_out_of_memory(work: Callable[[Any], Vectors], items: Any) -> Vectors | None:
    """What `work` gives, or `None`; in a function of its own, so that the error's frames let go of their tensors."""
    try:
        return work(items)
    except torch.cuda.OutOfMemoryError:
        return None


def images_that_fit(run: Callable[[int], object], device: torch.device) -> int:
    """How many images fit in the free memory of a CUDA device, by the memory that `run(number)` takes for a few."""
    probe = 8
    run(probe)  # the first run also allocates what stays
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run(probe)
    for_one = max(1, (torch.cuda.max_memory_allocated(device) - before) // probe)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + unused
    fitting = int(SHARE_OF_FREE * free / for_one)
    return max(1, min(MOST_AT_ONCE, 1 << max(0, fitting.bit_length() - 1)))
