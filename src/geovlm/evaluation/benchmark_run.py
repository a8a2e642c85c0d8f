"""`benchmark`: an encoder on the data sets of the SkyScript protocol and on your own, with intervals, resumable."""

from __future__ import annotations

import re
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any, get_args

from geovlm import _progress
from geovlm._parts import Parts
from geovlm._vectors import check_count
from geovlm.errors import UnknownName, UsageError
from geovlm.evaluation._bench_run import Setting, run_set
from geovlm.evaluation.benchmark_data import BenchmarkData, prepare
from geovlm.evaluation.benchmark_result import BenchmarkResult, Method
from geovlm.prompts import resolve_templates
from geovlm.protocols import Encoder

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from geovlm.protocols import ImageSource

__all__ = ["benchmark"]

KIND = "benchmark"
TEMPLATES = "skyscript"
LIBRARIES = ("geovlm", "numpy", "pillow", "torch", "open_clip_torch", "transformers")
TOWER = re.compile(r"vit[-_]?(b|l|h|g|base|large|huge)[a-z]*[-_/]?(?:patch)?(\d\d)(?!\d)", re.IGNORECASE)


def benchmark(
    encoder: Encoder,
    datasets: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str] | ImageSource | BenchmarkData],
    *,
    out: str | os.PathLike[str] | None = None,
    method: Method = "inductive",
    templates: str | Sequence[str] | None = None,
    architecture: str | None = None,
    batch_size: int = 64,
    progress: bool | None = None,
) -> BenchmarkResult:
    """Measure an encoder as the SkyScript paper measures (Wang et al., AAAI 2024, tables 2 and 3), and on your data.

    Scene sets are scored by top-1 accuracy. The names in a set's `classnames.txt` are put into the prompts as they are;
    where only folders of classes are there, their names are put into words, and the images may be others than the
    paper's: the result says so. Retrieval sets are scored by the mean of recall at 1, 5 and 10, image to text and text
    to image. Captions that read the same are one, which belongs to all its images; a query is answered if one of its
    own is among the best `k`. (`geovlm.retrieval` takes each caption for itself; figures of the two differ.) Every
    image that the table of a set names is counted, and one that cannot be read is wrong.

    With `out`, vectors and figures are kept. A call that was stopped goes on when it is repeated; a data set that is
    finished is not computed again, unless its inputs have changed. Beside `result-<method>.json` there is a folder a
    data set, with the prediction for each image or the rank for each query in a Parquet file.

    Args:
        encoder: What is measured.
        datasets: The folder that holds the data sets as SkyScript's archives unpack (see `BENCHMARK_SETS`), or a
            mapping from names to paths, sources or `BenchmarkData`. A name of the benchmark's has its prompts.
        out: A folder for vectors and figures; `None` keeps them in memory.
        method: `"inductive"`, each image by itself as in the papers, or `"transductive"`, all images of a set at once
            as `geovlm.evaluation.classify` does. Retrieval is the same for both.
        templates: Prompt templates for all class names, or the name of a set of them; the papers' if not given, and
            those of `BenchmarkData` for that.
        architecture: The image tower, such as `"ViT-B-32"`, by which published rows are chosen; told by the encoder's
            name if not given.
        batch_size: Images a batch.
        progress: Show a bar; `None` decides by where the output goes.

    Raises:
        ConfigMismatch: `out` was made with another encoder or other prompts.
        RunLocked: Another process is writing in `out`.
        StorageError: The disk refused; what was finished is kept.
        UnknownName: There is no such method or set of templates.
        UsageError: No data set was found, with where to get them; or what one says of its images cannot be right.

    Examples:
        >>> from PIL import Image
        >>> from geovlm import Record
        >>> from geovlm.testing import HashEncoder
        >>> fields = [Record(id=c, image=Image.new("RGB", (8, 8), c), label=c) for c in ("red", "green", "blue")]
        >>> result = benchmark(HashEncoder(), {"fields": [*fields, Record(id="broken", image=b"?", label="red")]})
        >>> print(result)
        benchmark of hash-64, inductive: 1 data sets
          fields  75.00 [30.1, 95.4]
        >>> result["fields"].coverage
        0.75
    """
    setting = _setting(encoder, method=method, batch_size=batch_size, progress=progress)
    chosen = None if templates is None else resolve_templates(templates)
    ready, missing = prepare(datasets)
    folder = None if out is None else Path(out).expanduser()
    scores = []
    with _holding(folder, encoder), _progress.bar(progress, total=len(ready), desc="benchmark", unit="set") as bar:
        for data in ready:
            bar.set_postfix_str(data.name)
            words = chosen or data.templates or resolve_templates(TEMPLATES)
            scores.append(run_set(setting, data, words, out=None if folder is None else folder / data.name))
            bar.update(1)
        result = BenchmarkResult(
            encoder=encoder.name,
            fingerprint=encoder.fingerprint,
            method=method,
            scores=scores,
            architecture=architecture or tower(encoder.name),
            missing=missing,
            versions=_versions(),
        )
        if folder is not None:
            result.to_json(folder / f"result-{method}.json")
    return result


def _setting(encoder: Any, *, method: Method, batch_size: int, progress: bool | None) -> Setting:
    if isinstance(encoder, str) or not isinstance(encoder, Encoder):
        raise UsageError(
            f"An encoder has a name, a fingerprint and encode_images(images), unlike {encoder!r:.80}; for a name or a"
            " folder use load_encoder."
        )
    if method not in get_args(Method):
        raise UnknownName("method", str(method), get_args(Method))
    return Setting(
        encoder=encoder, method=method, batch_size=check_count(batch_size, name="batch_size"), progress=progress
    )


def _holding(out: Path | None, encoder: Encoder) -> AbstractContextManager[None]:
    """Tie the folder to the encoder."""
    if out is None:
        return nullcontext()
    config = {"encoder": encoder.fingerprint, "dim": encoder.dim}
    return Parts(out, kind=KIND, config=config, about={"encoder": encoder.name}).writing()


def tower(name: str) -> str | None:
    """The image tower that an encoder's name tells of, as papers call it.

    Examples:
        >>> tower("skyclip-vit-b-32"), tower("openai/clip-vit-large-patch14"), tower("hash-64")
        ('ViT-B-32', 'ViT-L-14', None)
    """
    found = TOWER.search(name)
    return f"ViT-{found[1][0].upper()}-{found[2]}" if found else None


def _versions() -> dict[str, str]:
    versions = {"python": python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
