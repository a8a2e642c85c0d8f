"""Train from a file of settings: on one machine, or in many processes under `torchrun`.

python -m geovlm.training recipe.toml
torchrun --nproc-per-node 8 -m geovlm.training recipe.toml
python -m geovlm.training --example > recipe.toml
"""

from __future__ import annotations

import argparse
import os
import sys

from geovlm.errors import GeovlmError
from geovlm.training.recipe import EXAMPLE, Recipe


def main() -> int:
    """The exit status: 0, or 1 where something was wrong that a person can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m geovlm.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("recipe", nargs="?", help="a TOML file")
    what.add_argument("--example", action="store_true", help="write a recipe to begin with")
    arguments = parser.parse_args()
    if arguments.example:
        sys.stdout.write(EXAMPLE)
        return 0
    try:
        result = Recipe.read(arguments.recipe).run()
    except GeovlmError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write(f"{result.data}\n{result.report}\nThe encoder is in {result.path / 'encoder'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
