"""The local back end of `PixtralClient`: a model in a folder answers, by transformers."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

from geovlm.errors import RequestRefused, UsageError
from geovlm.pixtral._local_folder import LocalFolder, find_folder, is_local_model
from geovlm.pixtral._rendering import Renderer
from geovlm.pixtral.values import Answer, Usage

if TYPE_CHECKING:
    import os

    from geovlm.pixtral.tokens import VisionGrid
    from geovlm.pixtral.values import ChatRequest

__all__ = ["LocalModel", "is_local_model"]


class LocalModel:
    """Pixtral 12B (Llava), Ministral 3 or Mistral Small 3.x from a folder in the form of transformers.

    The weights are loaded when the first question is asked. One question is answered at a time.

    Args:
        path: A folder with a whole model, or one with an adapter that `fine_tune` made.
        device: `None` takes the first GPU, or the CPU if there is none.
        dtype: `"float32"`, `"bfloat16"` or `"float16"`; `None` takes the fastest that loses little.

    Raises:
        UsageError: There is no such model, or no such device.
        MissingExtra: transformers is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], *, device: str | None = None, dtype: str | None = None) -> None:
        from geovlm._optional import require
        from geovlm.pixtral._local_folder import EXTRA

        require("torch", extra=EXTRA, purpose="a local model")
        from geovlm._torch import pick_device, pick_dtype

        self.folder: LocalFolder = find_folder(path)
        self.device: Any = pick_device(device)
        self.dtype: Any = pick_dtype(dtype, self.device)
        self.renderer: Renderer = Renderer(self.folder.processor())
        self._lock = threading.RLock()
        self._model: Any = None

    @property
    def grid(self) -> VisionGrid:
        """How the model cuts images into tokens."""
        return self.renderer.grid

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the weights and their precision; reading them takes a while."""
        return f"{self.folder.fingerprint()}-{str(self.dtype).removeprefix('torch.')}"

    @property
    def model(self) -> Any:
        """The model itself; loaded now if it is not yet.

        Raises:
            WeightsError: The weights cannot be loaded.
        """
        with self._lock:
            if self._model is None:
                self._model = self.folder.weights(device=self.device, dtype=self.dtype)
            return self._model

    def release(self) -> None:
        """Let go of the weights; the next question loads them again."""
        with self._lock:
            self._model = None

    def complete(self, request: ChatRequest) -> Answer:
        """Answer a request.

        Raises:
            UsageError: It asks for a JSON schema, which is not kept to here, or the chat template does not take it.
            RequestRefused: It is longer than the model can read.
            WeightsError: The weights cannot be loaded.
        """
        if request.response_format is not None:
            raise UsageError("A local model does not keep to a JSON schema; leave structured= out.")
        ids, pixels = self.renderer.prompt(request.messages)
        with self._lock:
            written = self._generate(ids, pixels, request)
        stops = self._stops()
        finished = bool(written) and written[-1] in stops
        return Answer(
            text=self.renderer.decode(written),
            model=str(self.folder.path),
            usage=Usage(prompt_tokens=len(ids), completion_tokens=len(written)),
            finish_reason="stop" if finished else "length",
        )

    def _generate(self, ids: list[int], pixels: Any, request: ChatRequest) -> list[int]:
        import torch
        from transformers import GenerationConfig

        model = self.model
        most = model.config.get_text_config().max_position_embeddings
        if len(ids) + request.max_tokens > most:
            raise RequestRefused(
                f"The request has {len(ids)} tokens and asks for up to {request.max_tokens}; the model takes {most}"
                " together. Set image_tokens= or max_tokens= lower."
            )
        sampling = {"do_sample": True, "temperature": request.temperature, "top_k": 0, "top_p": 1.0}
        settings = GenerationConfig(
            max_new_tokens=request.max_tokens,
            eos_token_id=self._stops(),
            pad_token_id=self.renderer.filler,
            **(sampling if request.temperature else {"do_sample": False}),
        )
        inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        if pixels:
            inputs |= {"pixel_values": pixels["pixel_values"].to(self.dtype), "image_sizes": pixels["image_sizes"]}
        placed = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        with torch.inference_mode():
            whole = model.generate(**placed, generation_config=settings)
        written: list[int] = whole[0, len(ids) :].tolist()
        return written

    def _stops(self) -> list[int]:
        told = self.model.generation_config.eos_token_id
        known = [told] if isinstance(told, int) else list(told or [])
        own = self.renderer.tokenizer.eos_token_id
        return sorted({*known, *([] if own is None else [own])})
