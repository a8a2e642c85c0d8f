"""What is known of Mistral's vision models: data with a date, not code.

Model ids, prices and retirements change; they were read in Mistral's public documentation of `AS_OF`. A model that is
not in the table works as well: its id goes to the server as it is.
"""

from __future__ import annotations

import datetime as dt
import re

from attrs import frozen

from geovlm.pixtral.tokens import PIXTRAL_GRID, VisionGrid

__all__ = ["AS_OF", "BATCH_DISCOUNT", "MODELS", "ModelInfo", "Price", "find_model"]

AS_OF = dt.date(2026, 8, 21)
BATCH_DISCOUNT = 0.5


@frozen(kw_only=True)
class Price:
    """List price in US dollars per million tokens.

    Args:
        prompt: Of tokens that are read, images among them.
        completion: Of tokens that are written.

    Examples:
        >>> Price(prompt=0.15, completion=0.15).of(prompt_tokens=1_000_000, completion_tokens=0, batch=True)
        0.075
    """

    prompt: float
    completion: float

    def of(self, *, prompt_tokens: int, completion_tokens: int, batch: bool = False) -> float:
        """The cost in US dollars; `batch` jobs cost half."""
        full = (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6
        return full * BATCH_DISCOUNT if batch else full


@frozen(kw_only=True)
class ModelInfo:
    """One model.

    Args:
        id: The dated name.
        aliases: Other names of it.
        grid: How it cuts images into tokens.
        structured: Whether it keeps to a JSON schema.
        price: At Mistral's own service; `None` where it is not known.
        deprecated: The day from which its end was announced.
        retired: The day after which Mistral's own service answers 404; a server of one's own may serve it for ever.
        replacement: What Mistral names in its place.

    Examples:
        >>> info = ModelInfo(id="my-model", aliases=("my-model-latest",), structured=True)
        >>> info.structured, info.retired
        (True, None)
    """

    id: str
    aliases: tuple[str, ...] = ()
    grid: VisionGrid = PIXTRAL_GRID
    structured: bool = False
    price: Price | None = None
    deprecated: dt.date | None = None
    retired: dt.date | None = None
    replacement: str | None = None


# Patches of 14 pixels, two by two in one token. The documentation tells 1540 pixels for all of these but Small 4,
# of which it says nothing.
_NEWER = VisionGrid(patch=14, merge=2, max_side=1540)


def _newer(name: str, prompt: float, completion: float, *aliases: str) -> ModelInfo:
    price = Price(prompt=prompt, completion=completion)
    return ModelInfo(id=name, aliases=aliases, grid=_NEWER, structured=True, price=price)


MODELS: tuple[ModelInfo, ...] = (
    ModelInfo(
        id="pixtral-12b-2409",
        aliases=("pixtral-12b", "pixtral-12b-latest"),
        price=Price(prompt=0.15, completion=0.15),
        deprecated=dt.date(2025, 12, 2),
        retired=dt.date(2025, 12, 31),
        replacement="ministral-14b-2512",
    ),
    ModelInfo(
        id="pixtral-large-2411",
        aliases=("pixtral-large-latest",),
        deprecated=dt.date(2026, 2, 27),
        retired=dt.date(2026, 5, 31),
        replacement="mistral-medium-3-5",
    ),
    ModelInfo(id="mistral-small-2506", grid=_NEWER, structured=True, retired=dt.date(2026, 7, 31)),
    _newer("ministral-3b-2512", 0.10, 0.10, "ministral-3b-latest"),
    _newer("ministral-8b-2512", 0.15, 0.15, "ministral-8b-latest"),
    _newer("ministral-14b-2512", 0.20, 0.20, "ministral-14b-latest"),
    _newer("mistral-small-2603", 0.15, 0.60, "mistral-small-latest"),
    _newer("mistral-medium-3-5", 1.50, 7.50, "mistral-medium-latest"),
    _newer("mistral-large-2512", 0.50, 1.50, "mistral-large-latest"),
)

_BY_NAME = {name: model for model in MODELS for name in (model.id, *model.aliases)}
_TUNED = re.compile(r"ft:([^:]+):")


def find_model(name: str) -> ModelInfo | None:
    """The model of a name, an alias, a hub id or the name of a fine-tuned model; `None` if the table has none.

    Args:
        name: What a client is given as its model.

    Examples:
        >>> find_model("ft:pixtral-12b-latest:d3417809:20250709:7ddb123c").id
        'pixtral-12b-2409'
        >>> find_model("mistralai/Pixtral-12B-2409").grid.patch
        16
        >>> find_model("my-own-model")
    """
    tuned = _TUNED.match(name)
    base = tuned.group(1) if tuned else name.rpartition("/")[2]
    return _BY_NAME.get(base.lower())
