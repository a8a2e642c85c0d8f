"""The settings of a training run: values that are checked when they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from attrs import asdict, field, frozen

from geovlm.errors import UsageError
from geovlm.training._validators import boolean, number, one_of, optional, span, text, two_betas, whole

if TYPE_CHECKING:
    from attrs import Attribute

LOSSES = ("infonce", "multi-positive", "sigmoid")
PRECISIONS = ("auto", "bfloat16", "float16", "float32")
TOWERS = ("none", "image", "text")
SAMPLINGS = ("shuffle", "balanced", "hard-negatives")

# These change how a run is kept and how fast it is, not what comes out, so they may differ when a run goes on.
NOT_IN_MANIFEST = {"checkpoint_interval", "checkpoints_kept", "cache_bytes"}


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

    rotate: bool = field(default=True, validator=boolean)
    flip: bool = field(default=True, validator=boolean)
    crop: tuple[float, float] = field(default=(0.5, 1.0), validator=span)
    color: float = field(default=0.0, validator=number(0, 1))
    words: float = field(default=0.0, validator=number(0, 0.9))

    @classmethod
    def off(cls) -> Augmentation:
        """Images as the encoder sees them when it is used."""
        return cls(rotate=False, flip=False, crop=(1.0, 1.0))


@frozen(kw_only=True)
class TrainingConfig:
    """The settings of `ContrastiveTrainer`. The defaults are for tuning a trained encoder on its own kind of imagery.

    Args:
        epochs: How many times every image is seen.
        batch_size: Pairs in a step, at most, over all processes; a set is cut into batches of nearly equal size.
        micro_batch_size: Pairs that go through the model at once. The gradient is that of the whole batch (cached
            gradients, Gao et al. 2021), at the cost of a second forward pass. `None` takes the whole batch, and on a
            GPU halves it whenever memory runs out.
        learning_rate: The peak of the schedule. Trained encoders are tuned with 1e-6 to 1e-4, models from scratch
            with about 1e-3.
        weight_decay: Decoupled decay (Loshchilov and Hutter 2019) of matrices; biases, norms and the logit scale
            are left alone.
        warmup: Linear warm-up before the cosine: a share of all steps when below 1, else a number of steps.
        betas: AdamW's averaging factors; those of CLIP (Radford et al. 2021).
        epsilon: AdamW's floor of the denominator.
        max_grad_norm: Longer gradients are scaled down to this norm; `None` leaves them.
        precision: `"bfloat16"` and `"float16"` compute under autocast with float32 weights, the latter with a scaled
            loss and on a GPU only; `"float32"` does not; `"auto"` takes bfloat16 where the device has instructions
            for it.
        freeze: The tower that stays as it is: `"image"`, `"text"` (locked-image tuning, Zhai et al. 2022) or `"none"`.
        lora_rank: Train adapters of this rank beside frozen weights (LoRA, Hu et al. 2022) instead of the weights;
            they are merged into the result. `None` trains the weights.
        lora_alpha: What adapters are scaled by, times `1 / lora_rank`; `None` is twice the rank.
        lora_dropout: Share of the adapters' inputs that is left out at random.
        layer_decay: Each layer further from a tower's output learns at its neighbour's rate times this, such as 0.8
            (Clark et al. 2020); 1 is one rate for all.
        interpolation: At the end, mix the tuned weights with those of the base (WiSE-FT, Wortsman et al. 2022) and
            return the mix that does best on the held-out pairs.
        loss: `"multi-positive"` takes equal captions in one batch as positives of each other (after SupCon, Khosla
            et al. 2020); `"infonce"` is CLIP's loss, to which they are negatives. With no caption twice in a batch
            both are the same. `"sigmoid"` asks of each image and text alone whether they belong together, equal
            captions among them (SigLIP, Zhai et al. 2023).
        positives: The name of a value (`"label"`, or a name in `Record.meta`); records with the same one are positives
            of each other too, except with `"infonce"`.
        sampling: `"shuffle"` sees each pair once an epoch; `"balanced"` draws from rare classes (`label`, or the first
            caption where there is none) as often as from frequent ones; `"hard-negatives"` puts pairs that the
            encoder finds alike into one batch.
        label_smoothing: Share of the target that is spread over the whole batch.
        augmentation: How images are changed.
        gradient_checkpointing: Compute activations again in the backward pass: less memory, a third more time.
        compile: Compile the towers by `torch.compile`; pays in long runs on a GPU.
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

    epochs: int = field(default=5, validator=whole(1))
    batch_size: int = field(default=128, validator=whole(2, hint="A contrastive loss compares pairs with each other."))
    micro_batch_size: int | None = field(default=None, validator=optional(whole(1)))
    learning_rate: float = field(default=1e-5, validator=number(0, 1, above=True, hint="1e-5 suits a trained encoder."))
    weight_decay: float = field(default=0.1, validator=number(0))
    warmup: float = field(default=0.05, validator=number(0))
    betas: tuple[float, float] = field(default=(0.9, 0.98), converter=tuple, validator=two_betas)
    epsilon: float = field(default=1e-6, validator=number(0, above=True))
    max_grad_norm: float | None = field(default=1.0, validator=optional(number(0, above=True)))
    precision: Literal["auto", "bfloat16", "float16", "float32"] = field(
        default="auto", validator=one_of("training precision", PRECISIONS)
    )
    freeze: Literal["none", "image", "text"] = field(default="none", validator=one_of("tower", TOWERS))
    lora_rank: int | None = field(default=None, validator=optional(whole(1)))
    lora_alpha: float | None = field(default=None, validator=optional(number(0, above=True)))
    lora_dropout: float = field(default=0.0, validator=number(0, 0.9))
    layer_decay: float = field(default=1.0, validator=number(0, 1, above=True))
    interpolation: bool = field(default=False, validator=boolean)
    loss: Literal["infonce", "multi-positive", "sigmoid"] = field(
        default="multi-positive", validator=one_of("loss", LOSSES)
    )
    positives: str | None = field(default=None, validator=optional(text))
    sampling: Literal["shuffle", "balanced", "hard-negatives"] = field(
        default="shuffle", validator=one_of("sampling", SAMPLINGS)
    )
    label_smoothing: float = field(default=0.0, validator=number(0, 0.5))
    augmentation: Augmentation = field(factory=Augmentation)
    gradient_checkpointing: bool = field(default=False, validator=boolean)
    compile: bool = field(default=False, validator=boolean)
    average: float | None = field(default=None, validator=optional(number(0, 0.999999, above=True)))
    patience: int | None = field(default=None, validator=optional(whole(1)))
    checkpoint_interval: int | None = field(default=None, validator=optional(whole(1)))
    checkpoints_kept: int = field(default=2, validator=whole(1))
    cache_bytes: int = field(default=1 << 30, validator=whole(0))
    seed: int = field(default=0, validator=whole(0))

    @augmentation.validator
    def _check_augmentation(self, _: Attribute[Any], value: Any) -> None:
        if not isinstance(value, Augmentation):
            raise UsageError(f"augmentation is an Augmentation, such as Augmentation.off(), not {value!r}.")

    def __attrs_post_init__(self) -> None:
        if self.loss == "sigmoid" and self.label_smoothing:
            raise UsageError("label_smoothing spreads the target of a softmax; loss='sigmoid' has none, leave it at 0.")
        if self.warmup >= 1 and self.warmup != int(self.warmup):
            raise UsageError(f"warmup is a share of the steps below 1 or a whole number of steps, not {self.warmup}.")

    def for_manifest(self) -> dict[str, Any]:
        """What decides the result, JSON-like."""
        plain = asdict(self, value_serializer=lambda _, __, value: list(value) if isinstance(value, tuple) else value)
        return {name: value for name, value in plain.items() if name not in NOT_IN_MANIFEST}
