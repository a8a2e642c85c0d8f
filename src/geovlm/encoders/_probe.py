"""A few numbers that a model must give back: what tells, on loading, that it does not compute what was trained."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import asdict, field, frozen

from geovlm.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor, nn

    from geovlm.encoders._torch import TorchEncoder

__all__ = ["Probe", "check_folder", "check_probe", "record_probe", "write_probe"]

FILE = "probe.json"

TEXTS = ("a satellite photo of a harbour.", "farmland beside a river", "a dense residential area with a road")
# So many numbers of each vector, evenly spaced, are kept.
SHOWN = 16
DECIMALS = 4

# Relative errors. Rounding and other machines stay below the first; other weights, or another preprocessing, are above
# the second; between the two, the model is right unless another activation halves the error.
EXACT, TOLERABLE = 0.005, 0.1

# How the libraries call the two activations that fit the same weights.
QUICK, PLAIN = {"QuickGELU", "QuickGELUActivation"}, {"GELU", "GELUActivation"}


def _numbers(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(float(number) for number in values)


def _rows(values: Iterable[Any]) -> tuple[tuple[float, ...], ...]:
    return tuple(_numbers(row) for row in values)


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@frozen(kw_only=True)
class Probe:
    """Some numbers of the vectors that a model gives for some sentences, and for one picture.

    Args:
        texts: The sentences.
        vectors: For each of them, numbers of its L2-normalised vector, evenly spaced from the first on.
        image: The same for `probe_picture()`; empty where it is not known.
        source: Where the numbers come from.

    Raises:
        UsageError: The parts do not go together.

    Examples:
        >>> probe = Probe(texts=["a beach"], vectors=[[0.1, 0.2]], source="my training")
        >>> probe.texts
        ('a beach',)
    """

    texts: tuple[str, ...] = field(converter=_texts)
    vectors: tuple[tuple[float, ...], ...] = field(converter=_rows)
    image: tuple[float, ...] = field(default=(), converter=_numbers)
    source: str = "recorded"

    def __attrs_post_init__(self) -> None:
        if len(self.texts) != len(self.vectors) or not self.texts or not all(self.vectors):
            raise UsageError("A probe has one or more texts, and for each of them some numbers of its vector.")

    def to_json(self) -> dict[str, Any]:
        """All of it, as a mapping."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Probe:
        """What `to_json` gave.

        Raises:
            UsageError: It is something else.
        """
        try:
            return cls(**content)
        except (TypeError, ValueError) as error:
            raise UsageError(f"This is no probe ({error}).") from error


