"""The page that tells of the mistakes."""

from __future__ import annotations

from pathlib import Path

from tests.mistakes.kit import MISTAKES, NO_ERROR, QUIET, Mistake

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
HEAD = """# When something goes wrong

Every error that geovlm raises on purpose is a `geovlm.GeovlmError`, and its message says what to do next. These are the
likeliest ones. Each row is tried by the tests (`tests/mistakes`), so this is what you will read; … stands for what
differs from case to case. What each kind of error is for: [Errors](api/errors.md).
"""


def render() -> str:
    parts = dict.fromkeys(one.part for one in MISTAKES)
    tables = (f"\n## {part}\n\n{_table([one for one in MISTAKES if one.part == part])}" for part in parts)
    return f"{HEAD}{''.join(tables)}\n## {NO_ERROR}\n\n{_table(QUIET)}"


def _table(rows: list[Mistake]) -> str:
    lines = [f"| {one.title} | {_cell(one)} | {one.remedy} |\n" for one in rows]
    return "| mistake | what geovlm says | what to do |\n| --- | --- | --- |\n" + "".join(lines)


def _cell(one: Mistake) -> str:
    return one.says if one.part == NO_ERROR else f"`{one.says}`"
