"""`geovlm batch`: thousands of questions to Pixtral or its kin, by batch jobs."""

import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from attrs import asdict

import geovlm as gv
from geovlm.cli import options as o
from geovlm.cli.evaluate import classification_values
from geovlm.cli.folders import recall, remember
from geovlm.cli.output import Result, as_page, frame_rows
from geovlm.cli.session import session_of
from geovlm.cli.sources import open_source
from geovlm.errors import UsageError

MEMO = "batch.json"

RUN = Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="Folder of the batch.")]
LABELS = Annotated[
    list[str] | None, typer.Option("--label", help="A label to choose from; those of the source if not given.")
]
CAPTIONS = Annotated[bool, typer.Option("--captions", help="Ask for captions, not for labels.")]
MODEL = Annotated[str, typer.Option(envvar="GEOVLM_PIXTRAL", help="Id of the model at the server.")]
BASE_URL = Annotated[str | None, typer.Option(help="A server of your own, such as http://localhost:8000.")]
KEY_VARIABLE = Annotated[
    str | None,
    typer.Option(help="Environment variable with the key of that server; Mistral's own is in MISTRAL_API_KEY."),
]
ABOUT = Annotated[str, typer.Option("--context", help="What else is known of the images, in words.")]
IMAGE_TOKENS = Annotated[int | None, typer.Option(min=1, help="The most tokens an image may cost; larger ones shrink.")]
MAX_COST = Annotated[float | None, typer.Option(min=0, help="US dollars; nothing is sent if it may cost more.")]
POLL = Annotated[float, typer.Option(min=0, help="Seconds before the first look at the jobs.")]


def prepare(
    context: typer.Context,
    source: o.Source,
    run: RUN,
    *,
    labels: LABELS = None,
    captions: CAPTIONS = False,
    model: MODEL = "ministral-14b-2512",
    base_url: BASE_URL = None,
    key_variable: KEY_VARIABLE = None,
    about: ABOUT = "",
    image_tokens: IMAGE_TOKENS = None,
    root: o.Root = None,
    split: o.Split = None,
    column: o.Column = None,
    window: o.Window = None,
    format_: o.Format = None,
    out: o.Out = None,
) -> None:
    """Write the requests of a batch, and tell what it may cost; nothing is sent.

    \b
    Examples:
      geovlm batch prepare AID/ run/
      geovlm batch prepare photos/ run/ --label "a vineyard" --label "an orchard" --label neither
      geovlm batch prepare photos/ run/ --captions --model mistral-small-2603 --image-tokens 400
    """  # noqa: D301 - \b keeps lines apart
    session = session_of(context)
    given = {"root": None if root is None else str(root.absolute()), "split": split, "columns": column}
    records = open_source(source, root=root, split=split, columns=column, window=window)
    path = Path(source).expanduser()
    memo = {
        "source": {"place": str(path.absolute()) if path.exists() else source, **given, "window": window},
        "labels": None if captions else labels or list(getattr(records, "labels", ())),
        "context": about,
        "client": {"model": model, "base_url": base_url, "image_tokens": image_tokens},
        "key_variable": key_variable,
    }
    with _client(memo) as client:
        remember(run.expanduser() / MEMO, memo)
        session.kept = run
        plan = _begin(client, memo, run, dry_run=True, max_cost=None, progress=session.progress)
    told = {**asdict(plan), "cost": plan.cost, "most_cost": plan.most_cost}
    Result.of(plan, title="Batch", json=lambda: told).write(format_, out)
    # To the next cent: a limit below the cost would be refused.
    limit = math.ceil(100 * (plan.most_cost or 0)) / 100
    session.hint(f"Send it: geovlm batch submit {run} --max-cost {limit:.2f}")


def submit(context: typer.Context, run: RUN, *, max_cost: MAX_COST = None) -> None:
    """Send what was prepared; what was sent before is not sent again.

    \b
    Examples:
      geovlm batch submit run/ --max-cost 2.50
    """  # noqa: D301 - \b keeps lines apart
    session = session_of(context)
    memo = recall(run.expanduser() / MEMO)
    session.kept = run
    with _client(memo) as client:
        started = _begin(client, memo, run, dry_run=False, max_cost=max_cost, progress=session.progress)
        typer.echo(started.status())
    session.hint(f"It goes on by itself. See how far it is: geovlm batch status {run}")


def status(run: RUN, *, format_: o.Format = None, out: o.Out = None) -> None:
    """Ask the service how far the jobs are; changes nothing.

    \b
    Examples:
      geovlm batch status run/
    """  # noqa: D301 - \b keeps lines apart
    with _client(recall(run.expanduser() / MEMO)) as client:
        state = gv.BatchRun.open(run, client=client).status()
    Result.of(state, title="Batch", json=lambda: asdict(state)).write(format_, out)


def collect(context: typer.Context, run: RUN, *, poll: POLL = 5.0, format_: o.Format = None, out: o.Out = None) -> None:
    """Wait for all answers and bring them home; what failed or is missing is sent again.

    Where the images have labels, the answers are scored over all of them. An interrupt leaves the jobs at the service:
    the same command finds them again.

    \b
    Examples:
      geovlm batch collect run/
      geovlm batch collect run/ --format json --out answers.json
    """  # noqa: D301 - \b keeps lines apart
    session = session_of(context)
    session.kept = run
    with _client(recall(run.expanduser() / MEMO)) as client:
        result = gv.BatchRun.open(run, client=client).wait(poll=poll, progress=session.progress)
    score = gv.score_labels(result) if result.labels is not None and any(result.truth) else None
    parts: list[Any] = [result] if score is None else [result, score]
    Result(
        table=lambda: "\n".join(map(str, parts)),
        json=lambda: {
            "counts": result.counts,
            "coverage": result.coverage,
            "usage": asdict(result.usage),
            "cost": result.cost,
            "score": None if score is None else classification_values(score),
            "answers": frame_rows(result.to_pandas()),
        },
        html=lambda: as_page("Batch", *parts),
    ).write(format_, out)


def cancel(run: RUN) -> None:
    """End a batch; answers so far can be had by "geovlm batch collect".

    \b
    Examples:
      geovlm batch cancel run/
    """  # noqa: D301 - \b keeps lines apart
    with _client(recall(run.expanduser() / MEMO)) as client:
        gv.BatchRun.open(run, client=client).cancel()


def _client(memo: dict[str, Any]) -> "gv.PixtralClient":
    variable = memo["key_variable"]
    if variable is not None and not os.environ.get(variable):
        raise UsageError(f"The environment variable {variable}, which is to hold the key, is not set.")
    return gv.PixtralClient(**memo["client"], api_key=None if variable is None else os.environ[variable])


def _begin(client: "gv.PixtralClient", memo: dict[str, Any], run: Path, *, dry_run: Any, **how: Any) -> Any:
    records = open_source(**memo["source"])
    if memo["labels"] is None:
        return client.batch_caption(records, out=run, dry_run=dry_run, **how)
    return client.batch_classify(
        records, labels=memo["labels"], context=memo["context"], out=run, dry_run=dry_run, **how
    )
