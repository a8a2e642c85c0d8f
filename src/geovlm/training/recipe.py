"""A training as a TOML file, for clusters: the same settings as the API."""

from __future__ import annotations

import inspect
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from attrs import field, frozen

from geovlm.errors import UnknownName, UsageError
from geovlm.training.config import Augmentation, TrainingConfig

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from geovlm.protocols import ImageSource
    from geovlm.training.callbacks import Callback
    from geovlm.training.result import TrainingResult

__all__ = ["Recipe"]

EXAMPLE = """\
encoder = "skyclip-vit-b-32"        # a preset, an open_clip architecture, a checkpoint or a folder
out = "runs/first"                  # the same command goes on with a run that was stopped

[train]                             # one of folder, table, shards, dataset, hub; then the arguments of that source
table = "captions.csv"
split = "train"

[val]
table = "captions.csv"
split = "val"

[config]                            # TrainingConfig
epochs = 5
batch_size = 256
learning_rate = 1e-5
lora_rank = 8

[config.augmentation]               # Augmentation
crop = [0.7, 1.0]

# [general]                         # pairs of other images, to see what is forgotten
# shards = "coco/{00000..00009}.tar"

# [tensorboard]
# folder = "runs/first/tensorboard"

# [wandb]
# project = "geovlm"
"""

PARTS = ("encoder", "out", "train", "val", "general", "config", "tensorboard", "wandb")
SOURCES = ("dataset", "folder", "hub", "shards", "table")


def _mapping(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, dict):
        raise UsageError(f"[{attribute.name}] is a table of settings, not {value!r:.80}.")


@frozen(kw_only=True)
class Recipe:
    """What a TOML file asks for; made by `read`, run by `run`.

    Args:
        encoder: What `load_encoder` takes.
        out: The directory of the run.
        train: A source: its kind and its arguments.
        val: The same for held-out pairs.
        general: The same for pairs that tell what is forgotten.
        config: The settings.
        tensorboard: Arguments of `TensorBoard`.
        wandb: Arguments of `WeightsAndBiases`.

    Examples:
        >>> Recipe.parse(EXAMPLE).config.lora_rank
        8
        >>> Recipe.parse(EXAMPLE.replace("learning_rate", "learningrate"))
        Traceback (most recent call last):
        ...
        geovlm.errors.UnknownName: No setting of [config] is called 'learningrate'. Did you mean learning_rate?
    """

    encoder: str
    out: str
    train: Mapping[str, Any] = field(validator=_mapping)
    val: Mapping[str, Any] | None = field(default=None, validator=_mapping)
    general: Mapping[str, Any] | None = field(default=None, validator=_mapping)
    config: TrainingConfig = field(factory=TrainingConfig)
    tensorboard: Mapping[str, Any] | None = field(default=None, validator=_mapping)
    wandb: Mapping[str, Any] | None = field(default=None, validator=_mapping)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a file.

        Raises:
            UsageError: There is none, it is not TOML, or a setting cannot be right; says which.
        """
        try:
            return cls.parse(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"The recipe {path} cannot be read ({error.strerror}).") from error

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Read TOML text.

        Raises:
            UsageError: As `read`.
        """
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"The recipe is not TOML: {error}") from error
        _check_names(values, PARTS, "part of a recipe")
        missing = [name for name in ("encoder", "out", "train") if name not in values]
        if missing:
            raise UsageError(f"The recipe says nothing of {', '.join(missing)}; --example shows a whole one.")
        return cls(**{**values, "config": _config(values.get("config", {}))})

    def run(self) -> TrainingResult:
        """Load, train, and return the result; goes on with a run that was stopped."""
        from geovlm.encoders import load_encoder
        from geovlm.training.trainer import ContrastiveTrainer

        trainer = ContrastiveTrainer(load_encoder(self.encoder), self.config)
        return trainer.fit(
            _source(self.train, "train"),
            val=None if self.val is None else _source(self.val, "val"),
            general=None if self.general is None else _source(self.general, "general"),
            out=self.out,
            callbacks=self._callbacks(),
        )

    def _callbacks(self) -> list[Callback]:
        from geovlm.training.callbacks import TensorBoard, WeightsAndBiases

        found: list[Callback] = []
        if self.tensorboard is not None:
            found.append(_call(TensorBoard, self.tensorboard, "tensorboard"))
        if self.wandb is not None:
            found.append(_call(WeightsAndBiases, self.wandb, "wandb"))
        return found


def _config(values: Any) -> TrainingConfig:
    settings = _settings(values, TrainingConfig, "config")
    if "augmentation" in settings:
        settings["augmentation"] = Augmentation(
            **_settings(settings["augmentation"], Augmentation, "config.augmentation")
        )
    return TrainingConfig(**settings)


def _settings(values: Any, kind: type[Any], part: str) -> dict[str, Any]:
    """Arguments of one of the classes of settings; TOML has lists where they have tuples."""
    if not isinstance(values, dict):
        raise UsageError(f"[{part}] is a table of settings, not {values!r:.80}.")
    _check_names(values, [item.name for item in attrs.fields(kind)], f"setting of [{part}]")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _source(values: Mapping[str, Any], part: str) -> ImageSource:
    kinds = [name for name in values if name in SOURCES]
    if len(kinds) != 1:
        raise UsageError(f"[{part}] names one source ({', '.join(SOURCES)}), not {', '.join(kinds) or 'none'}.")
    where = values[kinds[0]]
    others = {name: value for name, value in values.items() if name != kinds[0]}
    source: ImageSource = _call(_maker(kinds[0]), others, part, where)
    return source


def _maker(kind: str) -> Callable[..., Any]:
    import geovlm

    makers: dict[str, Callable[..., Any]] = {
        "dataset": geovlm.Dataset.open,
        "folder": geovlm.FolderSource,
        "hub": geovlm.HuggingFaceSource,
        "shards": geovlm.ShardSource,
        "table": geovlm.TableSource,
    }
    return makers[kind]


def _call(maker: Callable[..., Any], settings: Mapping[str, Any], part: str, *first: Any) -> Any:
    names = list(inspect.signature(maker).parameters)[len(first) :]
    _check_names(settings, names, f"setting of [{part}]")
    return maker(*first, **settings)


def _check_names(values: Mapping[str, Any], known: Any, kind: str) -> None:
    for name in values:
        if name not in known:
            raise UnknownName(kind, name, known)
