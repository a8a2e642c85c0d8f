"""What the back ends on torch share: batches, precision, the fingerprint, copies for training."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from abc import ABC, abstractmethod
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import normalize

from geovlm._torch import pick_device, pick_dtype
from geovlm.encoders._devices import IMAGES_A_CORE, copied_ahead, on_cores
from geovlm.encoders._memory import BatchLimit, images_that_fit
from geovlm.encoders._probe import write_probe
from geovlm.errors import StorageError, UnknownName, UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from geovlm.encoders._class_token import ClassTokenVit
    from geovlm.encoders._dense_vit import DenseTower
    from geovlm.encoders._openvino import OpenVinoImages, OpenVinoTexts
    from geovlm.encoders._preprocessing import Preprocessing
    from geovlm.protocols import Vectors

Tokens: TypeAlias = "Tensor | dict[str, Tensor]"

# Enough for the matrix products to run at full speed, little enough to keep activations small.
IMAGES_A_BATCH = 64
TEXTS_A_BATCH = 256
BACKENDS = ("torch", "openvino", "inductor")


class _NotDense(UsageError, AttributeError):
    """As an `AttributeError`, it makes `hasattr` say no."""


class TorchEncoder(ABC):
    """A CLIP-style model of open_clip or transformers as an `Encoder`.

    The weights are kept in float32, whatever the precision of the arithmetic: with another `dtype`, a second copy in
    that precision computes. So a copy for training starts from the exact weights, saving loses nothing, and the
    fingerprint does not depend on the machine.

    Args:
        model: The library's model, in float32.
        name: For reading.
        dim: Length of a vector.
        preprocessing: How pictures are prepared.
        config: What decides the vectors beside the weights (architecture, activation), JSON-like.
        device: Where it computes; `None` takes a GPU if there is one.
        dtype: The precision of the arithmetic; `None` takes the fastest that the device computes in.

    Attributes:
        model: The library's model with the float32 weights. Change it only on a `copy()` in float32.
        device: Where it computes, such as `"cuda:0"`.
        dtype: The precision of the arithmetic, such as `"bfloat16"`.
        backend: What computes vectors: `"torch"`, or what `with_backend` was asked for.
    """

    backend = "torch"

    def __init__(
        self,
        model: nn.Module,
        *,
        name: str,
        dim: int,
        preprocessing: Preprocessing,
        config: dict[str, Any],
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.name = name
        self.dim = dim
        self.preprocessing = preprocessing
        self._config = config
        place = pick_device(device)
        self.device: str = str(place)
        self.dtype: str = str(pick_dtype(dtype, place)).removeprefix("torch.")
        self._adopt(model.eval())

    def _adopt(self, model: nn.Module) -> None:
        self.model: Any = model.to(self.device if self.dtype == "float32" else "cpu")
        self._fingerprint: tuple[object, str] | None = None
        self._forget_device()

    def _forget_device(self) -> None:
        self._fast: Any = None
        self._converted: OpenVinoImages | None = None
        self._converted_texts: OpenVinoTexts | None = None
        self._compiled: Callable[[Any, Tensor], Tensor] | None = None
        self._image_limit, self._text_limit = BatchLimit(), BatchLimit()
        self._fitting: int | None = None

    def __repr__(self) -> str:
        backend = "" if self.backend == "torch" else f", backend={self.backend!r}"
        return (
            f"{type(self).__name__}({self.name!r}, dim={self.dim}, device={self.device!r}, dtype={self.dtype!r}"
            f"{backend})"
        )

    # --- what a back end defines ---

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Texts as the model takes them, on the CPU; what is longer than its context is cut."""

    @abstractmethod
    def _embed_images(self, model: Any, pixels: Tensor) -> Tensor: ...

    @abstractmethod
    def _class_token_tower(self, model: Any) -> ClassTokenVit | None: ...

    @abstractmethod
    def _embed_texts(self, model: Any, tokens: Tokens) -> Tensor: ...

    def _short_reader(self, model: Any) -> Callable[[Tensor], Tensor] | None:  # noqa: ARG002 - for those who have one
        """What makes features of tokens `(n, any length)`, if other back ends can convert it."""
        return None

    @abstractmethod
    def _dense_tower(self, model: Any) -> DenseTower | None: ...

    @abstractmethod
    def _write(self, folder: Path) -> None: ...

    # --- the Encoder protocol ---

    @property
    def image_size(self) -> int:
        """Side in pixels of the model's input."""
        return self.preprocessing.size

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied by before a softmax or sigmoid over texts."""
        return float(self.model.logit_scale.detach().float().exp())

    @property
    def logit_bias(self) -> float | None:
        """What is added to the scaled cosines before a sigmoid; `None` for models of the softmax kind."""
        bias = getattr(self.model, "logit_bias", None)
        return None if bias is None else float(bias.detach())

    @property
    def fingerprint(self) -> str:
        """16 hex digits over the float32 weights, the architecture and the preprocessing.

        Device and precision do not count: vectors in bfloat16 and float32 may be compared.
        """
        state = _sample(self.model)
        if self._fingerprint is None or self._fingerprint[0] != state:
            self._fingerprint = (state, self._hash())
        return self._fingerprint[1]

    @property
    def batch_size_hint(self) -> int:
        """How many images to give `encode_pixels` at once: the most that pay and fit.

        On CUDA devices, the largest power of two, up to 1024, that fits in the memory that is free when it is first
        asked for, by a trial with a few images; after memory ran out, no more than fitted. Elsewhere 64, or more
        where there are cores for more.
        """
        if self._fitting is None:
            on_cpu = max(IMAGES_A_BATCH, IMAGES_A_CORE * torch.get_num_threads())
            self._fitting = self._try_batches() if self.device.startswith("cuda") else on_cpu
        return min(self._fitting, self._image_limit.most or self._fitting)

    def _try_batches(self) -> int:
        def run(number: int) -> object:
            return self.encode_pixels(np.zeros((number, self.image_size, self.image_size, 3), np.uint8))

        return images_that_fit(run, torch.device(self.device))

    @property
    def architecture(self) -> dict[str, Any]:
        """What decides the vectors beside the weights: `preprocessing` and `config`, JSON-like."""
        return {"preprocessing": self.preprocessing.to_json(), "config": _without_defaults(self._config)}

    def _hash(self) -> str:
        hasher = hashlib.sha256(json.dumps(self.architecture, sort_keys=True).encode())
        for key, tensor in sorted(self.model.state_dict().items()):
            hasher.update(f"{key}{list(tensor.shape)}".encode())
            hasher.update(tensor.float().cpu().contiguous().numpy())
        return hasher.hexdigest()[:16]

    def preprocess(self, image: Image.Image, *, size: int | None = None) -> NDArray[np.uint8]:
        """Resize and crop one picture: uint8 `(image_size, image_size, 3)`. Thread-safe.

        Args:
            image: Of any mode and size.
            size: Another side than the model's own, as augmentation wants it before it crops.
        """
        return self.preprocessing(image, size=size)

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Vectors:
        """Embed preprocessed pictures: uint8 `(n, image_size, image_size, 3)` to float32 `(n, dim)`, L2-normalised.

        Where a GPU's memory runs out, the batch is halved, and no larger one is tried from then on.

        Raises:
            UsageError: The shape or the type is another one, or not even one picture fits in the device's memory.
        """
        side = self.image_size
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (side, side, 3):
            raise UsageError(
                f"{self.name} takes uint8 pixels of shape (n, {side}, {side}, 3), as preprocess() makes them; not"
                f" {pixels.dtype} of shape {pixels.shape}."
            )
        if not len(pixels):
            return np.empty((0, self.dim), dtype=np.float32)
        if self.backend == "openvino":
            return self._in_openvino()(pixels)
        features = self._in_inductor() if self.backend == "inductor" else self._embed_pixels
        return self._image_limit.run(lambda part: self._run(features, part), pixels)

    def _embed_pixels(self, model: Any, pixels: Tensor) -> Tensor:
        return normalize(self._features(model, pixels).float(), dim=-1)

    def _features(self, model: Any, pixels: Tensor) -> Tensor:
        tower = self._class_token_tower(model)
        return self._embed_images(model, pixels) if tower is None else tower(pixels)

    def _in_inductor(self) -> Callable[[Any, Tensor], Tensor]:
        if self._compiled is None:
            from geovlm.encoders._inductor import compiled

            model, side = self._computing(), self.image_size
            example = torch.zeros(1, 3, side, side, device=self.device, dtype=getattr(torch, self.dtype))
            run = compiled(self._class_token_tower(model) or partial(self._embed_images, model), example)
            self._compiled = lambda _, pixels: normalize(run(pixels).float(), dim=-1)
        return self._compiled

    def _in_openvino(self) -> OpenVinoImages:
        if self._converted is None:
            from geovlm.encoders._openvino import OpenVinoImages

            model = self._without_gradients()

            def whole(pixels: Tensor) -> Tensor:
                return self._features(model, self.normalize_pixels(pixels))

            self._converted = OpenVinoImages(whole, side=self.image_size, dtype=self.dtype)
        return self._converted

    def _texts_in_openvino(self) -> OpenVinoTexts | None:
        if self._converted_texts is None and self._short_reader(self.model) is not None:
            from geovlm.encoders._openvino import OpenVinoTexts

            read = self._short_reader(self._without_gradients())
            assert read is not None
            self._converted_texts = OpenVinoTexts(read, dtype=self.dtype)
        return self._converted_texts

    def _without_gradients(self) -> Any:
        """A copy of the float32 weights on the CPU, to be converted."""
        return _cast(self.model, "cpu", torch.float32)

    @property
    def patch_size(self) -> int:
        """Side in pixels of a place of `encode_dense`, at the model's input.

        Raises:
            UsageError: The image tower tells nothing of places; `geovlm.encoders.dense.is_dense` asks without an error.
        """
        return self._tower(self.model).patch_size

    def encode_dense(self, pixels: NDArray[np.uint8]) -> tuple[Vectors, NDArray[np.float32]]:
        """Embed prepared pictures and each of their patches, in one pass, in the space of `encode_texts`.

        How is told in `geovlm.encoders.dense`. The vectors of pictures are those of `encode_pixels`, where the size is
        the model's own; for other sizes the position embeddings are interpolated.

        Args:
            pixels: uint8 `(n, height, width, 3)`, both sides multiples of `patch_size`.

        Returns:
            float32 `(n, dim)` and float32 `(n, height / patch_size, width / patch_size, dim)`, both L2-normalised.

        Raises:
            UsageError: The shape or the type is another one, or the image tower tells nothing of places.
        """
        patch = self.patch_size
        sizes = pixels.shape[1:3]
        if pixels.dtype != np.uint8 or pixels.shape[3:] != (3,) or 0 in sizes or any(side % patch for side in sizes):
            raise UsageError(
                f"{self.name} takes uint8 pixels of shape (n, height, width, 3), height and width multiples of {patch};"
                f" not {pixels.dtype} of shape {pixels.shape}."
            )
        rows, columns = (side // patch for side in sizes)
        at_once = max(1, IMAGES_A_BATCH * self.image_size**2 // (sizes[0] * sizes[1]))
        vectors = np.empty((len(pixels), self.dim), dtype=np.float32)
        cells = np.empty((len(pixels), rows, columns, self.dim), dtype=np.float32)
        for start in range(0, len(pixels), at_once):
            part = slice(start, start + at_once)
            both = self._run(self._embed_densely, pixels[part])
            vectors[part], cells[part] = both[:, 0], both[:, 1:].reshape(-1, rows, columns, self.dim)
        return vectors, cells

    def _embed_densely(self, model: Any, pixels: Tensor) -> Tensor:
        """Vectors `(n, 1 + rows * columns, dim)`: of the picture, then of its patches."""
        image, places = self._tower(model)(pixels)
        return normalize(torch.cat([image.unsqueeze(1), places], dim=1).float(), dim=-1)

    def _tower(self, model: Any) -> DenseTower:
        tower = self._dense_tower(model)
        if tower is None:
            raise _NotDense(
                f"The image tower of {self.name} tells nothing of places: ViTs of CLIP and SigLIP, ResNets and"
                " ConvNeXts do."
            )
        return tower

    def _run(self, features: Callable[[Any, Tensor], Tensor], pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What a function of the model and of normalised pixels gives for uint8 NHWC ones."""
        with _in_use(self._computing()) as model:

            @torch.inference_mode()
            def run(part: Tensor) -> Tensor:
                return features(model, self.normalize_pixels(part).to(getattr(torch, self.dtype)))

            if self.device.startswith("cuda"):
                features_found = copied_ahead(run, pixels, torch.device(self.device))
            else:
                batch = torch.tensor(pixels, device=self.device)
                features_found = on_cores(run, batch) if self.device == "cpu" else run(batch)
            vectors: NDArray[np.float32] = features_found.cpu().numpy()
            return vectors

    def encode_images(self, images: Sequence[Image.Image]) -> Vectors:
        """Embed RGB pictures of any size: float32 `(len(images), dim)`, L2-normalised."""
        return self._in_batches(
            images, IMAGES_A_BATCH, lambda batch: self.encode_pixels(np.stack([self.preprocess(one) for one in batch]))
        )

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts as they are: float32 `(len(texts), dim)`, L2-normalised.

        What is longer than the model's context (77 tokens for CLIP, 64 for SigLIP) is cut.

        Raises:
            UsageError: A single string was given, or something that is not a string.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise UsageError("encode_texts takes a list of strings; for one text write encode_texts([text]).")
        return self._in_batches(texts, TEXTS_A_BATCH, lambda batch: self._text_limit.run(self._encode_batch, batch))

    def _encode_batch(self, texts: Sequence[str]) -> Vectors:
        tokens = self.shorten(self.tokenize(texts))
        converted = self._texts_in_openvino() if self.backend == "openvino" else None
        if converted is not None and isinstance(tokens, Tensor):
            return converted(tokens)
        with torch.inference_mode(), _in_use(self._computing()) as model:
            features = self._embed_texts(model, _to(tokens, self.device))
            vectors: Vectors = normalize(features.float(), dim=-1).cpu().numpy()
            return vectors

    def _in_batches(self, items: Sequence[Any], size: int, run: Callable[[Sequence[Any]], Vectors]) -> Vectors:
        parts = [run(items[start : start + size]) for start in range(0, len(items), size)]
        return np.concatenate(parts) if parts else np.empty((0, self.dim), dtype=np.float32)

    def _computing(self) -> Any:
        """The model that computes: the float32 one, or its copy in another precision."""
        if self.dtype == "float32":
            return self.model
        if self._fast is None:
            self._fast = _cast(self.model, self.device, getattr(torch, self.dtype))
        return self._fast

    # --- what training needs ---

    def normalize_pixels(self, pixels: Tensor) -> Tensor:
        """Uint8 NHWC pixels to the float32 NCHW that the model takes, on the device where they are."""
        mean, std = (
            torch.tensor(part, device=pixels.device) for part in (self.preprocessing.mean, self.preprocessing.std)
        )
        scale, shift = 1 / (255 * std), mean / std
        return pixels.permute(0, 3, 1, 2).float() * scale[:, None, None] - shift[:, None, None]

    def image_features(self, pixels: Tensor) -> Tensor:
        """Features `(n, dim)` of normalised NCHW pixels: of the float32 weights, differentiable, not L2-normalised."""
        return self._embed_images(self.model, pixels)

    def text_features(self, tokens: Tokens) -> Tensor:
        """Features `(n, dim)` of what `tokenize` gave: of the float32 weights, differentiable, not L2-normalised."""
        return self._embed_texts(self.model, _to(tokens, next(self.model.parameters()).device))

    def shorten(self, tokens: Tokens) -> Tokens:
        """What `tokenize` gave without the filling that no text of the batch needs, where features stay the same."""
        return tokens

    def copy(self, *, dtype: str = "float32", device: str | None = None) -> Self:
        """An encoder with its own weights, that computes in `dtype`; in float32 it can be trained.

        Args:
            dtype: The precision of its arithmetic.
            device: Where it computes; `None` is where this one does.
        """
        twin = copy.copy(self)
        if device is not None:
            twin.device = str(pick_device(device))
        twin.dtype = str(pick_dtype(dtype, torch.device(twin.device))).removeprefix("torch.")
        twin.backend = "torch"
        twin._adopt(copy.deepcopy(self.model))  # noqa: SLF001 - of its own class
        return twin

    def with_backend(self, backend: str) -> Self:
        """An encoder with these weights, whose vectors are computed by another library; all else is as here.

        `"openvino"` is for the CPU, in float32 or bfloat16. It computes `encode_pixels`, and `encode_texts` for models
        of open_clip whose text tower is CLIP's: with ViT-B/32 a fifth to a third more images a second than torch, and a
        text in half the time, on an AMD EPYC with bfloat16 arithmetic. The first call converts the tower, some seconds'
        work, and takes memory for a second copy of its weights. A `copy()` computes in torch, as training needs it.

        `"inductor"` is `torch.compile`, for long runs of `encode_pixels` on a GPU: the first call takes a minute, so
        that it pays for hundreds of thousands of images. With ViT-B/32 on a CPU it is no faster than torch alone.

        Args:
            backend: `"torch"`, `"openvino"` or `"inductor"`.

        Raises:
            UnknownName: There is no such back end.
            UsageError: It does not compute on this device, or in this precision.
            MissingExtra: openvino is not installed.
        """
        if backend not in BACKENDS:
            raise UnknownName("back end", backend, BACKENDS)
        if backend == "openvino":
            from geovlm.encoders._openvino import check

            check(self.device, self.dtype)
        twin = copy.copy(self)
        twin.backend = backend
        return twin

    def on_device(self, device: str) -> Self:
        """An encoder that computes elsewhere in the same precision, and shares the float32 weights where it can."""
        if self.dtype == "float32":
            return self.copy(device=device)
        twin = copy.copy(self)
        twin.device = str(pick_device(device))
        twin._forget_device()  # noqa: SLF001 - of its own class
        return twin

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a folder that `load_encoder` reads again, in the back end's own format.

        Raises:
            StorageError: The disk is full, read-only or gone.
        """
        folder = Path(path)
        temporary = folder.with_name(f".{folder.name}.tmp")
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            self._write(temporary)
            write_probe(self, temporary)
            folder.mkdir(exist_ok=True)
            for file in temporary.iterdir():
                file.replace(folder / file.name)
        except (OSError, SafetensorError) as error:
            raise StorageError(f"{folder} could not be written ({error}).") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _to(tokens: Tokens, device: str | torch.device) -> Tokens:
    if isinstance(tokens, Tensor):
        return tokens.to(device)
    return {name: tensor.to(device) for name, tensor in tokens.items()}


def _cast(model: nn.Module, device: str, dtype: torch.dtype) -> nn.Module:
    """A copy in another precision, made tensor by tensor, so that no second float32 copy exists on the way."""
    cast: dict[int, Any] = {}
    for parameter in model.parameters():
        cast[id(parameter)] = nn.Parameter(parameter.detach().to(device, dtype), requires_grad=False)
    for buffer in model.buffers():
        cast[id(buffer)] = buffer.to(device, dtype if buffer.is_floating_point() else buffer.dtype, copy=True)
    return copy.deepcopy(model, cast).eval()


@contextmanager
def _in_use(model: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode for a while; each part that was training goes back to it."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield model
    finally:
        for module in training:
            module.training = True


def _sample(model: nn.Module) -> object:
    """A few of the weights of every tensor: what tells, in a millisecond, that a model was trained since."""
    tensors = [tensor.detach().flatten() for tensor in model.state_dict().values() if tensor.numel()]
    return torch.cat([tensor[:: max(1, len(tensor) // 16)].float().cpu() for tensor in tensors]).numpy().tobytes()


def _without_defaults(value: Any) -> Any:
    """A configuration without the settings that are off, which libraries write or leave out as they like."""
    if isinstance(value, dict):
        return {key: _without_defaults(item) for key, item in value.items() if item is not None and item is not False}
    return list(value) if isinstance(value, tuple) else value
