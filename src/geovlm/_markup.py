"""Pieces of HTML for notebooks: small tables under a heading, readable on light and on dark ground, without scripts.

Every text is escaped: ids, labels and captions come from strangers' files. Colours are shades of what is there, so that
nothing has to know whether the ground is light or dark.
"""

from __future__ import annotations

import base64
from functools import wraps
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["STYLE", "frame", "grid", "guarded", "image", "lines", "listing", "panel", "table"]

T = TypeVar("T")

MOST_ROWS = 60
MOST_CHARACTERS = 300
MOST_CLASSES = 40

STYLE = """
.gv { font: .86rem/1.45 system-ui, sans-serif; max-width: 100%; overflow-x: auto; color: inherit; }
.gv .gv-title { font-weight: 600; margin: 0 0 .35rem; overflow-wrap: anywhere; }
.gv p { margin: .35rem 0; overflow-wrap: anywhere; }
.gv ul { margin: .35rem 0; padding-left: 1.2rem; }
.gv .gv-soft, .gv caption { opacity: .72; }
.gv summary { cursor: pointer; margin: .35rem 0; }
.gv table { border-collapse: collapse; margin: .35rem 0 .6rem; font: inherit; color: inherit; border: 0; width: auto;
  display: table; font-variant-numeric: tabular-nums; }
.gv caption { text-align: left; padding: .2rem 0; font-weight: 600; }
.gv tr, .gv tr:nth-child(even), .gv tr:hover { background: none !important; color: inherit; }
.gv th, .gv td { padding: .16rem .7rem .16rem 0; border: 0; border-bottom: 1px solid rgb(127 127 127 / .28);
  text-align: right; vertical-align: top; white-space: nowrap; min-width: 0; max-width: none; }
.gv th { font-weight: 600; }
.gv .gv-words { text-align: left; }
.gv td.gv-words { white-space: normal; max-width: 34rem; min-width: 7rem; overflow-wrap: anywhere; }
.gv img { max-width: 100%; height: auto; }
.gv .gv-grid td { padding: .1rem .3rem; min-width: 1.1rem; text-align: center;
  border: 1px solid rgb(127 127 127 / .18); }
.gv .gv-grid th { border: 0; font-weight: 400; padding: .1rem .4rem; vertical-align: bottom; }
.gv .gv-grid .gv-top { display: inline-block; writing-mode: vertical-rl; transform: rotate(180deg); }
"""


def guarded(show: Callable[[T], str]) -> Callable[[T], str]:
    """A `_repr_html_` that tells what is wrong instead of raising: a folder may be gone, a disk may fail."""

    @wraps(show)
    def shown(value: T) -> str:
        try:
            return show(value)
        except Exception as error:  # noqa: BLE001 - a notebook shows values that nobody asked it to show
            return panel(type(value).__name__, lines([f"It cannot be shown: {error}"]))

    return shown


def panel(title: str, *parts: str) -> str:
    """A heading, and below it pieces of HTML; empty ones are left out."""
    body = "".join(part for part in parts if part)
    return f'<div class="gv"><style>{STYLE}</style><p class="gv-title">{escape(title)}</p>{body}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, total: int | None = None, caption: str = "") -> str:
    """A table; nothing where there are no rows.

    Args:
        head: The names of the columns; none for a table without.
        rows: The cells; numbers are shown to the right, words to the left, what is missing as nothing.
        total: How many rows there are, if that is more than are given.
        caption: What the table is of.
    """
    shown = list(rows)
    if not shown:
        return ""
    words = [any(isinstance(row[place], str) for row in shown) for place in range(len(shown[0]))]
    names = "".join(
        f"<th{_class(is_word)}>{escape(name)}</th>" for name, is_word in zip(head, words, strict=bool(head))
    )
    body = "".join("<tr>" + "".join(map(_cell, row, words)) + "</tr>" for row in shown)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    rest = (total or 0) - len(shown)
    more = f'<p class="gv-soft">… and {rest} more</p>' if rest > 0 else ""
    return f"<table>{title}{f'<tr>{names}</tr>' if head else ''}{body}</table>{more}"


def frame(data: Any, *, index: bool = True, caption: str = "", rows: int = MOST_ROWS) -> str:
    """A DataFrame as a table of at most so many rows.

    Args:
        data: A `pandas.DataFrame`.
        index: Show its index as the first column.
        caption: What the table is of.
        rows: How many are shown.
    """
    names = [*([str(data.index.name or "")] if index else []), *map(str, data.columns)]
    cells = data.head(rows).itertuples(index=index, name=None)
    return table(names, cells, total=len(data), caption=caption)


def listing(values: Mapping[str, Any]) -> str:
    """Names and values, one pair a row; values that are `None` are left out."""
    return table((), [(name, _text(value)) for name, value in values.items() if value is not None])


def lines(texts: Iterable[str]) -> str:
    """Sentences, one below the other."""
    return "".join(f"<p>{escape(text)}</p>" for text in texts if text)


def image(png: bytes, alt: str) -> str:
    """A picture inside the page."""
    return f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="{escape(alt)}">'


def grid(counts: Any, *, rows: Sequence[str], columns: Sequence[str]) -> str:
    """A matrix of counts, each cell as dark as its share of the row; folded away where it is large.

    Args:
        counts: `(rows, columns)`, whole numbers.
        rows: Their names.
        columns: Their names.
    """
    if len(rows) > MOST_CLASSES:
        return f'<p class="gv-soft">The matrix of {len(rows)} classes is in confusion_to_pandas().</p>'
    head = "".join(f'<th><span class="gv-top">{_shortened(name)}</span></th>' for name in columns)
    body = "".join(
        f"<tr><th>{_shortened(name)}</th>{''.join(map(_shade, row, [max(1, sum(row))] * len(columns)))}</tr>"
        for name, row in zip(rows, counts.tolist(), strict=True)
    )
    is_open = " open" if len(rows) <= 12 else ""
    return (
        f"<details{is_open}><summary>Confusion: rows are labels, columns what they were taken for</summary>"
        f'<table class="gv-grid"><tr><th></th>{head}</tr>{body}</table></details>'
    )


def _shade(count: int, total: int) -> str:
    share = count / total
    return f'<td style="background:rgb(0 150 136 / {0.75 * share:.2f})">{count or ""}</td>'


def _shortened(name: str) -> str:
    return escape(name if len(name) <= 22 else f"{name[:21]}…")


def _class(is_word: bool) -> str:
    return ' class="gv-words"' if is_word else ""


def _cell(value: Any, is_word: bool) -> str:
    return f"<td{_class(is_word)}>{escape(_text(value))}</td>"


def _text(value: Any) -> str:
    if value is None or value != value:  # noqa: PLR0124 - only NaN differs from itself
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) >= 1000 or 0 < abs(value) < 0.001 else f"{value:.4f}"
    text = f"{value:,}" if type(value) is int and abs(value) >= 10_000 else str(value)  # and years are not parted
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
