"""`geovlm evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import geovlm as gv
from geovlm._files import write_atomically
from geovlm.cli import options as o
from geovlm.cli.output import Result, as_page, frame_rows
from geovlm.cli.reports import report_values
from geovlm.cli.session import session_of
from geovlm.cli.sources import open_source

if TYPE_CHECKING:
    from geovlm.evaluation import ClassificationResult

CLASSES = Annotated[
    list[str] | None, typer.Option("--class", help="A class, of two or more; the labels of the source if not given.")
]
TEMPLATES = Annotated[str, typer.Option(help="A set of prompt templates, or one template with {}.")]
METHOD = Annotated[
    Literal["inductive", "transductive"], typer.Option(help="Each image by itself, or all of them at once.")
]
CONFUSION = Annotated[Path | None, typer.Option(help="Draw the confusion matrix (.png, .pdf or .svg) as well.")]
PREDICTIONS = Annotated[Path | None, typer.Option(help="Write one row an image (.csv) as well.")]
CUTS = Annotated[list[int] | None, typer.Option("--k", min=1, help="Cut-offs of recall@k; 1, 5 and 10 if not given.")]
TEMPLATE = Annotated[str, typer.Option(help="Put every caption into this template.")]


def zero_shot(
    context: typer.Context,
    source: o.Source,
    *,
    classes: CLASSES = None,
    templates: TEMPLATES = "skyscript",
    method: METHOD = "inductive",
    confusion: CONFUSION = None,
    predictions: PREDICTIONS = None,
    encoder: o.Encoder = o.DEFAULT_ENCODER,
    weights: o.Weights = None,
    architecture: o.Architecture = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    batch_size: o.BatchSize = 64,
    root: o.Root = None,
    split: o.Split = None,
    column: o.Column = None,
    format_: o.Format = None,
    out: o.Out = None,
) -> None:
    """Classify images by the names of the classes, and compare with their labels.

    Class folders give the labels. Every share is over all labelled images: one that cannot be read counts as wrong.

    \b
    Examples:
      geovlm evaluate zero-shot AID/
      geovlm evaluate zero-shot AID/ --encoder tuned/encoder --method transductive
      geovlm evaluate zero-shot test.csv --column label=class --confusion confusion.png --format json
    """  # noqa: D301 - \b keeps lines apart
    session = session_of(context)
    records = open_source(source, root=root, split=split, columns=column)
    loaded = gv.load_encoder(encoder, weights=weights, architecture=architecture, device=device, dtype=dtype)
    result = gv.zero_shot(
        loaded,
        records,
        classes=classes,
        templates=[templates] if "{}" in templates else templates,
        method=method,
        batch_size=batch_size,
        progress=session.progress,
    )
    if confusion is not None:
        result.plot_confusion(confusion)
    if predictions is not None:
        write_atomically(predictions, lambda path: result.to_pandas().to_csv(path, index=False))
    Result(
        table=lambda: "\n".join([str(result), *result.notes]),
        json=lambda: classification_values(result),
        html=lambda: as_page("Zero-shot classification", result),
    ).write(format_, out)


def classification_values(result: "ClassificationResult") -> dict[str, Any]:
    """A classification as JSON-like values."""
    return {
        "top1": result.top1,
        "coverage": result.coverage,
        "hallucination_rate": result.hallucination_rate,
        "images": int(result.labelled.sum()),
        "method": result.method,
        "notes": list(result.notes),
        "per_class": frame_rows(result.per_class(), index="label"),
        "confusion": result.confusion.tolist(),
        "report": report_values(result.report),
    }


def retrieval(
    context: typer.Context,
    source: o.Source,
    *,
    cuts: CUTS = None,
    template: TEMPLATE = "{}",
    encoder: o.Encoder = o.DEFAULT_ENCODER,
    weights: o.Weights = None,
    architecture: o.Architecture = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    batch_size: o.BatchSize = 64,
    root: o.Root = None,
    split: o.Split = None,
    column: o.Column = None,
    format_: o.Format = None,
    out: o.Out = None,
) -> None:
    """Look up every caption among all images, and every image among all captions.

    \b
    Examples:
      geovlm evaluate retrieval pairs/
      geovlm evaluate retrieval rsicd.json --split test --encoder tuned/encoder
      geovlm evaluate retrieval pairs.csv --column caption=title --k 1 --k 10 --format json
    """  # noqa: D301 - \b keeps lines apart
    session = session_of(context)
    records = open_source(source, root=root, split=split, columns=column)
    loaded = gv.load_encoder(encoder, weights=weights, architecture=architecture, device=device, dtype=dtype)
    result = gv.retrieval(
        loaded,
        records,
        ks=tuple(cuts or (1, 5, 10)),
        template=template,
        batch_size=batch_size,
        progress=session.progress,
    )
    Result(
        table=lambda: str(result),
        json=lambda: {
            "mean_recall": result.mean_recall,
            "coverage": result.coverage,
            "recall": frame_rows(result.to_pandas(), index="direction"),
            "report": report_values(result.report),
        },
        html=lambda: as_page("Retrieval", result),
    ).write(format_, out)
