"""The trainer: what is public of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from attrs import evolve

from geovlm._parts import Parts, read_manifest
from geovlm.errors import UsageError
from geovlm.training.config import TrainingConfig
from geovlm.training.data import Pairs, batch_count
from geovlm.training.learner import resolve_precision
from geovlm.training.optimization import warmup_steps
from geovlm.training.result import KIND, TrainingResult
from geovlm.training.run import Run

if TYPE_CHECKING:
    import os

    from geovlm.encoders._torch import TorchEncoder
    from geovlm.protocols import Encoder, ImageSource


class ContrastiveTrainer:
    """Fine-tunes a CLIP-style encoder on pairs of images and captions, on one machine.

    The encoder that is given stays as it is; the tuned one is in the result and in `out / "encoder"`.

    Args:
        encoder: One of open_clip or transformers, from `load_encoder`.
        config: The settings; `None` for the defaults.

    Raises:
        UsageError: The encoder cannot be trained.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> from geovlm import Record, TrainingConfig, new_encoder
        >>> vision = {"image_size": 16, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16}
        >>> text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
        >>> encoder = new_encoder({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text})
        >>> squares = {name: Image.new("RGB", (16, 16), name) for name in ("red", "green", "blue")}
        >>> fields = [Record(id=name, image=square, captions=f"a {name} field") for name, square in squares.items()]
        >>> trainer = ContrastiveTrainer(encoder, TrainingConfig(epochs=4, learning_rate=1e-2))
        >>> with tempfile.TemporaryDirectory() as out:
        ...     result = trainer.fit(fields, val=fields, out=out)
        >>> result.data.done, len(result.history.to_pandas())
        (6, 5)
    """

    def __init__(self, encoder: Encoder, config: TrainingConfig | None = None) -> None:
        self.encoder = _trainable(encoder)
        self.config = TrainingConfig() if config is None else config

    def fit(
        self,
        train: ImageSource,
        *,
        val: ImageSource | None = None,
        out: str | os.PathLike[str],
        progress: bool | None = None,
    ) -> TrainingResult:
        """Train, or go on with a training that was stopped.

        Everything random follows from the seed, the epoch and the place of a record. A run that was killed goes on
        from its last checkpoint when the same call is repeated, and on a CPU ends with the same weights, bit for bit,
        as one that was not. A finished run is not repeated; its result is opened.

        Args:
            train: Images with captions; of several captions one is drawn each time. Read once; ids and captions are
                kept in memory.
            val: Held-out pairs: they are scored before training and after every epoch, and the best epoch is returned.
            out: Directory for checkpoints, the manifest and the tuned encoder.
            progress: Show a bar; `None` decides by where the output goes.

        Raises:
            UsageError: A source is empty or has no captions; nothing was started.
            ConfigMismatch: The directory holds a run with other settings, another encoder or other data.
            RunLocked: Another process is training in this directory.
            TrainingDiverged: The loss is no longer a number.
            StorageError: The disk is full; the last checkpoint is intact.
        """
        started = time.monotonic()
        pairs = Pairs.read(train, what="train", at_least=2)
        held = None if val is None else Pairs.read(val, what="val", at_least=1)
        if held is None and self.config.patience is not None:
            raise UsageError("patience needs held-out pairs to watch: give val= to fit(), or leave patience out.")
        warmup_steps(self.config, self.config.epochs * batch_count(len(pairs.records), self.config))
        where = {"device": self.encoder.device, "dtype": self.encoder.dtype}
        parts = Parts(out, kind=KIND, config=self._manifest(pairs, held))
        with parts.writing():
            if (read_manifest(Path(out)) or {}).get("state") == "complete":
                return TrainingResult.open(out, **where)
            run = Run(self.encoder, self.config, pairs, held, out=Path(out))
            run.train(progress)
            data = run.finish(parts)
        return evolve(TrainingResult.open(out, **where), data=evolve(data, seconds=time.monotonic() - started))

    def _manifest(self, pairs: Pairs, held: Pairs | None) -> dict[str, Any]:
        """All that decides the result: a run that goes on with anything else would be a mix."""
        return {
            **self.config.for_manifest(),
            "precision": resolve_precision(self.config.precision, self.encoder.device),
            "encoder": self.encoder.fingerprint,
            "train": pairs.fingerprint,
            "val": None if held is None else held.fingerprint,
        }


def _trainable(encoder: Encoder) -> TorchEncoder:
    needed = ("model", "tokenize", "image_features", "text_features", "normalize_pixels", "preprocess", "copy", "save")
    missing = [name for name in needed if not hasattr(encoder, name)]
    if missing:
        raise UsageError(
            f"A {type(encoder).__name__} cannot be trained (it has no {', '.join(missing)}); give an open_clip or"
            " transformers encoder from load_encoder()."
        )
    trainable = cast("TorchEncoder", encoder)
    if getattr(trainable.model, "logit_scale", None) is None:
        raise UsageError(f"{encoder.name} cannot be trained: its model has no learnable logit_scale.")
    return trainable
