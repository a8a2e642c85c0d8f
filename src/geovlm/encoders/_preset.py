"""What is known of a published encoder."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import field, frozen

from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geovlm.encoders._probe import Probe

HUB = "https://huggingface.co/"

Colour: TypeAlias = tuple[float, float, float]
Activation: TypeAlias = Literal["gelu", "quick_gelu", "gelu_tanh"]
Format: TypeAlias = Literal["checkpoint", "open_clip", "transformers"]

CLIP_MEAN: Colour = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Colour = (0.26862954, 0.26130258, 0.27577711)
HALF: Colour = (0.5, 0.5, 0.5)


@frozen(kw_only=True)
class Preset:
    """A published model.

    Args:
        architecture: The open_clip architecture that the weights were trained with, activation included: the names that
            end in `-quickgelu` have the same weights as those that do not, and give other vectors. For the format
            `"transformers"`: the type of the model, `"clip"` or `"siglip"`.
        activation: What it computes between the layers of its transformers.
        url: Where the weights are: a checkpoint, a zip with one in it, or the page of a model on the Hugging Face hub.
        format: `"checkpoint"` is a file that open_clip's training wrote, or only its weights; `"open_clip"` and
            `"transformers"` are models of the Hugging Face hub in the format of that library.
        tag: What open_clip calls these weights, where it knows them.
        image_size: Side in pixels of the model's input.
        mean: Of red, green and blue, on the scale 0 to 1.
        std: Of red, green and blue, on the scale 0 to 1.
        interpolation: How pictures are scaled.
        resize_mode: `"shortest"` scales the shorter side and cuts the middle out, `"squash"` ignores the shape.
        trained_on: The pairs that it learned from.
        gsd: Ground sample distances in metres that it was trained on, from the finest to the coarsest, where known.
        templates: The prompt templates to use with it, a name in `geovlm.prompts.TEMPLATES`: those it was evaluated
            with, where known.
        licence: Of the weights, as their page says; that of the code where it does not.
        paper: The arXiv number; empty where there is none.
        scores: Published zero-shot accuracy in percent, by data set. Scores of two sources are not comparable: prompts
            and splits differ.
        scores_from: Who published them.
        sha256: Of the file at `url`, where it was published.
        probe: Known vectors, which are compared on loading.
        note: What else to know before using it.

    Raises:
        UsageError: The activation is not that of the architecture, or a name is unknown.
    """

    architecture: str
    activation: Activation
    url: str
    format: Format = "checkpoint"
    tag: str | None = None
    image_size: int = 224
    mean: Colour = CLIP_MEAN
    std: Colour = CLIP_STD
    interpolation: str = "bicubic"
    resize_mode: Literal["shortest", "squash"] = "shortest"
    trained_on: str
    gsd: tuple[float, float] | None = None
    templates: str = "ensemble"
    licence: str
    paper: str
    scores: Mapping[str, float] = field(factory=dict)
    scores_from: str = ""
    sha256: str | None = None
    probe: Probe | None = None
    note: str = ""

    def __attrs_post_init__(self) -> None:
        if self.format not in ("checkpoint", "open_clip", "transformers"):
            raise UsageError(f"format is 'checkpoint', 'open_clip' or 'transformers', not {self.format!r}.")
        if self.activation not in ("gelu", "quick_gelu", "gelu_tanh"):
            raise UsageError(f"activation is 'gelu', 'quick_gelu' or 'gelu_tanh', not {self.activation!r}.")
        if self.format != "transformers" and self.architecture.endswith("quickgelu") != (
            self.activation == "quick_gelu"
        ):
            raise UsageError(f"{self.architecture!r} does not compute {self.activation!r}; '-quickgelu' decides.")

    @property
    def stem(self) -> str:
        """The name under which the weights are published, by which a local copy is recognised."""
        name = PurePosixPath(self.url).name
        return name.removesuffix(PurePosixPath(name).suffix) if self.format == "checkpoint" else name

    @property
    def repo(self) -> str | None:
        """The id of the model on the Hugging Face hub; `None` where it is elsewhere."""
        return "/".join(self.url.removeprefix(HUB).split("/")[:2]) if self.url.startswith(HUB) else None

    @property
    def preprocess(self) -> dict[str, object]:
        """The preprocessing, in the words of open_clip."""
        names = ("mean", "std", "interpolation", "resize_mode")
        return {name: getattr(self, name) for name in names}
