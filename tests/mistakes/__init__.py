"""The mistakes that people make most, each tried: what geovlm says to it, and what to do.

`docs/errors.md` is made of this table (`python -m tests.mistakes`), and `test_error_messages.py` holds both together.
"""

from importlib import import_module

from tests.mistakes.kit import MISTAKES, QUIET, lay_out
from tests.mistakes.page import PAGE, render

__all__ = ["MISTAKES", "PAGE", "QUIET", "lay_out", "render"]

# In the order of the page; each adds its rows to the table.
PARTS = ("files", "models", "search", "detection", "training", "evaluation", "runs", "hosted", "astra", "silence")
for part in PARTS:
    import_module(f"tests.mistakes.{part}")
