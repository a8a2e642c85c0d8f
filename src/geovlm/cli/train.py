"""`geovlm train`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import geovlm as gv
from geovlm.cli import options as o
from geovlm.cli.output import Result, as_page
from geovlm.cli.reports import report_values
from geovlm.cli.session import session_of
from geovlm.cli.sources import open_source
from geovlm.errors import UnknownName

if TYPE_CHECKING:
    from geovlm.protocols import ImageSource

RUN = Annotated[
    Path, typer.Argument(metavar="RUN", show_default=False, help="Folder for checkpoints and the tuned encoder.")
]
VAL = Annotated[str | None, typer.Option(help="Pairs to hold out: a share such as 0.1, or another source.")]
EPOCHS = Annotated[int | None, typer.Option(min=1, help="How many times every image is seen.")]
PAIRS_A_STEP = Annotated[int | None, typer.Option("--batch-size", min=2, help="Pairs in a step.")]
RATE = Annotated[float | None, typer.Option(help="Peak of the schedule.")]
RANK = Annotated[int | None, typer.Option(min=1, help="Train adapters of this rank (LoRA) beside frozen weights.")]
SEED = Annotated[int | None, typer.Option(min=0, help="Of the split, of order, captions and augmentation.")]
SETTINGS = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other setting of TrainingConfig, such as loss=sigmoid."),
]


def train(
    context: typer.Context,
    source: o.Source,
    run: RUN,
    *,
    val: VAL = None,
    epochs: EPOCHS = None,
    batch_size: PAIRS_A_STEP = None,
    learning_rate: RATE = None,
    lora_rank: RANK = None,
    seed: SEED = None,
    settings: SETTINGS = None,
    encoder: o.Encoder = o.DEFAULT_ENCODER,
    weights: o.Weights = None,
    architecture: o.Architecture = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    root: o.Root = None,
    split: o.Split = None,
    column: o.Column = None,
    format_: o.Format = None,
    out: o.Out = None,
) -> None:
    """Fine-tune an encoder on images with captions, and tell whether it is better.

    The report compares the encoder before and after, on the pairs that were held out. After an interrupt the same
    command goes on from the last checkpoint, and ends with the same weights.

    \b
    Examples:
      geovlm train pairs/ tuned/ --val 0.1
      geovlm train train.csv tuned/ --val val.csv --epochs 10 --lora-rank 8
      geovlm train pairs/ tuned/ --val 0.1 --set loss=sigmoid --set warmup=0.1
      geovlm index photos/ photos.index --encoder tuned/encoder
    """  # noqa: D301 - \b keeps lines apart
    session = session_of(context)
    config = gv.TrainingConfig(
        **_settings(
            settings, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, lora_rank=lora_rank, seed=seed
        )
    )
    pairs = open_source(source, root=root, split=split, columns=column)
    kept, held_out = _held_out(pairs, val, seed=config.seed)
    loaded = gv.load_encoder(encoder, weights=weights, architecture=architecture, device=device, dtype=dtype)
    session.kept = run
    result = gv.ContrastiveTrainer(loaded, config).fit(kept, val=held_out, out=run, progress=session.progress)
    session.hint(str(result.data))
    Result(
        table=lambda: str(result.report),
        json=lambda: {
            "encoder": str(result.path / "encoder"),
            "improved": result.improved,
            "report": result.report.to_json(),
            "history": list(result.history.rows),
            "data": report_values(result.data),
        },
        html=lambda: as_page("Training", result),
    ).write(format_, out)
    session.hint(f"Use it: geovlm index photos/ photos.index --encoder {run / 'encoder'}")


def _held_out(pairs: "ImageSource", val: str | None, *, seed: int) -> tuple["ImageSource", "ImageSource | None"]:
    if val is None:
        return pairs, None
    try:
        share = float(val)
    except ValueError:
        return pairs, open_source(val)
    kept, held_out = gv.Dataset.from_records(pairs).split(val=share, seed=seed)
    return kept, held_out


def _settings(texts: list[str] | None, **given: Any) -> dict[str, Any]:
    """Settings of `TrainingConfig` by name: those that have an option, and those given with `--set`."""
    from attrs import fields

    names = [attribute.name for attribute in fields(gv.TrainingConfig) if attribute.name != "augmentation"]
    values = {name: value for name, value in given.items() if value is not None}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
        if name not in names:
            raise UnknownName("setting of TrainingConfig", name, names)
        values[name] = _value(value)
    return values


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
