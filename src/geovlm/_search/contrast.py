"""How sure a hit is: a query beside other texts that could be said of the scene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geovlm import prompts
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geovlm.protocols import Vectors


def contrast_texts(against: bool | str | Sequence[str], query: str) -> tuple[str, ...]:
    """The texts that a query is held against, each once; none if it is held against nothing.

    Raises:
        UsageError: There is none, one is empty, or one is the query itself.

    Examples:
        >>> contrast_texts(["a forest", "a town"], "a vineyard"), contrast_texts(False, "a vineyard")
        (('a forest', 'a town'), ())
        >>> "a river" in contrast_texts(True, "a vineyard")
        True
    """
    if isinstance(against, bool):
        return prompts.contrast(query) if against else ()
    several = [against] if isinstance(against, str) else list(against)
    for text in several:
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"against takes texts of at least one word, not {text!r:.80}.")
        if _plain(text) == _plain(query):
            raise UsageError(f"{text!r} is the query itself; against names what else a scene may show.")
    if not several:
        raise UsageError("against needs at least one text; against=True takes common land covers.")
    return tuple(dict.fromkeys(several))


def probabilities(images: Vectors, texts: Vectors, scale: float) -> NDArray[np.float64]:
    """For each image the softmax of the first text's logit among those of all texts.

    For a model that was trained with a sigmoid (SigLIP) it is the probability of the first, given that exactly one
    of the texts is true; its logit bias is the same for all of them and cancels.

    Args:
        images: `(n, dim)`, L2-normalised.
        texts: `(t, dim)`, L2-normalised: the query, then what it is held against.
        scale: The encoder's logit scale.

    Returns:
        `(n,)`, from 0 to 1.

    Examples:
        >>> images = np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
        >>> probabilities(images, images[:2], 5.0).round(2).tolist()
        [0.99, 0.01, 0.27]
    """
    logits = scale * (images.astype(np.float64) @ texts.T)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    share: NDArray[np.float64] = shares[:, 0] / shares.sum(axis=1)
    return share


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
