"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

DEFAULT_ENCODER = "skyclip-vit-b-32"

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        show_default=False,
        help="Where the images are: a folder, a table (.csv, .tsv, .jsonl, .json, .parquet), a raster or a folder of"
        " rasters to be cut (--window), shards (.tar), a data set that geovlm wrote, or hf:NAME.",
    ),
]
Root = Annotated[
    Path | None, typer.Option(help="Folder that the paths in a table are relative to; the table's own if not given.")
]
Split = Annotated[str | None, typer.Option(help="Only this split of a table or a data set.")]
Column = Annotated[
    list[str] | None,
    typer.Option(metavar="ROLE=NAME", help="Column of a table for image, caption, label or id. May be repeated."),
]
Window = Annotated[int | None, typer.Option(min=1, help="Cut rasters into windows of this side in pixels.")]

Encoder = Annotated[
    str,
    typer.Option(
        envvar="GEOVLM_ENCODER",
        help="A preset (see: geovlm models), a folder, a checkpoint, openclip:…, hf:… or hf-hub:…",
    ),
]
OtherEncoder = Annotated[
    str | None, typer.Option(envvar="GEOVLM_ENCODER", help="The encoder, where the index does not know it.")
]
Weights = Annotated[Path | None, typer.Option(help="A local copy of a preset's weights.")]
Architecture = Annotated[str | None, typer.Option(help="What a checkpoint is, such as ViT-L-14-quickgelu.")]
Device = Annotated[str | None, typer.Option(help="Such as cuda:0; a GPU if there is one.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; the fastest that loses little.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images that go through the model together.")]

FormatName = Literal["table", "json", "html"]
MapFormatName = Literal["table", "json", "html", "geojson"]
Format = Annotated[
    FormatName | None,
    typer.Option("--format", "-f", help="table unless the ending of --out says otherwise."),
]
MapFormat = Annotated[
    MapFormatName | None,
    typer.Option("--format", "-f", help="table unless the ending of --out says otherwise."),
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="File for the result instead of standard output.")]
