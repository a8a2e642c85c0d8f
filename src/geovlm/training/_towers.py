"""Both towers of an encoder as one module that learns: precision, dropout, frozen parts, and their random numbers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from attrs import define, field
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.modules.batchnorm import _BatchNorm

from geovlm.errors import UsageError
from geovlm.training.layers import tower_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from geovlm.encoders._torch import TorchEncoder
    from geovlm.training._ranks import Ranks
    from geovlm.training.config import TrainingConfig

TOWERS = ("image", "text")


@define(kw_only=True, eq=False)
class Part:
    """Pairs that go through the towers at once.

    Args:
        pixels: uint8 `(n, size, size, 3)`.
        texts: One for each.
        seed: Of dropout; the same numbers are drawn each time this part goes through.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    texts: Sequence[str]
    seed: tuple[int, ...]
    tokens: Any = None


class Towers(nn.Module):
    """From pairs to vectors, as training needs it.

    Args:
        encoder: A float32 copy, which is trained.
        config: The settings.
        dtype: What autocast computes in, or `None`.
    """

    def __init__(self, encoder: TorchEncoder, config: TrainingConfig, *, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.model: Any = encoder.model
        self.trained = [tower for tower in TOWERS if tower != config.freeze]
        self._encoder, self._dtype = encoder, dtype
        for name, parameter in self.model.named_parameters():
            if tower_of(name) == config.freeze:
                parameter.requires_grad_(requires_grad=False)
        if config.gradient_checkpointing:
            _checkpoint(self.model)
        self._compiled: dict[str, Callable[[Any], Tensor]] = {}
        if config.compile:
            self._compiled = {
                "image": torch.compile(encoder.image_features),
                "text": torch.compile(encoder.text_features),
            }

    def train(self, mode: bool = True) -> Towers:
        """Training mode, but for a frozen tower: it works as in use, without dropout or new batch statistics."""
        super().train(mode)
        for name, module in self.model.named_modules():
            if tower_of(name) not in {*self.trained, None}:
                module.training = False
        return self

    def forward(
        self, part: Part, towers: Iterable[str] = TOWERS, *, ready: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Vectors `(n, dim)` by tower: float32, L2-normalised; differentiable for a tower that is trained.

        Args:
            part: The pairs.
            towers: Those that are wanted.
            ready: What an earlier call has returned: it is returned again, so that a wrapper takes note of it.
        """
        if ready is not None:
            return ready
        device = next(self.model.parameters()).device
        with seeded(part.seed, device):
            return {tower: self._vectors(tower, part, device) for tower in towers}

    def _vectors(self, tower: str, part: Part, device: torch.device) -> Tensor:
        learns = tower in self.trained and torch.is_grad_enabled()
        # One context a pass: autocast keeps the weights that it has cast, without a gradient if there was none then.
        autocast = torch.autocast(device.type, dtype=self._dtype, enabled=self._dtype is not None)
        with torch.set_grad_enabled(learns), autocast:
            features = self._features(tower, part, device)
        return normalize(features.float(), dim=-1)

    def _features(self, tower: str, part: Part, device: torch.device) -> Tensor:
        if tower == "image":
            pixels = self._encoder.normalize_pixels(torch.from_numpy(part.pixels).to(device))
            return self._compiled.get(tower, self._encoder.image_features)(pixels)
        if part.tokens is None:  # made here, while a GPU is busy with the images
            tokens = self._encoder.tokenize(part.texts)
            # Compiled code would be made again for each length.
            part.tokens = tokens if self._compiled else self._encoder.shorten(tokens)
        return self._compiled.get(tower, self._encoder.text_features)(part.tokens)


def _checkpoint(model: Any) -> None:
    how = {"use_reentrant": False}
    if hasattr(model, "set_grad_checkpointing"):
        model.set_grad_checkpointing(True)
    elif hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(how)
    elif hasattr(model, "gradient_checkpointing_enable"):  # its name in older versions of transformers
        model.gradient_checkpointing_enable(how)
    else:
        raise UsageError(
            f"A {type(model).__name__} cannot compute its activations again; leave gradient_checkpointing out, and set"
            " a smaller micro_batch_size."
        )


@contextmanager
def seeded(seed: Sequence[int], device: torch.device) -> Iterator[None]:
    """Random numbers that follow from the seed; the caller's generators are left as they were.

    Not by `torch.manual_seed`, which would also seed devices that are not in use here.
    """
    number = int(np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)[0])
    gpus = []
    if device.type == "cuda":
        gpus = [torch.cuda.current_device() if device.index is None else device.index]
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(number)
        for gpu in gpus:
            torch.cuda.default_generators[gpu].manual_seed(number)
        yield


class Statistics:
    """The running means and variances of batch norms, which forward passes change behind the optimiser's back."""

    def __init__(self, model: nn.Module) -> None:
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self._buffers = [buffer for norm in norms for buffer in norm.buffers()]

    def copy(self) -> list[Tensor]:
        """As they are now."""
        return [buffer.clone() for buffer in self._buffers]

    def restore(self, kept: list[Tensor]) -> None:
        """As they were."""
        for buffer, old in zip(self._buffers, kept, strict=True):
            buffer.copy_(old)

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Let forward passes leave no trace."""
        kept = self.copy()
        yield
        self.restore(kept)

    def average(self, ranks: Ranks, sizes: Sequence[int]) -> None:
        """Bring processes together, each counting by its pairs."""
        if ranks.count == 1:
            return
        for buffer in self._buffers:
            if buffer.is_floating_point():
                ranks.sum(buffer.mul_(sizes[ranks.index] / sum(sizes)))
