"""The settings of a fine-tuning."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from attrs import asdict, field, frozen

from geovlm.errors import UnknownName, UsageError
from geovlm.pixtral._checks import number, whole

if TYPE_CHECKING:
    from attrs import Attribute

__all__ = ["FineTuningConfig"]

PRECISIONS = ("auto", "bfloat16", "float32")
PARTS = ("language", "all")
_SUFFIX = re.compile(r"[A-Za-z0-9_-]{1,18}")

# These change how a run is kept and where it goes, not what comes out, so they may differ when a run goes on.
NOT_IN_MANIFEST = {"device", "checkpoint_interval", "checkpoints_kept"}


def _one_of(kind: str, names: tuple[str, ...]) -> Any:
    def check(_: Any, __: Attribute[Any], value: Any) -> None:
        if value not in names:
            raise UnknownName(kind, str(value), names)

    return check


def _flag(_: Any, attribute: Attribute[Any], value: Any) -> None:
    if not isinstance(value, bool):
        raise UsageError(f"{attribute.name} is True or False, not {value!r}.")


def _device(_: Any, __: Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise UsageError(f"device is a name such as 'cuda:0', or None to choose, not {value!r}.")


def _above_zero(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if value is not None:
        number(0, above=True)(instance, attribute, value)


def _suffix(_: Any, __: Attribute[Any], value: Any) -> None:
    if value is not None and not (isinstance(value, str) and _SUFFIX.fullmatch(value)):
        raise UsageError(f"suffix is 1 to 18 letters, digits, '_' and '-', not {value!r:.60}.")


@frozen(kw_only=True)
class FineTuningConfig:
    """How a model is fine-tuned.

    A service takes `epochs`, `learning_rate`, `weight_decay`, `warmup` and `suffix`; the others are for local training.

    Args:
        epochs: How often each example is seen.
        learning_rate: The highest; it rises from 0 and falls to 0 along half a cosine.
        weight_decay: Of AdamW.
        warmup: Share of the steps in which the learning rate rises.
        suffix: What a hosted model's name has in it: 1 to 18 letters, digits, `_` and `-`.
        batch_size: Examples a step.
        micro_batch_size: Examples that are computed at once; the gradients of a step are summed over them.
        max_length: Tokens of an example, image included, above which it is a failure; nothing is ever cut.
        lora_rank: Rank of the adapters (LoRA, Hu et al. 2022, arXiv:2106.09685).
        lora_alpha: They are scaled by `lora_alpha / lora_rank`; `None` is twice the rank.
        lora_dropout: Share of the adapters' inputs that is left out at random.
        train: `"language"` puts adapters beside all linear layers in the blocks of the language model; `"all"` beside
            those of the vision tower and of the projector as well.
        max_grad_norm: Longer gradients are scaled to this length; `None` leaves them.
        precision: Of the frozen weights; adapters are float32. `"auto"` is bfloat16 where the device computes in it.
        gradient_checkpointing: Compute activations again in the backward pass: less memory, a third more time.
        device: `None` is that of a local client; else the first GPU, or the CPU if there is none.
        checkpoint_interval: Steps between checkpoints; `None` paces them so that writing takes at most about 5 % of the
            time.
        checkpoints_kept: The newest so many stay on disk.
        seed: Of the order, the adapters' first values, and dropout.

    Examples:
        >>> FineTuningConfig(epochs=3).learning_rate
        0.0001
        >>> FineTuningConfig(train="vison")
        Traceback (most recent call last):
        ...
        geovlm.errors.UnknownName: No part of the model is called 'vison'. Known: all, language.
    """

    epochs: int = field(default=2, validator=whole(1))
    learning_rate: float = field(default=1e-4, validator=number(0, 1, above=True))
    weight_decay: float = field(default=0.1, validator=number(0, 1))
    warmup: float = field(default=0.05, validator=number(0, 1))
    suffix: str | None = field(default=None, validator=_suffix)
    batch_size: int = field(default=8, validator=whole(1))
    micro_batch_size: int = field(default=1, validator=whole(1))
    max_length: int = field(default=8192, validator=whole(1))
    lora_rank: int = field(default=16, validator=whole(1))
    lora_alpha: float | None = field(default=None, validator=_above_zero)
    lora_dropout: float = field(default=0.0, validator=number(0, 0.9))
    train: Literal["language", "all"] = field(default="language", validator=_one_of("part of the model", PARTS))
    max_grad_norm: float | None = field(default=1.0, validator=_above_zero)
    precision: Literal["auto", "bfloat16", "float32"] = field(
        default="auto", validator=_one_of("training precision", PRECISIONS)
    )
    gradient_checkpointing: bool = field(default=False, validator=_flag)
    device: str | None = field(default=None, validator=_device)
    checkpoint_interval: int | None = field(default=None, validator=whole(1, optional=True))
    checkpoints_kept: int = field(default=2, validator=whole(1))
    seed: int = field(default=0, validator=whole(0))

    def for_manifest(self) -> dict[str, Any]:
        """What decides the result, JSON-like."""
        return {name: value for name, value in asdict(self).items() if name not in NOT_IN_MANIFEST}
