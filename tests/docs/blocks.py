"""The code blocks of a page in Markdown, run in order and in one namespace, like the cells of a notebook."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from attrs import frozen

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

FENCE = re.compile(r"^( *)```([^`\n]*)\n(.*?)^\1```[ ]*$", flags=re.MULTILINE | re.DOTALL)


@frozen(kw_only=True)
class Block:
    """A fenced block: its language, its text without the fence's indent, and the line of the page it begins on."""

    page: Path
    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page=page,
            language=(match[2].split() or [""])[0],
            text=re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE),
            line=text.count("\n", 0, match.start(3)),
        )
        for match in FENCE.finditer(text)
    ]


def run(block: Block, names: dict[str, Any]) -> None:
    """Run a Python block; what stands alone on its last line is shown, as a notebook does.

    Tracebacks name the page and its line.
    """
    tree = ast.parse(block.text, filename=str(block.page))
    ast.increment_lineno(tree, block.line)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, block.page, "exec"), names)
    if last is not None:
        _show(eval(compile(ast.Expression(last.value), block.page, "eval"), names))


def _show(value: Any) -> None:
    assert isinstance(repr(value), str)
    for name in ("_repr_html_", "_repr_mimebundle_"):
        if hasattr(value, name):
            getattr(value, name)()