def probe_picture(side: int) -> Image.Image:
    """A smooth picture of `side * 5/4` by `side` pixels that is the same everywhere, made without random numbers."""
    from PIL import Image

    down, across = np.mgrid[0 : 1 : side * 1j, 0 : 1 : (side * 5 // 4) * 1j]
    waves = [np.sin(6 * across + 3 * down), np.cos(5 * down * across), np.sin(9 * down - 2 * across)]
    return Image.fromarray(np.stack([127.5 + 127.5 * wave for wave in waves], axis=-1).round().astype(np.uint8))


def record_probe(encoder: TorchEncoder) -> Probe:
    """Write down what an encoder gives, for `check_probe` to compare later; computed with its float32 weights.

    Args:
        encoder: Of open_clip or transformers, as `load_encoder` gives it.

    Examples:
        >>> vision = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
        >>> text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
        >>> from geovlm import new_encoder
        >>> encoder = new_encoder({"embed_dim": 32, "vision_cfg": vision, "text_cfg": text})
        >>> check_probe(encoder, record_probe(encoder))  # raises nothing: it is the same model
    """
    shown = min(SHOWN, encoder.dim)
    vectors = _text_vectors(encoder, TEXTS).astype(float).round(DECIMALS)
    image = _image_vector(encoder).astype(float).round(DECIMALS)
    return Probe(texts=TEXTS, vectors=[_spaced(row, shown) for row in vectors], image=_spaced(image, shown))


def check_probe(encoder: TorchEncoder, probe: Probe) -> None:
    """Compare an encoder with what is known of its weights.

    Args:
        encoder: Of open_clip or transformers, as `load_encoder` gives it.
        probe: What `record_probe` gave when the model was right.

    Raises:
        WeightsError: It computes something else; says whether another activation explains it.

    Examples:
        >>> from geovlm import new_encoder
        >>> vision = {"image_size": 16, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16}
        >>> text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
        >>> encoder = new_encoder({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text})
        >>> check_probe(encoder, record_probe(encoder))  # no error: it computes what it did
    """
    longest = max(len(numbers) for numbers in (*probe.vectors, probe.image))
    if longest > encoder.dim:
        raise WeightsError(
            f"{encoder.name} has vectors of {encoder.dim} numbers, and {longest} are known of these weights"
            f" ({probe.source}): they are of another model."
        )
    text_error = _text_error(encoder, probe)
    if text_error > EXACT:
        with _other_activation(encoder.model) as swapped:
            other_error = _text_error(encoder, probe) if swapped else np.inf
        if 2 * other_error < text_error:
            raise WeightsError(
                f"{encoder.name} computes the wrong activation: its vectors are {text_error:.0%} off what is known of"
                f" these weights ({probe.source}), and {other_error:.1%} with {swapped}. Load it with an architecture"
                " that has that activation ('-quickgelu' or not)."
            )
    if text_error > TOLERABLE:
        raise WeightsError(
            f"{encoder.name} gives other text vectors than what is known of these weights ({probe.source};"
            f" {text_error:.0%} off), whichever the activation: the weights or the tokenizer are of another model."
        )
    image_error = _error(_image_vector(encoder), probe.image) if probe.image else 0.0
    if image_error > TOLERABLE:
        raise WeightsError(
            f"{encoder.name} gives another image vector than what is known of these weights ({probe.source};"
            f" {image_error:.0%} off), though its text vectors are right: the preprocessing (mean, std, size) or the"
            " image tower is of another model."
        )


def write_probe(encoder: TorchEncoder, folder: Path) -> None:
    """Record a probe beside saved weights."""
    (folder / FILE).write_text(json.dumps(record_probe(encoder).to_json()), encoding="utf-8")


def check_folder(encoder: TorchEncoder, folder: Path) -> None:
    """Compare an encoder with the probe in its folder, where there is one.

    Raises:
        WeightsError: It computes something else, or the file is no probe.
    """
    file = folder / FILE
    if not file.exists():
        return
    try:
        check_probe(encoder, Probe.from_json(json.loads(file.read_text(encoding="utf-8"))))
    except (ValueError, WeightsError) as error:
        raise WeightsError(f"{error} If this folder was changed on purpose, remove {file}.") from error


def _text_error(encoder: TorchEncoder, probe: Probe) -> float:
    vectors = _text_vectors(encoder, probe.texts)
    return max(_error(vector, known) for vector, known in zip(vectors, probe.vectors, strict=True))


def _error(vector: NDArray[np.float32], known: tuple[float, ...]) -> float:
    expected = np.array(known)
    found = np.array(_spaced(vector, len(known)))
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def _spaced(vector: NDArray[Any], count: int) -> tuple[float, ...]:
    return tuple(vector[:: len(vector) // count][:count].tolist())


def _text_vectors(encoder: TorchEncoder, texts: Sequence[str]) -> NDArray[np.float32]:
    import torch

    from geovlm.encoders._torch import _in_use

    with torch.inference_mode(), _in_use(encoder.model):
        features = encoder.text_features(encoder.shorten(encoder.tokenize(texts)))
        vectors: NDArray[np.float32] = torch.nn.functional.normalize(features, dim=-1).cpu().numpy()
        return vectors


def _image_vector(encoder: TorchEncoder) -> NDArray[np.float32]:
    import torch

    from geovlm.encoders._torch import _in_use

    pixels = torch.tensor(encoder.preprocess(probe_picture(encoder.image_size))[None])
    with torch.inference_mode(), _in_use(encoder.model):
        place = next(encoder.model.parameters()).device
        features = encoder.image_features(encoder.normalize_pixels(pixels.to(place)))
        vector: NDArray[np.float32] = torch.nn.functional.normalize(features, dim=-1)[0].cpu().numpy()
        return vector


@contextmanager
def _other_activation(model: nn.Module) -> Iterator[str]:
    """The model with QuickGELU where it has GELU, or the other way round, for a while; yields the name of it."""
    import torch
    from torch.nn.functional import gelu

    def quick_gelu(x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)

    modules = [module for module in model.modules() if type(module).__name__ in QUICK | PLAIN]
    has_quick = any(type(module).__name__ in QUICK for module in modules)
    other = gelu if has_quick else quick_gelu
    hooks = [module.register_forward_hook(lambda _, given, __: other(given[0])) for module in modules]
    try:
        yield ("GELU" if has_quick else "QuickGELU") if modules else ""
    finally:
        for hook in hooks:
            hook.remove()
