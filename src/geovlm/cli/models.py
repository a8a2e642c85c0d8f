"""`geovlm models`."""

from typing import TYPE_CHECKING, Annotated, Literal

from attrs import asdict

from geovlm.cli import options as o
from geovlm.cli.output import Result, frame_rows

if TYPE_CHECKING:
    import pandas as pd

import typer

KIND = Annotated[Literal["encoders", "captioners", "pixtral"], typer.Argument(help="encoders, captioners or pixtral.")]
SHORT = ["preset", "input", "GSD (m)", "AID", "EuroSAT", "RESISC45", "licence"]


def models(kind: KIND = "encoders", *, format_: o.Format = None, out: o.Out = None) -> None:
    """List the models that are known by name.

    The table has the columns to choose by (published zero-shot accuracy on three data sets, metres a pixel); JSON and
    HTML have all.

    \b
    Examples:
      geovlm models
      geovlm models captioners
      geovlm models --format json | jq -r ".[].preset"
    """  # noqa: D301 - \b keeps lines apart
    from geovlm._html import page
    from geovlm._markup import frame

    table = _table(kind)
    short = table[[name for name in SHORT if name in table]] if kind == "encoders" else table
    Result(
        table=lambda: short.to_string(index=False, na_rep="") if len(short) else "",
        json=lambda: frame_rows(table),
        html=lambda: page(f"Models: {kind}", frame(table, index=False)),
    ).write(format_, out)


def _table(kind: str) -> "pd.DataFrame":
    import pandas as pd

    if kind == "encoders":
        from geovlm.encoders import presets_table

        table = presets_table()
        return table if "preset" in table else table.reset_index(names="preset")
    if kind == "captioners":
        from geovlm.captioners.presets import PRESETS

        return pd.DataFrame([{"captioner": name, **asdict(preset)} for name, preset in PRESETS.items()])
    from geovlm.pixtral.models import MODELS

    rows = [
        {
            "model": model.id,
            "prompt ($/M)": model.price and model.price.prompt,
            "completion ($/M)": model.price and model.price.completion,
            "retired": model.retired and model.retired.isoformat(),
            "replacement": model.replacement,
        }
        for model in MODELS
    ]
    return pd.DataFrame(rows)
