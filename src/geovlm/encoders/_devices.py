"""Batches on the cores of a CPU, and on GPUs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

# Fewer images than this leave a core's matrix products too thin.
IMAGES_A_CORE = 16
# As many are copied to a GPU while as many before them are computed.
IMAGES_A_COPY = 256

# The number of torch's threads is one for the whole process.
_threads_changing = Lock()


def on_cores(run: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """Give each core a part of the batch instead of a part of every operation.

    The vectors are the same, and no core waits for another some hundred times a batch: a fifth more images a second on
    idle cores, twice as many where decoding or other programs share them.
    """
    with _threads_changing:
        threads = torch.get_num_threads()
        workers = min(threads, len(batch) // IMAGES_A_CORE)
        if workers < 2:
            return run(batch)
        torch.set_num_threads(threads // workers)
        try:
            with ThreadPoolExecutor(workers, thread_name_prefix="geovlm-encode") as pool:
                return torch.cat(list(pool.map(run, batch.tensor_split(workers))))
        finally:
            torch.set_num_threads(threads)


def copied_ahead(run: Callable[[Tensor], Tensor], pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Call `run` on parts of a batch, each copied to a CUDA device while those before it are computed.

    Only memory that is pinned can be copied beside the computing; torch keeps it for the next batch.
    """
    computing, copying = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    found = []
    for start in range(0, len(pixels), IMAGES_A_COPY):
        part = pixels[start : start + IMAGES_A_COPY]
        pinned = torch.empty(part.shape, dtype=torch.uint8, pin_memory=True)
        pinned.numpy()[...] = part
        with torch.cuda.stream(copying):
            there = pinned.to(device, non_blocking=True)
        computing.wait_stream(copying)
        there.record_stream(computing)  # its memory is not reused before the model has read it
        found.append(run(there))
    return torch.cat(found)
