"""The settings of a training run: values that are checked when they are made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from attrs import asdict, field, frozen

from geovlm.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from attrs import Attribute

LOSSES = ("infonce", "multi-positive")
PRECISIONS = ("auto", "bfloat16", "float32")
TOWERS = ("none", "image", "text")

# These change how a run is kept and how fast it is, not what comes out, so they may differ when a run goes on.
NOT_IN_MANIFEST = {"checkpoint_interval", "checkpoints_kept", "cache_bytes"}


def _number(low: float, high: float = math.inf, *, above: bool = False, hint: str = "") -> Any:
    """A finite number from `low` (or above it) to `high`; the hint says which value is usual."""

    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not real or value < low or value > high or (above and value == low):
            span = f"above {low:g}" if above else f"of at least {low:g}"
            span += "" if high == math.inf else f" and at most {high:g}"
            raise UsageError(f"{attribute.name} is a number {span}, not {value!r}. {hint}".rstrip())

    return check


def _whole(low: int, *, hint: str = "") -> Any:
    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise UsageError(f"{attribute.name} is a whole number of at least {low}, not {value!r}. {hint}".rstrip())

    return check


def _one_of(kind: str, names: tuple[str, ...]) -> Any:
    def check(_: Any, __: Attribute[Any], value: Any) -> None:
        if value not in names:
            raise UnknownName(kind, str(value), names)

    return check


def _optional(check: Any) -> Any:
    def check_if_given(instance: Any, attribute: Attribute[Any], value: Any) -> None:
        if value is not None:
            check(instance, attribute, value)

    return check_if_given


def _boolean(_: Any, attribute: Attribute[Any], value: Any) -> None:
    if not isinstance(value, bool):
        raise UsageError(f"{attribute.name} is True or False, not {value!r}.")


def _span(_: Any, attribute: Attribute[Any], value: Any) -> None:
    try:
        low, high = value
        fits = 0 < low <= high <= 1
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise UsageError(
            f"{attribute.name} is the smallest and the largest share of the area, such as (0.5, 1.0), not {value!r}."
        )


def _two_betas(_: Any, attribute: Attribute[Any], value: Any) -> None:
    if len(value) != 2 or not all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in value):
        raise UsageError(f"{attribute.name} are two numbers from 0 to below 1, such as (0.9, 0.98), not {value!r}.")


@frozen(kw_only=True)
class Augmentation:
    """How a training pair is changed each time it is seen; suited to views from above, which have no up.

    Args:
        rotate: Turn by 0, 90, 180 or 270 degrees, all equally likely.
        flip: Mirror with probability one half.
        crop: Smallest and largest share of the area that a random crop keeps; `(1.0, 1.0)` does not crop.
        color: Strength of random changes of brightness, contrast and saturation: with 0.4 each is multiplied by a
            factor between 0.6 and 1.4. 0 leaves colours alone, which tell vegetation from soil.
        words: Share of the words of a caption that are left out at random, so that few captions are not learnt by
            heart; one word always stays. Of use when training from scratch on a small set.

    Examples:
        >>> Augmentation(crop=(0.7, 1.0))
        Augmentation(rotate=True, flip=True, crop=(0.7, 1.0), color=0.0, words=0.0)
        >>> Augmentation(crop=(0.0, 2.0))
        Traceback (most recent call last):
        ...
        geovlm.errors.UsageError: crop is the smallest and the largest share of the area, such as (0.5, 1.0), ...
    """

    rotate: bool = field(default=True, validator=_boolean)
    flip: bool = field(default=True, validator=_boolean)
    crop: tuple[float, float] = field(default=(0.5, 1.0), validator=_span)
    color: float = field(default=0.0, validator=_number(0, 1))
    words: float = field(default=0.0, validator=_number(0, 0.9))

    @classmethod
    def off(cls) -> Augmentation:
        """Images as the encoder sees them when it is used."""
        return cls(rotate=False, flip=False, crop=(1.0, 1.0))


@frozen(kw_only=True)
class TrainingConfig:
    """The settings of `ContrastiveTrainer`. The defaults are for tuning a trained encoder on its own kind of imagery.

    Args:
        epochs: How many times every image is seen.
        batch_size: Pairs in a step, at most; a set is cut into batches of nearly equal size.
        learning_rate: The peak of the schedule. Trained encoders are tuned with 1e-6 to 1e-4, models from scratch
            with about 1e-3.
        weight_decay: Decoupled decay (Loshchilov and Hutter 2019) of matrices; biases, norms and the logit scale
            are left alone.
        warmup: Linear warm-up before the cosine: a share of all steps when below 1, else a number of steps.
        betas: AdamW's averaging factors; those of CLIP (Radford et al. 2021).
        epsilon: AdamW's floor of the denominator.
        max_grad_norm: Longer gradients are scaled down to this norm; `None` leaves them.
        precision: `"bfloat16"` computes under autocast with float32 weights, `"float32"` does not; `"auto"` takes
            bfloat16 where the device has instructions for it.
        freeze: The tower that stays as it is: `"image"`, `"text"` (locked-image tuning, Zhai et al. 2022) or `"none"`.
        loss: `"multi-positive"` takes equal captions in one batch as positives of each other (after SupCon, Khosla
            et al. 2020); `"infonce"` is CLIP's loss, to which they are negatives. With no caption twice in a batch
            both are the same.
        label_smoothing: Share of the target that is spread over the whole batch.
        augmentation: How images are changed.
        average: Decay of an exponential moving average of the weights, such as 0.999, which is then what is
            validated and returned; `None` for no averaging.
        patience: Stop when the mean recall on the validation pairs has not risen for so many epochs.
        checkpoint_interval: Steps between checkpoints; `None` paces them so that writing takes at most about 5 % of the
            time.
        checkpoints_kept: The newest so many stay on disk.
        cache_bytes: Decoded images are kept in memory where all of them fit into so many bytes.
        seed: Of order, captions, augmentation and dropout.

    Examples:
        >>> TrainingConfig(epochs=10, learning_rate=5e-5).loss
        'multi-positive'
        >>> TrainingConfig(freeze="txt")
        Traceback (most recent call last):
        ...
        geovlm.errors.UnknownName: No tower is called 'txt'. Did you mean text?
    """

    epochs: int = field(default=5, validator=_whole(1))
    batch_size: int = field(default=128, validator=_whole(2, hint="A contrastive loss compares pairs with each other."))
    learning_rate: float = field(
        default=1e-5, validator=_number(0, 1, above=True, hint="1e-5 suits a trained encoder.")
    )
    weight_decay: float = field(default=0.1, validator=_number(0))
    warmup: float = field(default=0.05, validator=_number(0))
    betas: tuple[float, float] = field(default=(0.9, 0.98), converter=tuple, validator=_two_betas)
    epsilon: float = field(default=1e-6, validator=_number(0, above=True))
    max_grad_norm: float | None = field(default=1.0, validator=_optional(_number(0, above=True)))
    precision: Literal["auto", "bfloat16", "float32"] = field(
        default="auto", validator=_one_of("training precision", PRECISIONS)
    )
    freeze: Literal["none", "image", "text"] = field(default="none", validator=_one_of("tower", TOWERS))
    loss: Literal["infonce", "multi-positive"] = field(default="multi-positive", validator=_one_of("loss", LOSSES))
    label_smoothing: float = field(default=0.0, validator=_number(0, 0.5))
    augmentation: Augmentation = field(factory=Augmentation)
    average: float | None = field(default=None, validator=_optional(_number(0, 0.999999, above=True)))
    patience: int | None = field(default=None, validator=_optional(_whole(1)))
    checkpoint_interval: int | None = field(default=None, validator=_optional(_whole(1)))
    checkpoints_kept: int = field(default=2, validator=_whole(1))
    cache_bytes: int = field(default=1 << 30, validator=_whole(0))
    seed: int = field(default=0, validator=_whole(0))

    @augmentation.validator
    def _check_augmentation(self, _: Attribute[Any], value: Any) -> None:
        if not isinstance(value, Augmentation):
            raise UsageError(f"augmentation is an Augmentation, such as Augmentation.off(), not {value!r}.")

    def __attrs_post_init__(self) -> None:
        if self.warmup >= 1 and self.warmup != int(self.warmup):
            raise UsageError(f"warmup is a share of the steps below 1 or a whole number of steps, not {self.warmup}.")

    def for_manifest(self) -> dict[str, Any]:
        """What decides the result, JSON-like."""
        plain = asdict(self, value_serializer=lambda _, __, value: list(value) if isinstance(value, tuple) else value)
        return {name: value for name, value in plain.items() if name not in NOT_IN_MANIFEST}
