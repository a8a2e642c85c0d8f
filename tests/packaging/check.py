"""Installs the built wheel with each extra in an environment of its own, and uses what the extra brings.

    python tests/packaging/check.py dist/geovlm-….whl [--extras core lance …]

`make package-check` builds the wheel and runs this. It is no part of `make test`, because it takes half an hour and
installs torch several times. The programs in `uses/` run outside the repository, so that they find only what is in the
wheel.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

HERE = Path(__file__).parent
CONSTRAINTS = HERE.parents[1] / "constraints.txt"
EXTRAS = [path.stem for path in sorted((HERE / "uses").glob("*.py"))]


def check(wheel: Path, extra: str, folder: Path) -> str:
    """Install and use one extra; says what went wrong, or nothing."""
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    wanted = str(wheel) if extra == "core" else f"{wheel}[{extra}]"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", CONSTRAINTS]
    place = folder / "work"
    place.mkdir()
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "GEOVLM_PROGRESS": "0"}
    settings.pop("PYTHONPATH", None)
    for step in ([*install, wanted], [python, "-m", "pip", "check"], [python, "-P", HERE / "uses" / f"{extra}.py"]):
        done = subprocess.run(step, cwd=place, env=settings, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stdout + done.stderr).strip()
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--extras", nargs="+", choices=EXTRAS, default=EXTRAS)
    arguments = parser.parse_args()
    failed = False
    for extra in arguments.extras:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as temporary:
            wrong = check(arguments.wheel.resolve(), extra, Path(temporary))
        print(f"{extra}: {wrong or 'works'} ({time.monotonic() - started:.0f} s)", flush=True)
        failed |= bool(wrong)
    sys.exit(failed)


if __name__ == "__main__":
    main()
