"""Cutting rows into training, validation and test parts: seeded, of exact sizes, every class in every part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def split_rows(
    keys: Sequence[str], strata: Sequence[str | None], *, shares: Sequence[float], seed: int
) -> list[NDArray[np.intp]]:
    """Draw disjoint parts of the given shares; what remains is the last part.

    Rows of one key stay together. The sizes, in keys, are the rounded shares of all, but one at least, and each stratum
    is cut in proportion (largest remainders), but so that a stratum of two or more keys keeps one in the last part and
    has one in each drawn part, as far as there are enough.

    Args:
        keys: What a row is about; rows with equal keys never come into two parts.
        strata: The class of each row.
        shares: The share of each drawn part, each between 0 and 1, together less than 1.
        seed: Decides which rows go where.

    Returns:
        Row numbers in ascending order: a part for each share, then the rest.

    Raises:
        UsageError: There are too few keys for a part each.

    Examples:
        >>> [part.tolist() for part in split_rows(list("abcdef"), list("xxxyyy"), shares=[1 / 3], seed=0)]
        [[2, 3], [0, 1, 4, 5]]
    """
    group_of_row, _ = pd.factorize(np.asarray(keys, dtype=object))
    first_rows = np.unique(group_of_row, return_index=True)[1]
    sizes = [max(1, round(share * len(first_rows))) for share in shares]
    if sum(sizes) >= len(first_rows):
        raise UsageError(f"{len(first_rows)} images are too few to be split into parts of {sizes} and a rest.")
    classes, _ = pd.factorize(np.asarray(strata, dtype=object)[first_rows], use_na_sentinel=False)
    part_of_group = _assign(classes, sizes, seed)
    part_of_row = part_of_group[group_of_row]
    return [np.flatnonzero(part_of_row == part) for part in range(len(shares) + 1)]


def _assign(classes: NDArray[np.intp], sizes: Sequence[int], seed: int) -> NDArray[np.intp]:
    """The part of each member: `0 … len(sizes) - 1`, or `len(sizes)` for the rest."""
    order = np.random.default_rng(seed).permutation(len(classes))
    by_class = order[np.argsort(classes[order], kind="stable")]
    members = np.split(by_class, np.cumsum(np.bincount(classes))[:-1])
    parts = np.full(len(classes), len(sizes), dtype=np.intp)
    for part, size in enumerate(sizes):
        taken = apportion([len(group) for group in members], size)
        for name, count in enumerate(taken):
            parts[members[name][:count]] = part
            members[name] = members[name][count:]
    return parts


def apportion(counts: Sequence[int], total: int) -> list[int]:
    """Take `total` members in proportion to `counts`.

    Of a class of two or more, one at least is taken and one at least is left; a class of one is left whole. Where the
    total cannot be reached so, the largest classes come first, or more is taken.

    Examples:
        >>> apportion([80, 80, 3, 1], 16)
        [8, 7, 1, 0]
        >>> apportion([2, 2, 2], 2)
        [1, 1, 0]
    """
    most = np.maximum(np.asarray(counts) - 1, 0)
    if total > most.sum():
        most = np.asarray(counts)
    least = np.minimum(most, 1)
    if least.sum() > total:
        least = np.zeros_like(most)
        least[np.argsort(-most, kind="stable")[:total]] = 1
    wanted = total * np.asarray(counts) / max(sum(counts), 1)
    taken = np.clip(np.floor(wanted).astype(int), least, most)
    while (missing := total - int(taken.sum())) != 0:
        # One step for each class at most, those that are furthest from their share first.
        step = 1 if missing > 0 else -1
        able = np.flatnonzero(taken < most if step > 0 else taken > least)
        chosen = able[np.argsort(step * (taken - wanted)[able], kind="stable")[: abs(missing)]]
        taken[chosen] += step
    return [int(count) for count in taken]
