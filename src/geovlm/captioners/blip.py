"""Captions by BLIP and BLIP-2, through Hugging Face transformers."""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import asdict

from geovlm._files import digest, must_exist, read_json
from geovlm._optional import require
from geovlm._torch import loading_quietly, pick_device, pick_dtype
from geovlm.captioners.options import GenerationOptions
from geovlm.captioners.presets import PRESETS
from geovlm.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL import Image

    from geovlm.records import Record

__all__ = ["BlipCaptioner", "GenerationOptions", "load_blip"]

MODELS = {"blip": "BlipForConditionalGeneration", "blip-2": "Blip2ForConditionalGeneration"}
HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
# Settings that change the captions of the same weights; the rest shows in the tensors' shapes.
ARCHITECTURE = {
    *("model_type", "num_attention_heads", "num_heads", "hidden_act", "activation_function", "feed_forward_proj"),
    *("layer_norm_eps", "layer_norm_epsilon", "bos_token_id", "eos_token_id", "sep_token_id", "pad_token_id"),
}
PREPROCESSING = {
    *("do_resize", "size", "resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
}


class BlipCaptioner:
    """Writes captions with a BLIP or BLIP-2 model.

    BLIP (Li et al. 2022, arXiv 2201.12086) is a vision transformer with a text decoder that looks at it. BLIP-2 (Li et
    al. 2023, arXiv 2301.12597) puts a small querying transformer between a frozen vision model and a frozen language
    model, OPT or FLAN-T5.

    A batch has one prompt and so no padding before generation: a greedy or beam-search caption does not depend on the
    other images of its batch, but for rounding. Sampling is seeded for each batch from `options.seed` and the id of the
    first record, and leaves torch's own random state as it was; the same batches give the same captions.

    Args:
        model: A `BlipForConditionalGeneration` or `Blip2ForConditionalGeneration`, where it is to run.
        processor: Its processor, or anything with an `image_processor` and a `tokenizer`.
        name: For reading.
        options: How captions are generated.

    Examples:
        >>> captioner = load_blip("my-blip")  # doctest: +SKIP
        >>> captioner.caption([Record(id="1")], [image])  # doctest: +SKIP
        [('a harbor with many ships',)]
    """

    silence = "nothing to say: the model wrote an empty caption"
    """Why a record gets no caption."""

    def __init__(self, model: Any, processor: Any, *, name: str, options: GenerationOptions | None = None) -> None:
        self.name = name
        self.options: GenerationOptions = options or GenerationOptions()
        self._model, self._tokenizer, self._images = model, processor.tokenizer, processor.image_processor
        self._is_blip2 = model.config.model_type == "blip-2"
        if self._is_blip2 and model.config.image_token_id is None:
            # Saved before transformers 4.46. The embeddings at this token are replaced by those of the image, so any
            # token will do that is in no prompt.
            model.config.image_token_id = self._tokenizer.pad_token_id
        self._decoder.generation_config.max_length = None

    def __repr__(self) -> str:
        return f"BlipCaptioner({self.name!r}, {self._model.vision_model.dtype}, {self._model.device})"

    @property
    def image_size(self) -> int:
        """Side in pixels of the model's input; decoders may stop at this size."""
        side = self._model.config.vision_config.image_size
        return int(side if isinstance(side, int) else max(side))

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the weights, their precision, the preprocessing, the tokenizer and the options."""
        import torch

        weights = hashlib.sha256()
        for key, tensor in sorted(self._model.state_dict().items()):
            weights.update(key.encode())
            weights.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        preprocessing = self._images.to_dict()
        parts = {
            "weights": weights.hexdigest(),
            "architecture": _architecture(self._model.config.to_dict()),
            "preprocessing": {key: repr(preprocessing.get(key)) for key in sorted(PREPROCESSING)},
            "vocabulary": self._tokenizer.get_vocab(),
            "options": asdict(self.options),
        }
        return digest(parts)

    def caption(self, records: Sequence[Record], images: Sequence[Image.Image]) -> list[tuple[str, ...]]:
        """Write captions for a batch of RGB images of any size.

        Returns:
            For each image up to `options.num_captions` different captions, without the prompt, white space folded; an
            empty tuple where the model wrote nothing.
        """
        import torch

        if not images:
            return []
        pixels = self._images(list(images), return_tensors="pt")["pixel_values"]
        with torch.inference_mode(), _seeded(digest([self.options.seed, records[0].id])):
            tokens = self._generate(pixels.to(self._model.device, self._model.vision_model.dtype))
        texts = [" ".join(text.split()) for text in self._tokenizer.batch_decode(tokens, skip_special_tokens=True)]
        each = self.options.num_captions
        groups = (texts[start : start + each] for start in range(0, len(texts), each))
        return [tuple(dict.fromkeys(text for text in group if text)) for group in groups]

    @property
    def _decoder(self) -> Any:
        return self._model.language_model if self._is_blip2 else self._model.text_decoder

    def _generate(self, pixels: Any) -> Any:
        """Token ids `(images * num_captions, length)` of what comes after the prompt."""
        import torch

        start, hidden = self._prompt
        ids = torch.tensor([start] * len(pixels), device=pixels.device)
        tokens = self._model.generate(
            pixel_values=pixels, input_ids=ids, attention_mask=torch.ones_like(ids), **_arguments(self.options)
        )
        return tokens[:, hidden:]

    @cached_property
    def _prompt(self) -> tuple[list[int], int]:
        """The ids to start from, and how many of them the model repeats before its own."""
        config = self._model.config
        words = self._tokenizer(self.options.prompt, add_special_tokens=False).input_ids
        text = config.text_config
        if not self._is_blip2:  # BLIP takes off the last one itself
            return [text.bos_token_id, *words, text.sep_token_id], 1 + len(words)
        image = [config.image_token_id] * config.num_query_tokens
        if text.is_encoder_decoder:
            return [*image, *words, text.eos_token_id], 0
        return [*image, text.bos_token_id, *words], len(image) + 1 + len(words)


def load_blip(
    name: str, *, device: str | None = None, dtype: str | None = None, options: GenerationOptions | None = None
) -> BlipCaptioner:
    """Load a BLIP or BLIP-2 captioner; see `geovlm.load_captioner`.

    Args:
        name: A preset's name, a folder as `save_pretrained` writes it, or `hf:` and a hub id.
        device: Where it runs.
        dtype: In which precision.
        options: How captions are generated.

    Raises:
        UsageError: The folder does not exist, or holds no such model.
        WeightsError: The weights cannot be found or fetched, or parts of the model are missing in them.
    """
    transformers = require("transformers", extra="transformers", purpose="BLIP and BLIP-2")
    target = pick_device(device)
    precision = pick_dtype(dtype, target)
    place = _place(name)
    config = _read_config(place, transformers)
    kind = MODELS.get(config.get("model_type", ""))
    if kind is None:
        raise UsageError(
            f"{place} holds a model of type {config.get('model_type')!r}; a captioner is of type 'blip' or 'blip-2'."
        )
    try:
        with loading_quietly():
            model, found = getattr(transformers, kind).from_pretrained(place, dtype=precision, output_loading_info=True)
            processor = transformers.AutoProcessor.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # the libraries raise a dozen kinds on missing and broken files
        raise WeightsError(f"{place} could not be loaded as {kind}: {error}") from error
    _check_whole(model, processor, found["missing_keys"], place)
    if kind == MODELS["blip"]:
        from geovlm.captioners._blip_attention import quicken

        quicken(model)
    return BlipCaptioner(model.to(target).eval(), processor, name=name, options=options)


def _check_whole(model: Any, processor: Any, missing: set[str], place: str) -> None:
    """Transformers makes up weights and vocabularies that it does not find; captions would be noise."""
    if missing:
        raise WeightsError(f"{place} lacks {len(missing)} of the model's tensors, such as {min(missing)}.")
    known, needed = len(processor.tokenizer), model.config.text_config.vocab_size
    if known < needed / 2:
        raise WeightsError(
            f"{place} has no vocabulary: its tokenizer knows {known} tokens, its model {needed}. Put the tokenizer's"
            " files beside the weights."
        )


def _place(name: str) -> str:
    if name in PRESETS:
        return PRESETS[name].hub_id
    if name.startswith("hf:"):
        return name.removeprefix("hf:")
    folder = Path(name).expanduser()
    if not folder.exists() and HUB_ID.fullmatch(name):
        raise UsageError(f"There is no folder {name}. For a model on the Hugging Face hub write 'hf:{name}'.")
    must_exist(folder)
    if not (folder / "config.json").is_file():
        raise UsageError(f"{name} has no config.json; give the folder that `save_pretrained` or `hf download` wrote.")
    return str(folder)


def _read_config(place: str, transformers: Any) -> dict[str, Any]:
    local = Path(place) / "config.json"
    if local.is_file():
        config: dict[str, Any] = read_json(local)
        return config
    try:
        config, _ = transformers.PreTrainedConfig.get_config_dict(place)
    except OSError as error:
        reason, _, _ = str(error).partition("\n")
        raise WeightsError(
            f"The weights of {place} are not on this machine and could not be fetched. Where there is a network:"
            f" `hf download {place} --local-dir FOLDER`; then load_captioner('FOLDER'). ({reason})"
        ) from error
    return config


def _arguments(options: GenerationOptions) -> dict[str, Any]:
    """What transformers calls them; those of sampling only where they count, as it warns about the rest."""
    arguments: dict[str, Any] = {
        "max_new_tokens": options.max_new_tokens,
        "num_beams": options.num_beams,
        "num_return_sequences": options.num_captions,
        "do_sample": options.do_sample,
    }
    if options.do_sample:
        arguments |= {"temperature": options.temperature, "top_p": options.top_p, "top_k": 0}
    return arguments


def _architecture(config: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _architecture(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key in ARCHITECTURE or isinstance(value, dict)
    }


@contextmanager
def _seeded(key: str) -> Iterator[None]:
    """Random numbers that depend on 16 hex digits alone; outside, torch's own go on as if none had been drawn."""
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(int(key, 16))
        yield
