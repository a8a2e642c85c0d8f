"""`scan`: words in, places on a map out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import frozen

from geovlm._parts import Parts
from geovlm._vectors import check_count
from geovlm.detection._assemble import Cut, detections, heat_map
from geovlm.detection._grid import make_grid
from geovlm.detection._ledger import Ledger
from geovlm.detection._run import run
from geovlm.detection._scorer import Scorer, make_scoring
from geovlm.detection._scoring import logit_of
from geovlm.detection.calibration import Calibration
from geovlm.detection.detections import Detection, Detections
from geovlm.errors import UnknownName, UsageError
from geovlm.records import Report
from geovlm.sources.raster import Raster

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from geovlm.detection._grid import Grid
    from geovlm.detection._ledger import Progress
    from geovlm.protocols import Encoder

__all__ = ["scan"]

RasterLike: TypeAlias = str | os.PathLike[str] | Raster
"""A path, or an opened raster."""

KIND = "scan"


def scan(
    raster: RasterLike | Sequence[RasterLike],
    query: str | Sequence[str],
    encoder: Encoder,
    *,
    against: Sequence[str] | None = None,
    threshold: float | None = None,
    gsd: float | None = None,
    bands: Sequence[int] | None = None,
    window: int | None = None,
    overlap: float = 0.25,
    templates: str | Sequence[str] = "overhead",
    calibration: Calibration | Sequence[Calibration] | None = None,
    dense: bool | None = None,
    temperature: float | None = None,
    debias: float = 0.0,
    gate: float | None = None,
    min_area: float | None = None,
    out: str | os.PathLike[str] | None = None,
    batch_size: int = 16,
    progress: bool | None = None,
) -> Detections:
    """Find what words name in a raster of any size, as polygons in its coordinates, with scores.

    Windows are read ahead of the model and go through it in batches, once for all queries. With an encoder that tells
    where (`geovlm.encoders.dense.is_dense`) each patch gets a score, else each window; where windows overlap, scores
    are averaged, less weight on the edges. Connected cells above the threshold become places, outlined at a fraction of
    a cell, with the largest probability as their score. Memory does not grow with the raster.

    A score is the probability of the query in a softmax with phrases for what else may be there; queries do not compete
    with each other. An encoder that was trained with a sigmoid (SigLIP) scores each text by itself, unless `against`
    is given. These probabilities rank well and are not calibrated; `calibrate` makes them so, from labelled tiles.

    A thing is found best if it is an eighth to a half of a window across: choose `gsd` for that.

    Sources: scores a patch as told in `geovlm.encoders.dense`; temperature, contrast phrases, the best of synonyms, and
    `debias` as in SegEarth-OV (Li et al., CVPR 2025).

    Args:
        raster: A path (GeoTIFF, COG, VRT, `/vsicurl/…`), a `geovlm.sources.raster.Raster`, or several of them, which
            are scanned one after the other.
        query: What to look for, such as `"a vineyard"`, or several queries. Commas part synonyms, of which the best
            counts: `"a pond, a small lake"`.
        encoder: From `load_encoder`, or any object with the abilities of `geovlm.protocols.Encoder`.
        against: What else may be there, such as `["forest", "a town"]`; phrases that mean a query are left out for it.
            `None` takes land covers (`geovlm.prompts.contrast`).
        threshold: The least probability of a place; `None` is the calibration's, or 0.5.
        gsd: Metres a pixel to look at the raster with; `None` is its own resolution.
        bands: The bands for red, green and blue, from 1.
        window: Side of a window in pixels, rounded up to whole cells; `None` is what the encoder looks at.
        overlap: The share of a window that the next one covers again, from 0 to below 1.
        templates: Prompt templates around every phrase: a name in `geovlm.prompts.TEMPLATES`, or templates.
        calibration: From `calibrate`, for one or more of the queries.
        dense: `False` scores whole windows in any case; `True` refuses encoders that cannot score patches.
        temperature: What cosines are multiplied by; `None` is the encoder's own scale, and half of it for patches.
        debias: How much of a window's own cosine is taken off those of its patches. 0.3 is for CLIP's own weights,
            whose patches all look a little like the whole (`geovlm.encoders.dense.remove_global_bias`).
        gate: By how much a window without a sign of the query lowers the logits of its patches, at most; `None` is 2,
            and 0 leaves patches to themselves. It is a shift, not a factor: what is clear enough is found all the same.
        min_area: Square metres that a place has at least; where the raster has no CRS, nothing is left out.
        out: A directory that keeps finished rows: the same call goes on after a kill, and gives the same bytes.
        batch_size: Windows that go through the model together.
        progress: Show a bar; `None` decides by where the output goes.

    Returns:
        The places, best first, with a heat map for each query and the report. In the report, skipped are windows
        with next to no data, and those that an earlier call finished; unreadable ones are failures, and leave gaps in
        the heat map where no other window overlaps them.

    Raises:
        ConfigMismatch: `out` holds another scan, or a calibration was made with other settings.
        ImageError: The raster cannot be opened.
        MissingExtra: rasterio or shapely is not installed.
        RunLocked: Another process is writing in `out`.
        StorageError: The disk refused; the finished rows are kept.
        UsageError: An argument cannot be right.

    Examples:
        >>> import tempfile, numpy, rasterio
        >>> from geovlm.testing import HashEncoder
        >>> path = tempfile.mkdtemp() + "/fields.tif"
        >>> pixels = numpy.zeros((3, 600, 800), dtype="uint8") + numpy.array([[[40]], [[160]], [[60]]], dtype="uint8")
        >>> pixels[:, 200:400, 500:700] = numpy.array([[[40]], [[80]], [[200]]])  # 20 m x 20 m of blue in the green
        >>> profile = dict(driver="GTiff", width=800, height=600, count=3, dtype="uint8", crs="EPSG:32632")
        >>> with rasterio.open(path, "w", **profile, transform=rasterio.Affine(0.1, 0, 5e5, 0, -0.1, 5e6)) as file:
        ...     file.write(pixels)
        >>> found = scan(path, "blue", HashEncoder(), against=["green"], window=80, overlap=0.5)
        >>> len(found), found.crs, [round(value) for value in found[0].box]
        (1, 'EPSG:32632', [500050, 4999960, 500070, 4999980])
    """
    check_count(batch_size, name="batch_size")
    scoring = make_scoring(encoder, dense=dense, templates=templates, temperature=temperature, debias=debias, gate=gate)
    scorer = Scorer(encoder, query, against, scoring)
    wanted = _Wanted(
        scorer=scorer,
        encoder=encoder.name,
        cuts=_cuts(scorer, threshold, calibration),
        min_area=_checked_area(min_area),
        window=window,
        overlap=overlap,
        batch_size=batch_size,
        progress=progress,
    )
    folder = None if out is None else Path(out).expanduser()
    if isinstance(raster, str | os.PathLike | Raster):
        return wanted.scan(_opened(raster, gsd, bands), folder)
    if not isinstance(raster, Iterable):
        raise UsageError(
            f"A raster is a path, a geovlm.sources.raster.Raster, or several of these, not {raster!r:.60}."
        )
    parts = [wanted.scan(_opened(one, gsd, bands), place) for one, place in _each(list(raster), folder)]
    return Detections.merge(parts)


@frozen(kw_only=True)
class _Wanted:
    """One call's wishes, the same for all its rasters."""

    scorer: Scorer
    encoder: str
    cuts: tuple[Cut, ...]
    min_area: float | None
    window: int | None
    overlap: float
    batch_size: int
    progress: bool | None

    def scan(self, raster: Raster, folder: Path | None) -> Detections:
        started = time.monotonic()
        grid = make_grid(
            raster.width,
            raster.height,
            window=self.window,
            overlap=self.overlap,
            image_size=self.scorer.image_size,
            patches=self.scorer.patches,
        )
        parts = Parts(folder, kind=KIND, config=self._config(raster, grid), about={"encoder": self.encoder})
        with parts.writing(), self._ledger(folder, grid) as ledger:
            before, now = run(raster, grid, self.scorer, ledger, batch_size=self.batch_size, progress=self.progress)
            parts.finish(done=now.done, empty=now.empty, failed=len(now.failures))
            logits = ledger.logits()
        found: list[Detection] = []
        maps = {}
        for place, cut in enumerate(self.cuts):
            maps[cut.query] = heat_map(raster, grid, cut, logits[:, place])
            found += detections(raster, grid, cut, logits[:, place], min_area=self.min_area)
        return Detections(
            items=found,
            crs=raster.crs,
            raster=str(raster.path),
            heat_maps=maps,
            report=_report(before, now, time.monotonic() - started),
            settings=self._settings(raster, grid, now),
        )

    def _config(self, raster: Raster, grid: Grid) -> dict[str, Any]:
        queries = self.scorer.phrases.queries
        placed = {"cell": grid.cell, "side": grid.side, "step": grid.step}
        return {"raster": raster.fingerprint, "queries": list(queries), **placed, **self.scorer.settings(*queries)}

    def _ledger(self, folder: Path | None, grid: Grid) -> Ledger:
        return Ledger(folder, queries=len(self.cuts), columns=grid.columns, rows=grid.rows)

    def _settings(self, raster: Raster, grid: Grid, now: Progress) -> dict[str, Any]:
        return {
            **self._config(raster, grid),
            "encoder": {"name": self.encoder, "fingerprint": self.scorer.settings()["encoder"]},
            "gsd": raster.gsd,
            "window": grid.side * grid.cell,
            "threshold": {cut.query: cut.threshold for cut in self.cuts},
            "min_area": self.min_area,
            "windows": {"scored": now.done, "empty": now.empty, "failed": len(now.failures)},
        }


