"""Pages and strips of pictures: self-contained HTML, without scripts and without anything fetched.

Pictures are small JPEGs inside the page, so that one file can be mailed. Every text is escaped: ids, labels and
captions come from strangers' files.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from html import escape
from typing import TYPE_CHECKING

from attrs import field, frozen

from geovlm._files import write_atomically
from geovlm.errors import ImageError
from geovlm.imaging import open_image, to_data_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from geovlm._hits import Hit
    from geovlm.imaging import ImageLike
    from geovlm.records import Record

# Twice the width of a card, for sharp pictures on dense screens.
THUMBNAIL_SIDE = 320

CARD_STYLE = """
.gv-cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .9rem; margin: 0;
  padding: 0; }
.gv-card { margin: 0; min-width: 0; border-radius: .6rem; overflow: hidden; background: rgb(127 127 127 / .1);
  box-shadow: 0 0 0 1px rgb(127 127 127 / .22); font: .8rem/1.35 system-ui, sans-serif; }
.gv-picture { position: relative; aspect-ratio: 1; background: rgb(127 127 127 / .16); }
.gv-picture img { display: block; width: 100%; height: 100%; object-fit: cover; margin: 0; }
.gv-missing { display: grid; place-content: center; height: 100%; padding: .8rem; text-align: center; opacity: .65;
  overflow-wrap: anywhere; box-sizing: border-box; }
.gv-missing span { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 5; overflow: hidden; }
.gv-score { position: absolute; right: .4rem; bottom: .4rem; padding: .05rem .45rem; border-radius: 1rem; color: #fff;
  background: rgb(0 0 0 / .62); font-variant-numeric: tabular-nums; }
.gv-text { padding: .45rem .6rem .55rem; }
.gv-text > * { display: block; overflow: hidden; text-overflow: ellipsis; }
.gv-name, .gv-label { white-space: nowrap; }
.gv-label { font-weight: 600; }
.gv-name { opacity: .72; }
.gv-caption { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; margin-top: .15rem; }
"""

PAGE_STYLE = """
:root { color-scheme: light dark; --paper: #fbfbf9; --ink: #1d2226; --soft: #626b72; --line: #dfe2e1; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --ink: #e6e8e8; --soft: #9aa3a9; --line: #31373b; } }
body { margin: 0 auto; max-width: 76rem; padding: 2rem clamp(1rem, 4vw, 3rem) 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .7rem; padding-top: 1.2rem; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
.gv-note { color: var(--soft); margin: -.4rem 0 1rem; font-size: .9rem; }
pre { overflow-x: auto; padding: .8rem 1rem; border-radius: .5rem; background: rgb(127 127 127 / .1);
  font-size: .82rem; line-height: 1.45; }
"""


@frozen(kw_only=True)
class Section:
    """One row of pictures on a page.

    Args:
        heading: What was asked.
        hits: The answers, best first.
        note: A line below the heading.
    """

    heading: str
    hits: Sequence[Hit] = field(factory=tuple)
    note: str = ""


def results_page(title: str, sections: Iterable[Section], *, lead: str = "", out: Path | None = None) -> str:
    """A page with a row of pictures for every section.

    Args:
        title: The heading of the page.
        sections: The rows.
        lead: Text below the title, shown in fixed width as a report is.
        out: Where to write the page as well.

    Returns:
        The HTML.

    Raises:
        StorageError: The page cannot be written.
    """
    parts = [f"<pre>{escape(lead)}</pre>" if lead else "", *map(_section, sections)]
    text = page(title, *parts)
    if out is not None:
        write_atomically(out, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="replace"))
    return text


def page(title: str, *parts: str) -> str:
    """A page with a heading and pieces of HTML below it, such as `_repr_html_` gives; empty ones are left out."""
    body = [f"<h1>{escape(title)}</h1>", *parts]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{PAGE_STYLE}{CARD_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def card_strip(hits: Sequence[Hit]) -> str:
    """The pictures of hits, for a notebook cell."""
    return f"<style>{CARD_STYLE}</style>{_cards(hits)}"


def record_strip(records: Sequence[Record]) -> str:
    """The pictures of records, for a notebook cell."""
    return f"<style>{CARD_STYLE}</style>{_grid(_of_record(record) for record in records)}"


@frozen(kw_only=True)
class _Card:
    """A picture with what stands below it; `badge` lies on it."""

    image: ImageLike | None
    absent: str = "no picture is kept for this row"
    name: str
    label: str | None
    caption: object
    badge: str = ""


def _section(section: Section) -> str:
    note = section.note or ("" if section.hits else "Nothing was found.")
    return (
        f"<section>\n<h2>{escape(section.heading)}</h2>\n"
        + (f'<p class="gv-note">{escape(note)}</p>\n' if note else "")
        + f"{_cards(section.hits)}\n</section>"
    )


def _cards(hits: Sequence[Hit]) -> str:
    return _grid(_of_hit(hit) for hit in hits)


def _grid(cards: Iterable[_Card]) -> str:
    with ThreadPoolExecutor(max_workers=4) as pool:
        return f'<div class="gv-cards">{"".join(pool.map(_card, cards))}</div>'


def _of_hit(hit: Hit) -> _Card:
    captions = hit.metadata.get("captions")
    caption = captions[0] if isinstance(captions, list) and captions else None
    return _Card(image=hit.uri, name=hit.id, label=hit.label, caption=caption, badge=_score(hit))


def _of_record(record: Record) -> _Card:
    caption = record.captions[0] if record.captions else None
    return _Card(image=record.image, absent="no picture", name=record.id, label=record.label, caption=caption)


def _card(card: _Card) -> str:
    lines = [("label", card.label), ("name", card.name), ("caption", card.caption)]
    text = "".join(
        f'<span class="gv-{kind}" title="{escape(str(line))}">{escape(str(line))}</span>'
        for kind, line in lines
        if line is not None
    )
    badge = f'<span class="gv-score">{escape(card.badge)}</span>' if card.badge else ""
    return (
        f'<figure class="gv-card"><div class="gv-picture">{_picture(card)}{badge}</div>'
        f'<figcaption class="gv-text">{text}</figcaption></figure>'
    )


def _score(hit: Hit) -> str:
    return f"{hit.score:.3f}" if hit.probability is None else f"{hit.score:.3f} · {hit.probability:.0%}"


def _picture(card: _Card) -> str:
    if card.image is None:
        return _missing(card.absent)
    try:
        url = to_data_url(open_image(card.image, size_hint=THUMBNAIL_SIDE), max_side=THUMBNAIL_SIDE, quality=80)
    except ImageError as error:
        return _missing(f"no picture: {error.reason}")
    except Exception as error:  # noqa: BLE001 - an image may be a function of the user's, and this shows many
        return _missing(f"no picture: {type(error).__name__}: {error}")
    return f'<img src="{url}" alt="{escape(card.name)}" loading="lazy">'


def _missing(reason: str) -> str:
    return f'<div class="gv-missing"><span>{escape(reason)}</span></div>'
