"""`geovlm doctor`."""

import os
import platform
import re
import sys
from importlib import metadata
from typing import Any

import geovlm as gv
from geovlm.cli import options as o
from geovlm.cli.output import Result

KEYS = ("MISTRAL_API_KEY", "ASTRA_DB_API_ENDPOINT", "ASTRA_DB_APPLICATION_TOKEN", "HF_TOKEN")
REQUIREMENT = re.compile(r"\s*([\w.-]+)(?:\[[^\]]*\])?[^;]*(?:;.*extra\s*==\s*['\"]([\w-]+)['\"])?")


def doctor(*, format_: o.Format = None, out: o.Out = None) -> None:
    """Tell what is installed here and what is missing: for a look before work, and for reports of bugs.

    Nothing secret is shown: of keys only whether they are set.

    \b
    Examples:
      geovlm doctor
      geovlm doctor --format json
    """  # noqa: D301 - \b keeps lines apart
    from geovlm._html import page
    from geovlm._markup import listing

    found = _examine()
    Result(
        table=lambda: "\n".join(f"{name:<24} {_text(value)}" for name, value in found.items()),
        json=lambda: found,
        html=lambda: page("geovlm doctor", listing({name: _text(value) for name, value in found.items()})),
    ).write(format_, out)


def _examine() -> dict[str, Any]:
    missing = _missing()
    return {
        "geovlm": gv.__version__,
        "python": f"{platform.python_version()} on {platform.platform()}",
        "devices": _devices(),
        "extras installed": sorted(name for name, libraries in missing.items() if not libraries),
        **{f"extra {name}": f"needs {', '.join(rest)}" for name, rest in sorted(missing.items()) if rest},
        **{key: "set" if os.environ.get(key) else "not set" for key in KEYS},
    }


def _text(value: Any) -> str:
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)


def _missing() -> dict[str, list[str]]:
    """Of each extra the libraries that are not installed."""
    missing: dict[str, list[str]] = {}
    for text in metadata.requires("geovlm") or ():
        found = REQUIREMENT.match(text)
        if found and found.group(2):
            library, extra = found.groups()
            absent = missing.setdefault(extra, [])
            if library != "geovlm" and not _is_installed(library):
                absent.append(library)
    return missing


def _is_installed(library: str) -> bool:
    try:
        metadata.version(library)
    except metadata.PackageNotFoundError:
        return False
    return True


def _devices() -> list[str]:
    """What torch can compute on."""
    if not _is_installed("torch"):
        return ["no torch"]
    import torch

    found = [f"cuda:{number} ({torch.cuda.get_device_name(number)})" for number in range(torch.cuda.device_count())]
    mps = ["mps"] if sys.platform == "darwin" and torch.backends.mps.is_available() else []
    return [*found, *mps, f"cpu ({os.cpu_count()} cores)"]
