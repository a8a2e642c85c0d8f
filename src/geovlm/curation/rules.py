"""What a caption must keep to."""

from __future__ import annotations

from attrs import field, frozen

from geovlm.errors import UsageError

__all__ = ["CurationRules"]


@frozen(kw_only=True)
class CurationRules:
    """What becomes of captions before training: what is cut out of them, and which are dropped.

    The text rules cost microseconds a caption. Those from `drop_share` on compare captions with their images, and need
    an encoder.

    Args:
        strip: Cut off openings that say nothing of the scene ("The image shows …"), and places that no pixel shows
            ("in Berlin, Germany", coordinates).
        min_words: Shorter captions are dropped.
        max_words: Longer captions are dropped; 60 words are about the 77 tokens that CLIP reads.
        language: Of captions of five words or more, as an ISO 639-1 code, told by py3langid; `None` takes all.
        copies: How many images may have the same caption, or one that differs in small words, order and endings only;
            further ones are dropped, those of the lowest score first. `None` keeps all: the duplicate-aware loss makes
            use of them.
        drop_share: The share of captions with the lowest score to drop, in each group of `group_by`.
        best: How many captions an image keeps, those with the highest score; `None` keeps all.
        rotations: Look at each image in four rotations, and hold it against a caption if they disagree: what is true of
            a scene from above is true whichever way it is turned. Four times the time of the images.
        group_by: A name in the metadata, such as the source or the ground sample distance class: `drop_share` is taken
            in each group, because scores of different sensors cannot be compared.
        per_group: How many images each group keeps, those with the highest score (without an encoder, the first).

    Raises:
        UsageError: A number cannot be right, or a rule lacks another that it needs.

    Examples:
        >>> CurationRules(drop_share=0.3, group_by="sensor").needs_scores
        True
    """

    strip: bool = True
    min_words: int = 2
    max_words: int = 60
    language: str | None = None
    copies: int | None = None
    drop_share: float = 0.0
    best: int | None = None
    rotations: bool = False
    group_by: str | None = None
    per_group: int | None = field(default=None)

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.min_words <= self.max_words:
            raise UsageError(f"Words need 1 <= min_words <= max_words, not {self.min_words} and {self.max_words}.")
        if not 0 <= self.drop_share < 1:
            raise UsageError(f"drop_share is a share of the captions from 0 to below 1, not {self.drop_share}.")
        for name in ("copies", "best", "per_group"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is at least 1, or None to keep all; not {value}.")
        if self.per_group is not None and self.group_by is None:
            raise UsageError("per_group needs group_by, the name in the metadata that makes the groups.")
        if self.rotations and not self.needs_scores:
            raise UsageError("rotations changes scores, and no rule uses one: set drop_share or best.")

    @property
    def needs_scores(self) -> bool:
        """Whether a rule compares captions with images."""
        return self.drop_share > 0 or self.best is not None
