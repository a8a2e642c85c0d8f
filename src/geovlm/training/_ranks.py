"""The processes of one run: torchrun or accelerate starts them, and each computes on a share of every batch."""

from __future__ import annotations

import atexit
import os
from datetime import timedelta
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from attrs import frozen
from torch import distributed

from geovlm._optional import require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

T = TypeVar("T")

# The others wait while the main process validates or saves, which takes longer than the usual ten minutes at times.
PATIENCE = timedelta(hours=2)


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


@frozen(kw_only=True)
class Ranks:
    """This process among those of the run; alone by default, and then everything here costs nothing.

    Every method but the properties is called by all processes, in the same order.

    Args:
        index: The number of this process, from 0.
        count: How many there are.
        device: Where this process computes.

    Examples:
        >>> ranks = Ranks(device="cpu")
        >>> ranks.is_main, ranks.sizes(3), ranks.gather(torch.ones(3, 2), [3]).shape
        (True, [3], torch.Size([3, 2]))
    """

    index: int = 0
    count: int = 1
    device: str

    @classmethod
    def find(cls, device: str) -> Ranks:
        """Join the processes that torchrun or accelerate launched, or stay alone where nobody did.

        Args:
            device: What one process would compute on. With several on one machine, each GPU gets one process.

        Raises:
            MissingExtra: There are several processes, and accelerate is not installed.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls(device=device)
        accelerate = require("accelerate", extra="train", purpose="training in several processes")
        state = accelerate.PartialState(cpu=torch.device(device).type == "cpu", timeout=PATIENCE)
        # Threads of the group that still run when the interpreter goes would abort a process that has done its work.
        atexit.register(_leave)
        own = device if state.device.type == "cpu" else str(state.device)
        return cls(index=state.process_index, count=state.num_processes, device=own)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.index == 0

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            self.collect(None)

    def broadcast(self, value: T) -> T:
        """What the main process has."""
        if self.count == 1:
            return value
        box: list[Any] = [value]
        distributed.broadcast_object_list(box, src=0, device=torch.device(self.device))
        found: T = box[0]
        return found

    def collect(self, value: T) -> list[T]:
        """The values of all processes, in their order."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        distributed.all_gather_object(found, value)
        return found

    def sizes(self, count: int) -> list[int]:
        """How many rows each process has."""
        mine = torch.zeros(self.count, dtype=torch.int64, device=self.device)
        mine[self.index] = count
        found: list[int] = self.sum(mine).tolist()
        return found

    def every(self, condition: bool) -> bool:
        """Whether something is true in every process."""
        return (self.count == 1 and condition) or sum(self.sizes(int(condition))) == self.count

    def sum(self, tensor: Tensor) -> Tensor:
        """Add up over processes, in place."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor

    def gather(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """The rows of all processes, in their order; some may have more than others, or none.

        Without a gradient: see `own`.

        Args:
            rows: Of this process.
            sizes: What `sizes` found.
        """
        if self.count == 1:
            return rows
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        found = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(found, padded)
        return torch.cat([part[:size] for part, size in zip(found, sizes, strict=True)])

    def rows(self, sizes: Sequence[int]) -> slice:
        """Where the rows of this process are among all."""
        start = sum(sizes[: self.index])
        return slice(start, start + sizes[self.index])

    def own(self, gradient: Tensor, sizes: Sequence[int]) -> Tensor:
        """The way back through `gather`: what all processes together say of the rows of this one.

        Args:
            gradient: Of this process's share of the loss, by the rows of all.
            sizes: What `sizes` found.
        """
        return self.sum(gradient)[self.rows(sizes)]

    def wrap(self, module: nn.Module) -> nn.Module:
        """Let the backward pass average the gradients of all processes, while it goes on.

        Parameters are taken from the main process. Buffers stay each process's own.
        """
        if self.count == 1:
            return module
        parallel = torch.nn.parallel.DistributedDataParallel
        # Its name from torch 2.13 on, and before.
        names = "forward_sync_buffers", "broadcast_buffers"
        sync = next(name for name in names if name in signature(parallel).parameters)
        # A tower may not be used, and CoCa's decoder never is. No buckets are rebuilt then, so nothing but the backward
        # pass communicates, and processes may take turns of forward passes that the others do not.
        settings: dict[str, Any] = {sync: False, "find_unused_parameters": True, "gradient_as_bucket_view": True}
        return parallel(module, **settings)
