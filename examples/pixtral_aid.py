"""Mistral's walk-through for Pixtral on satellite scenes: baseline, fine-tune, ask again, compare.

    python examples/pixtral_aid.py
    python examples/pixtral_aid.py path/to/AID --limit 60

The folder has one folder of images a class, or a `captions.json` (Karpathy-style, with `class`); without one, forty
scenes are drawn. By itself the program runs offline: a server on this machine speaks Mistral's API, and behind it
answers a tiny model of random weights. What it says is nonsense at first; the steps, the files and the counting are
those of a real run. Its server forgets everything at the end, so a second offline run needs another `--out`; a real run
goes on with the same one. One argument changes the server:

    --server mistral                  Mistral's own, with MISTRAL_API_KEY
    --server http://localhost:8000    one's own, such as `vllm serve mistralai/Pixtral-12B-2409`

`--base models/pixtral-12b` names the weights that are fine-tuned here; without it a real run ends with the baseline.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

import geovlm as gv
from geovlm.pixtral import ChatRequest, FineTuningConfig, LabelSet
from geovlm.pixtral.messages import classification_prompt
from geovlm.testing.scenes import write_scenes

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

MODELS = {"offline": "pixtral-12b-2409", "mistral": "ministral-14b-2512"}
OWN_SERVER = "mistralai/Pixtral-12B-2409"
FEWEST = 10  # scenes a class, so that a fifth of them is two

# A model that knows nothing needs large steps, and many; Pixtral needs neither.
FROM_NOTHING = FineTuningConfig(epochs=30, learning_rate=2e-2, lora_rank=16, train="all", precision="float32")


@frozen(kw_only=True)
class Setting:
    """Who is asked, and what is fine-tuned.

    Args:
        client: For the baseline.
        base: The folder with the weights to fine-tune; `None` leaves that out.
        config: Of the fine-tuning.
    """

    client: gv.PixtralClient
    base: Path | None
    config: FineTuningConfig = field(factory=FineTuningConfig)


@contextmanager
def offline(labels: Sequence[str], out: Path, model: str) -> Generator[Setting]:
    """A server on this machine, and a tiny model behind it."""
    from geovlm.testing.mistral_api import MistralEmulator
    from geovlm.testing.tiny_pixtral import save_tiny_pixtral

    texts = [classification_prompt(LabelSet(labels)), *(f'{{"label": "{name}"}}' for name in labels)]
    base = save_tiny_pixtral(out / "tiny-pixtral", texts=texts)
    tiny = gv.PixtralClient(str(base), device="cpu")

    def brain(body: Mapping[str, Any]) -> str:
        return tiny.complete(ChatRequest(model=model, messages=body["messages"], max_tokens=body["max_tokens"])).text

    with (
        MistralEmulator(brain=brain) as api,
        gv.PixtralClient(model, base_url=api.url, api_key=api.api_key, max_tokens=16) as client,
    ):
        yield Setting(client=client, base=base, config=FROM_NOTHING)


@contextmanager
def setting(arguments: argparse.Namespace, labels: Sequence[str]) -> Generator[Setting]:
    model = arguments.model or MODELS.get(arguments.server, OWN_SERVER)
    if arguments.server == "offline":
        with offline(labels, arguments.out, model) as made:
            yield made
    else:
        url = None if arguments.server == "mistral" else arguments.server
        with gv.PixtralClient(model, base_url=url) as client:
            yield Setting(client=client, base=arguments.base)


def drawn(folder: Path) -> gv.ImageSource:
    """Synthetic scenes of many classes."""
    return gv.TableSource(write_scenes(folder / "synthetic", 400))


def read(folder: Path) -> gv.ImageSource:
    table = folder / "captions.json"
    return gv.TableSource(table) if table.exists() else gv.FolderSource(folder)


def some(data: gv.ImageSource, limit: int | None) -> gv.Dataset:
    """The first scenes of as many classes as there can be with at least `FEWEST` each."""
    whole = gv.Dataset.from_records(data)
    if limit is None:
        return whole
    classes = whole.labels[: max(2, limit // FEWEST)]
    places: defaultdict[str | None, list[int]] = defaultdict(list)
    for place, record in enumerate(whole):
        places[record.label].append(place)
    return whole.subset(sorted(chain.from_iterable(places[name][: limit // len(classes)] for name in classes)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "data", type=Path, nargs="?", help="a folder with one folder of images a class, or with captions.json"
    )
    parser.add_argument("--server", default="offline", help="offline, mistral, or an address")
    parser.add_argument("--model", help="its id at the server")
    parser.add_argument("--base", type=Path, help="a folder with the weights to fine-tune")
    parser.add_argument("--out", type=Path, default=Path("runs/pixtral-aid"), help="where everything goes")
    parser.add_argument("--limit", type=int, help="use so many scenes only")
    parser.add_argument("--max-cost", type=float, default=1.0, help="US dollars for the baseline")
    arguments = parser.parse_args()
    out = arguments.out

    data = some(read(arguments.data), arguments.limit) if arguments.data else some(drawn(out), arguments.limit or 40)
    labels = data.labels
    train, test = gv.stratified_split(data, test=0.2, seed=42)
    print(f"{len(train)} scenes to learn from, {len(test)} to measure on, {len(labels)} classes")

    with setting(arguments, labels) as made:
        client = made.client
        print(client.batch_classify(test, labels=labels, out=out / "baseline", dry_run=True))
        run = client.batch_classify(test, labels=labels, out=out / "baseline", max_cost=arguments.max_cost)
        baseline = run.wait(poll=0 if arguments.server == "offline" else 5)
        print(f"\nbaseline: {baseline}")
        if made.base is None:
            print(gv.score_labels(baseline))
            return

        tuning = client.fine_tune(train, labels=labels, out=out / "tune", base=made.base, config=made.config)
        tuned = tuning.wait()
        print(f"\nfine-tuned: {tuned}")

    with gv.PixtralClient(tuned.model, max_tokens=client.requests.max_tokens) as client:
        after = client.batch_classify(test, labels=labels, out=out / "after").wait(poll=0)
    print(f"\nafter: {after}\n")
    comparison = gv.compare(baseline, after)
    print(comparison)
    comparison.to_pandas().to_csv(out / "comparison.csv", index=False)
    comparison.before.plot_confusion(out / "before.png")
    comparison.after.plot_confusion(out / "after.png")


if __name__ == "__main__":
    main()