def _opened(raster: RasterLike, gsd: float | None, bands: Sequence[int] | None) -> Raster:
    if not isinstance(raster, Raster):
        return Raster(raster, gsd=gsd, bands=bands)
    if gsd is not None or bands is not None:
        raise UsageError("gsd and bands belong to the Raster that is given: Raster(path, gsd=…, bands=…).")
    return raster


def _each(rasters: Sequence[RasterLike], folder: Path | None) -> Iterator[tuple[RasterLike, Path | None]]:
    """Each raster with a directory of its own."""
    if not rasters:
        raise UsageError("There is no raster to scan; give at least one path.")
    for number, raster in enumerate(rasters):
        name = Path(str(raster.path) if isinstance(raster, Raster) else os.fspath(raster)).stem
        yield raster, None if folder is None else folder / f"{number:04}-{name}"


def _cuts(
    scorer: Scorer, threshold: float | None, calibration: Calibration | Sequence[Calibration] | None
) -> tuple[Cut, ...]:
    """Threshold and calibration of each query."""
    if threshold is not None:
        logit_of(threshold)
    queries = scorer.phrases.queries
    fitted = {one.query: one for one in _calibrations(calibration)}
    for query, one in fitted.items():
        if query not in queries:
            raise UnknownName("query of this scan", query, queries)
        one.check(scorer.settings(query))
    cuts = []
    for query in queries:
        known = fitted.get(query)
        if known is None:
            cuts.append(Cut(query=query, threshold=0.5 if threshold is None else threshold))
        else:
            least = known.threshold if threshold is None else threshold
            cuts.append(Cut(query=query, threshold=least, slope=known.slope, intercept=known.intercept))
    return tuple(cuts)


def _calibrations(given: Calibration | Sequence[Calibration] | None) -> Sequence[Calibration]:
    several = list(given) if isinstance(given, Iterable) else [] if given is None else [given]
    if not all(isinstance(one, Calibration) for one in several):
        raise UsageError("A calibration is what calibrate(…) returns, or Calibration.load(path).")
    return several


def _checked_area(min_area: float | None) -> float | None:
    if min_area is not None and not min_area >= 0:
        raise UsageError(f"min_area is a number of square metres, at least 0, not {min_area!r}.")
    return min_area


def _report(before: Progress, now: Progress, seconds: float) -> Report:
    return Report(
        stage="scan",
        done=now.done - before.done,
        skipped=before.done + now.empty,
        failures=now.failures,
        seconds=seconds,
    )
