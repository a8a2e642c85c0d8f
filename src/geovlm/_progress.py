"""Progress bars: there by default where a person looks, silent elsewhere, one switch for all."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

OFF_VALUES = {"0", "false", "no", "off"}


def is_on(progress: bool | None) -> bool:
    """Resolve a `progress=` argument: `None` means on for a terminal or notebook.

    `GEOVLM_PROGRESS=0` turns every bar off that was not asked for by name; `GEOVLM_PROGRESS=1` turns
    them on where there is no terminal.
    """
    if progress is not None:
        return progress
    switch = os.environ.get("GEOVLM_PROGRESS", "").lower()
    if switch:
        return switch not in OFF_VALUES
    in_notebook = "ipykernel" in sys.modules
    return in_notebook or (sys.stderr is not None and sys.stderr.isatty())


def bar(progress: bool | None, *, total: int | None, desc: str, unit: str, initial: int = 0) -> tqdm[Any]:
    """Open a progress bar; a switched-off bar takes the same calls and shows nothing.

    A notebook with ipywidgets shows a widget; one without them, and a terminal, a line on standard error.
    """
    with warnings.catch_warnings():
        # tqdm tells people without ipywidgets to install it, when it is first imported; the line will do.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm

    return tqdm(total=total, desc=desc, unit=unit, initial=initial, disable=not is_on(progress), dynamic_ncols=True)
