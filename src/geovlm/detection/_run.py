"""The one pass over a raster: read ahead, score in batches, stitch, keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from geovlm import _progress
from geovlm._stream import map_batches
from geovlm.detection._heat import Stitcher, cells_of, fill_empty, taper
from geovlm.records import Failure, Record
from geovlm.sources.raster.grid import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from geovlm.detection._grid import Grid
    from geovlm.detection._ledger import Ledger, Progress
    from geovlm.detection._scorer import Scorer
    from geovlm.sources.raster import Raster

# Windows with less data than this share of their pixels are not scored.
LEAST_DATA = 0.02
EMPTY: Any = object()


def run(
    raster: Raster, grid: Grid, scorer: Scorer, ledger: Ledger, *, batch_size: int, progress: bool | None
) -> tuple[Progress, Progress]:
    """Score what is not scored yet; how far the scan was before, and is now.

    A band of windows, some rows of them, is finished as a whole. Batches never reach over the end of a band, so that a
    scan that goes on cuts the same batches, and gets the same numbers to the last bit.
    """
    stitcher = Stitcher(
        channels=scorer.channels,
        side=grid.side,
        columns=grid.columns,
        weights=taper(grid.side, grid.side - grid.step),
    )
    before = now = ledger.resume(stitcher)
    across, down = grid.across, grid.down
    bands = list(grid.bands(batch_size, done=before.lines))
    outcomes = _Windows(raster=raster, grid=grid, scorer=scorer, batch_size=batch_size).outcomes(bands)
    with _progress.bar(progress, total=len(grid), desc="scan", unit="win", initial=before.windows) as bar:
        for band in bands:
            seen = []
            for row in band:
                for column in across:
                    outcome = next(outcomes)
                    if not isinstance(outcome, Failure) and outcome is not EMPTY:
                        channels, is_valid = outcome
                        stitcher.add(channels, is_valid, column)
                        outcome = None  # its arrays are not needed any more
                    seen.append(outcome)
                    bar.update(1)
                place = down.index(row) + 1
                ledger.append(scorer.logits(stitcher.take(down[place] if place < len(down) else grid.rows)))
            now = now.plus(seen, EMPTY, lines=len(band), rows=stitcher.top)
            ledger.settle(now, stitcher)
    return before, now


@frozen(kw_only=True)
class _Windows:
    """The windows of some bands, and what becomes of each."""

    raster: Raster
    grid: Grid
    scorer: Scorer
    batch_size: int

    def outcomes(self, bands: Sequence[Sequence[int]]) -> Iterator[Any]:
        """Channels and valid cells, `EMPTY`, or a failure; row by row."""
        stream = map_batches(
            self._records(bands), prepare=self._prepare, run=self._score, batch_size=self.batch_size, stage="score"
        )
        for record, outcome in stream:
            if isinstance(outcome, Failure):
                yield Failure(id=record.id, stage=outcome.stage, reason=outcome.reason, uri=f"{self.raster.path}")
            elif record.meta["window"] is not None:
                yield outcome

    def _records(self, bands: Sequence[Sequence[int]]) -> Iterator[Record]:
        side, cell, across = self.grid.side * self.grid.cell, self.grid.cell, self.grid.across
        for band in bands:
            for row in band:
                for column in across:
                    window = Window(col=column * cell, row=row * cell, width=side, height=side)
                    yield Record(id=f"window at column {window.col}, row {window.row}", meta={"window": window})
            for _ in range(-len(band) * len(across) % self.batch_size):
                yield Record(id="filling", meta={"window": None})

    def _prepare(self, record: Record) -> Any:
        window: Window | None = record.meta["window"]
        if window is None:
            return EMPTY
        pixels, is_valid = self.raster.read(window)
        width, height = self.raster.width - window.col, self.raster.height - window.row
        on_raster = min(window.width, width) * min(window.height, height)
        if is_valid.sum() <= LEAST_DATA * on_raster:
            return EMPTY
        return self.scorer.prepare(fill_empty(pixels, is_valid)), cells_of(is_valid, self.grid.cell)

    def _score(self, _: Sequence[Record], items: Sequence[Any]) -> list[Any]:
        places = [place for place, item in enumerate(items) if item is not EMPTY]
        results = list(items)
        if places:
            channels = self.scorer.score([items[place][0] for place in places], self.grid.side)
            for place, one in zip(places, channels, strict=True):
                results[place] = (one, items[place][1])
        return results
