"""How many tokens an image costs, and how large it may be for a budget; exact, without the model or the network.

The rule is that of mistral-common's image encoder (`ImageEncoder`, tokenizers v3 and later): an image is scaled down
until no side is longer than the model's limit, cut into square cells, and each row of cells ends with one token more.
"""

from __future__ import annotations

from math import ceil

from attrs import field, frozen

from geovlm.errors import UsageError
from geovlm.pixtral._checks import whole

__all__ = ["PIXTRAL_GRID", "VisionGrid"]

FEWEST_TOKENS = 2  # one cell and the end of its row


@frozen(kw_only=True)
class VisionGrid:
    """How a model cuts images into tokens.

    Args:
        patch: Side of a patch in pixels: 16 for Pixtral, 14 for the models after it.
        merge: Patches along each side that make one token: 1 for Pixtral, 2 for the models after it.
        max_side: The longest side in pixels that the model looks at; longer images are scaled down.

    Examples:
        >>> VisionGrid().tokens(300, 300), VisionGrid().tokens(1024, 1024), VisionGrid().tokens(4000, 3000)
        (380, 4160, 3120)
    """

    patch: int = field(default=16, validator=whole(1))
    merge: int = field(default=1, validator=whole(1))
    max_side: int = field(default=1024, validator=whole(1))

    def tokens(self, width: int, height: int) -> int:
        """Tokens of an image of `width` × `height` pixels.

        Raises:
            UsageError: A side is shorter than one pixel.
        """
        return self._count(self.fit(width, height))

    def fit(self, width: int, height: int, *, max_tokens: int | None = None) -> tuple[int, int]:
        """The size in pixels that the model looks at, or the largest below it that costs at most `max_tokens`.

        The shape is kept and nothing is enlarged.

        Raises:
            UsageError: A side is shorter than one pixel, or no image is as cheap as that.

        Examples:
            >>> VisionGrid().fit(4000, 3000)
            (1024, 768)
            >>> VisionGrid().fit(4000, 3000, max_tokens=400)
            (352, 264)
        """
        if width < 1 or height < 1:
            raise UsageError(f"An image has at least one pixel, not {width}x{height}.")
        ratio = max(height / self.max_side, width / self.max_side)
        if ratio > 1:
            width, height = max(round(width / ratio), 1), max(round(height / ratio), 1)
        return (width, height) if max_tokens is None else self._within(width, height, max_tokens)

    def _within(self, width: int, height: int, max_tokens: int) -> tuple[int, int]:
        if max_tokens < FEWEST_TOKENS:
            raise UsageError(f"An image costs at least {FEWEST_TOKENS} tokens; max_tokens={max_tokens} has no room.")
        if self._count((width, height)) <= max_tokens:
            return width, height
        longest = max(width, height)

        def scaled(side: int) -> tuple[int, int]:
            return max(round(width * side / longest), 1), max(round(height * side / longest), 1)

        fits, too_long = 1, longest
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            fits, too_long = (middle, too_long) if self._count(scaled(middle)) <= max_tokens else (fits, middle)
        return scaled(fits)

    def _count(self, size: tuple[int, int]) -> int:
        side = self.patch * self.merge
        columns, rows = (ceil(length / side) for length in size)
        return (columns + 1) * rows


PIXTRAL_GRID = VisionGrid()
"""The grid of Pixtral 12B and Pixtral Large."""
