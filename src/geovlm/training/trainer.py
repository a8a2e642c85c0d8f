"""The trainer: what is public of it."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from attrs import evolve

from geovlm._parts import Parts, read_manifest
from geovlm.errors import UsageError
from geovlm.training._ranks import Ranks
from geovlm.training.callbacks import Audience, MetricsFile
from geovlm.training.config import TrainingConfig
from geovlm.training.data import Pairs, batch_count, read_pairs
from geovlm.training.finish import finish
from geovlm.training.learner import resolve_precision
from geovlm.training.optimization import warmup_steps
from geovlm.training.result import KIND, METRICS, TrainingResult
from geovlm.training.run import Data, Run

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from geovlm.encoders._torch import TorchEncoder
    from geovlm.protocols import Encoder, ImageSource
    from geovlm.training.callbacks import Callback


class ContrastiveTrainer:
    """Fine-tunes a CLIP-style encoder on pairs of images and captions, in one process or many.

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
        self.encoder: TorchEncoder = _trainable(encoder)
        self.config: TrainingConfig = TrainingConfig() if config is None else config

    def fit(
        self,
        train: ImageSource,
        *,
        val: ImageSource | None = None,
        general: ImageSource | None = None,
        out: str | os.PathLike[str],
        callbacks: Sequence[Callback] = (),
        progress: bool | None = None,
    ) -> TrainingResult:
        """Train, or go on with a training that was stopped.

        Everything random follows from the seed, the epoch and the place of a record. A run that was killed goes on
        from its last checkpoint when the same call is repeated, and on a CPU ends with the same weights, bit for bit,
        as one that was not. A finished run is not repeated; its result is opened.

        In many processes (`torchrun`), each makes the same call: every batch is shared out among them, and the
        gradient is that of the whole batch. The first process writes and shows progress.

        Args:
            train: Images with captions; of several captions one is drawn each time. A `ShardSource` is streamed; of
                anything else, which is read once, ids and captions are kept in memory.
            val: Held-out pairs: they are scored before training and after every epoch, and the best epoch is returned.
            general: Pairs of other imagery, scored before and after, which tells what is forgotten.
            out: Directory for checkpoints, `metrics.jsonl`, `curves.png`, the manifest and the tuned encoder.
            callbacks: Who is told of each step and epoch; see `geovlm.training.callbacks`.
            progress: Show a bar; `None` decides by where the output goes.

        Raises:
            UsageError: A source is empty or has no captions; nothing was started.
            ConfigMismatch: The directory holds a run with other settings, another encoder or other data.
            RunLocked: Another process is training in this directory.
            TrainingDiverged: The loss is no longer a number.
            StorageError: The disk is full; the last checkpoint is intact.
        """
        started = time.monotonic()
        data = self._read(train, val, general)
        warmup_steps(self.config, self.config.epochs * batch_count(len(data.train), self.config))
        ranks, folder = Ranks.find(self.encoder.device), Path(out)
        parts = Parts(out, kind=KIND, config=self._manifest(data), about=self._about(data))
        audience = Audience([MetricsFile(folder / METRICS), *callbacks] if ranks.is_main else [])
        with parts.writing() if ranks.is_main else nullcontext():
            ready = ranks.is_main and (read_manifest(folder) or {}).get("state") == "complete"
            if ranks.broadcast(ready):
                return self._open(folder)
            run = Run(self.encoder, self.config, data, out=folder, ranks=ranks, audience=audience)
            run.train(progress)
            failures = run.all_failures()
            if ranks.is_main:
                finish(run, self.config, parts, failures=failures, out=folder)
            ranks.barrier()
        result = self._open(folder)
        done = evolve(result.data, done=result.data.skipped, skipped=0, seconds=time.monotonic() - started)
        return evolve(result, data=done)

    def _read(self, train: ImageSource, val: ImageSource | None, general: ImageSource | None) -> Data:
        held_out = {"val": val, "general": general}
        read = {
            name: None if source is None else Pairs.read(source, what=name, at_least=1)
            for name, source in held_out.items()
        }
        if val is None and (self.config.patience is not None or self.config.interpolation):
            setting = "interpolation" if self.config.interpolation else "patience"
            raise UsageError(f"{setting} needs held-out pairs to watch: give val= to fit(), or leave {setting} out.")
        pairs = read_pairs(train, what="train", at_least=2, positives=self.config.positives)
        return Data(train=pairs, held=read["val"], general=read["general"])

    def _open(self, out: Path) -> TrainingResult:
        return TrainingResult.open(out, device=self.encoder.device, dtype=self.encoder.dtype)

    def _manifest(self, data: Data) -> dict[str, Any]:
        """All that decides the result: a run that goes on with anything else would be a mix."""
        general = {} if data.general is None else {"general": data.general.fingerprint}
        return {
            **self.config.for_manifest(),
            **general,
            "precision": resolve_precision(self.config.precision, self.encoder.device),
            "encoder": self.encoder.fingerprint,
            "train": data.train.fingerprint,
            "val": None if data.held is None else data.held.fingerprint,
        }

    def _about(self, data: Data) -> dict[str, Any]:
        return {
            "base": self.encoder.name,
            "train_pairs": len(data.train),
            "val_pairs": 0 if data.held is None else len(data.held),
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
