"""Towers run by OpenVINO, on the cores of a CPU."""

from __future__ import annotations

import warnings
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import normalize

from geovlm._optional import require
from geovlm.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from numpy.typing import NDArray
    from torch import Tensor

    from geovlm.protocols import Vectors

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
# Fewer images than this cost a core more than sharing them out gains.
IMAGES_A_STREAM = 8


class OpenVinoImages:
    """What a function makes of uint8 pixels, converted for OpenVINO: one stream of work for each core.

    Args:
        embed: From uint8 NHWC pixels to features, by float32 weights on the CPU that need no gradients.
        side: Of the pictures, in pixels.
        dtype: The precision of the arithmetic.

    Raises:
        WeightsError: OpenVINO cannot convert the model.
    """

    def __init__(self, embed: Callable[[Tensor], Tensor], *, side: int, dtype: str) -> None:
        streams = torch.get_num_threads()
        example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
        compiled = _compile(embed, example, [-1, side, side, 3], dtype=dtype, streams=streams)
        self._requests = [compiled.create_infer_request() for _ in range(streams)]
        self._in_use = Lock()

    def __call__(self, pixels: NDArray[np.uint8]) -> Vectors:
        """Vectors float32 `(n, dim)`, L2-normalised, of one or more pictures: uint8 `(n, side, side, 3)`."""
        parts = np.array_split(pixels, max(1, min(len(self._requests), len(pixels) // IMAGES_A_STREAM)))
        with self._in_use:
            busy = list(zip(self._requests, parts, strict=False))
            for request, part in busy:
                request.start_async([np.ascontiguousarray(part)])
            for request, _ in busy:
                request.wait()
            return _unit(np.concatenate([request.get_output_tensor(0).data for request, _ in busy]))


class OpenVinoTexts:
    """What a function makes of tokens, converted for OpenVINO: all cores on the same few texts, as in a search.

    Args:
        embed: From token ids `(n, any length)` to features, by float32 weights on the CPU that need no gradients.
        dtype: The precision of the arithmetic.

    Raises:
        WeightsError: OpenVINO cannot convert the model.
    """

    def __init__(self, embed: Callable[[Tensor], Tensor], *, dtype: str) -> None:
        example = torch.zeros(2, 3, dtype=torch.int64)
        self._request = _compile(embed, example, [-1, -1], dtype=dtype, streams=1).create_infer_request()
        self._in_use = Lock()

    def __call__(self, tokens: Tensor) -> Vectors:
        """Vectors float32 `(n, dim)`, L2-normalised, of one or more texts."""
        with self._in_use:
            self._request.infer([tokens.numpy()])
            return _unit(np.array(self._request.get_output_tensor(0).data))


def _unit(features: NDArray[np.float32]) -> Vectors:
    vectors: Vectors = normalize(torch.from_numpy(features), dim=-1).numpy()
    return vectors


def check(device: str, dtype: str) -> None:
    """Whether an encoder on this device, in this precision, can compute by OpenVINO.

    Raises:
        UsageError: It cannot.
        MissingExtra: openvino is not installed.
    """
    if device != "cpu" or dtype not in PRECISIONS:
        raise UsageError(
            f"OpenVINO computes on the CPU in {' or '.join(PRECISIONS)}, and this encoder is on {device!r} in {dtype}:"
            " load it with device='cpu' and one of these dtypes, or with backend='torch'."
        )
    _library()


def _library() -> ModuleType:
    return require("openvino", extra="openvino", purpose="the back end 'openvino'")


def _compile(embed: Callable[[Tensor], Tensor], example: Tensor, shape: list[int], *, dtype: str, streams: int) -> Any:
    openvino = _library()
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    settings = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": streams,
        "ENABLE_CPU_PINNING": False,  # the cores are shared with those who decode
    }
    # What `openvino.convert_model` does, without the usage statistics that it sends.
    frontend = openvino.frontend.FrontEndManager().load_by_framework("pytorch")
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes that become constants here are constants
            decoder = TorchScriptPythonDecoder(torch.jit.trace(embed, example, check_trace=False))  # type: ignore[no-untyped-call]
        converted = frontend.convert(frontend.load(decoder))
        converted.reshape(shape)
        return openvino.Core().compile_model(converted, "CPU", settings)
    except Exception as error:  # the library raises what it likes for what it does not know
        raise WeightsError(
            f"OpenVINO cannot convert this tower ({str(error)[:200]}). Load it with backend='torch'."
        ) from error
