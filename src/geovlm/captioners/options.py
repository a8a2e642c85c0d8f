"""How a model generates captions."""

from __future__ import annotations

from attrs import frozen

from geovlm.errors import UsageError

__all__ = ["GenerationOptions"]


@frozen(kw_only=True)
class GenerationOptions:
    """How a model generates captions: greedy by default, by beam search, or by sampling.

    BLIP's authors use beam search with 3 beams, those of BLIP-2 with 5. Nucleus sampling (Holtzman et al. 2020, arXiv
    1904.09751) is the usual choice for several different captions an image.

    Args:
        max_new_tokens: The longest caption, in tokens.
        num_beams: Beams of the search; 1 is greedy.
        do_sample: Draw tokens instead of taking the likeliest.
        temperature: Below 1 keeps to the likelier tokens; needs `do_sample`.
        top_p: Draw only from the likeliest tokens that make up this share of the probability; needs `do_sample`.
        num_captions: Captions an image; equal ones are given once. More than one needs `do_sample` or as many beams.
        seed: Of the sampling, together with the record's id.
        prompt: The beginning of every caption, such as `"a satellite image of"`, or a question for BLIP-2. The model
            goes on from it; it is not part of the caption.

    Raises:
        UsageError: A value is outside its range, or has no effect without `do_sample`.

    Examples:
        >>> GenerationOptions(num_beams=5, num_captions=3).num_captions
        3
        >>> GenerationOptions(num_captions=3)
        Traceback (most recent call last):
        ...
        geovlm.errors.UsageError: num_captions=3 needs do_sample=True, or num_beams of at least 3 (it is 1).
    """

    max_new_tokens: int = 30
    num_beams: int = 1
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    num_captions: int = 1
    seed: int = 0
    prompt: str = ""

    def __attrs_post_init__(self) -> None:
        for name in ("max_new_tokens", "num_beams", "num_captions"):
            if not isinstance(value := getattr(self, name), int) or value < 1:
                raise UsageError(f"{name} is a whole number of at least 1, not {value!r}.")
        for name in ("temperature", "top_p"):
            if not isinstance(value := getattr(self, name), int | float):
                raise UsageError(f"{name} is a number, not {value!r}.")
        if not self.temperature > 0:
            raise UsageError(
                f"temperature is more than 0, not {self.temperature!r}; for the likeliest caption leave do_sample out."
            )
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p is a share of the probability, more than 0 and at most 1, not {self.top_p!r}.")
        if not isinstance(self.prompt, str):
            raise UsageError(f"prompt is text, the same for all images, not {type(self.prompt).__name__}.")
        self._check_combination()

    def _check_combination(self) -> None:
        if not self.do_sample and (self.temperature, self.top_p) != (1.0, 1.0):
            raise UsageError("temperature and top_p change nothing without do_sample=True.")
        draws_each = self.do_sample and self.num_beams == 1
        if not draws_each and self.num_captions > self.num_beams:
            raise UsageError(
                f"num_captions={self.num_captions} needs do_sample=True, or num_beams of at least {self.num_captions}"
                f" (it is {self.num_beams})."
            )
