"""How models and records get to another process: without a GPU's memory, and without what only lives here."""

from __future__ import annotations

import copy
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from attrs import evolve, frozen

from geovlm.errors import ImageError
from geovlm.imaging import resolve
from geovlm.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def pack(records: Sequence[Record], dumps: Callable[[Any], bytes]) -> bytes:
    """Records as bytes.

    A picture goes as what it is: a path, encoded bytes, pixels, or a function that reads them where it arrives. A
    function that cannot travel is called here. A record that cannot travel even so arrives as one that cannot be read,
    with the reason, so that it is a failure like any other.
    """
    try:
        return dumps(list(records))
    except Exception:  # noqa: BLE001 - pickling runs code of the objects, which may raise anything
        return dumps([_portable(record, dumps) for record in records])


def _portable(record: Record, dumps: Callable[[Any], bytes]) -> Record:
    try:
        dumps(record)
    except Exception:  # noqa: BLE001 - the same
        return _resolved(record, dumps)
    return record


def _resolved(record: Record, dumps: Callable[[Any], bytes]) -> Record:
    try:
        here = evolve(record, image=None if record.image is None else resolve(record.image))
        dumps(here)
    except ImageError as error:
        return Record(id=record.id, image=partial(_fail, error.reason))
    except Exception as error:  # noqa: BLE001 - the same
        reason = f"the record cannot be sent to a worker ({type(error).__name__}: {error})"
        return Record(id=record.id, image=partial(_fail, reason))
    return here


def _fail(reason: str) -> NoReturn:
    raise ImageError(reason)


def pack_model(model: Any) -> Any:
    """What travels for a model: parts on torch in the memory of the CPU. The model itself stays as it is."""
    return _with_parts(model, _stow)


def unpack_model(model: Any, device: str) -> Any:
    """What `pack_model` made, as a model that computes on a device."""
    return _with_parts(model, partial(_place, device=device))


@frozen(kw_only=True)
class _Stowed:
    """An encoder with its exact weights, and how it is to compute where it arrives."""

    encoder: Any
    dtype: str
    backend: str

    def unpack(self, device: str) -> Any:
        here = self.encoder.device == device and self.encoder.dtype == self.dtype
        encoder = self.encoder if here else self.encoder.copy(device=device, dtype=self.dtype)
        return encoder if self.backend == encoder.backend else encoder.with_backend(self.backend)


def _with_parts(model: Any, change: Callable[[Any], Any]) -> Any:
    """A model changed, or a copy with changed attributes, or itself if there is nothing to change."""
    changed = change(model)
    if changed is not model:
        return changed
    parts = getattr(model, "__dict__", {})
    others = {name: change(part) for name, part in parts.items()}
    if all(others[name] is parts[name] for name in parts):
        return model
    twin = copy.copy(model)
    twin.__dict__.update(others)
    return twin


def _stow(part: Any) -> Any:
    encoders = sys.modules.get("geovlm.encoders._torch")
    if encoders is not None and isinstance(part, encoders.TorchEncoder):
        return _Stowed(encoder=part.copy(device="cpu"), dtype=part.dtype, backend=part.backend)
    return _place(part, "cpu")


def _place(part: Any, device: str) -> Any:
    if isinstance(part, _Stowed):
        return part.unpack(device)
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(part, torch.nn.Module):
        return part
    places = {str(tensor.device) for tensor in (*part.parameters(), *part.buffers())}
    return part if places <= {device} else copy.deepcopy(part).to(device)
