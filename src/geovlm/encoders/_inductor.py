"""Image towers compiled by torch itself, whose compiler fuses what lies between the matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from geovlm._torch import first_line
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def compiled(tower: Callable[[Tensor], Tensor], example: Tensor) -> Callable[[Tensor], Tensor]:
    """A function of a batch of any size, compiled now.

    Args:
        tower: From normalised NCHW pixels to features; its weights need no gradients.
        example: One picture, where and in which precision it is to compute.

    Raises:
        UsageError: The machine lacks what the compiler needs.
    """
    run = torch.compile(tower, dynamic=True)

    def features(pixels: Tensor) -> Tensor:
        # A batch of one would be compiled a second time, to save nothing.
        return run(pixels) if len(pixels) > 1 else run(pixels.expand(2, -1, -1, -1))[:1]

    try:
        with torch.inference_mode():
            features(example)
    except Exception as error:  # the compiler raises a dozen kinds, and those of the programs that it calls
        raise UsageError(
            f"torch.compile cannot compile this image tower here ({first_line(error)}). It needs a C++ compiler on a"
            " CPU and Triton on a GPU; load the encoder with backend='torch' to do without."
        ) from error
    return features
