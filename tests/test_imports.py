"""Imports go one way, importing is light, and the public names are what they say."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import geovlm
from geovlm import _HOME_OF, _MODULES

PACKAGE = Path(geovlm.__file__).parent

# From the ground up. A module may import what stands on a lower floor, or its own package's private parts.
FLOORS = [
    {"errors", "_optional", "_progress", "_files", "_markup", "_together", "_torch", "_workers"},
    {"imaging", "_tiff"},
    {"records"},
    {"protocols"},
    {"registry", "_tables", "_parts", "_stream", "_images_on_disk", "_metrics", "_vectors", "_times", "_areas"}
    | {"_vocabulary"},
    {"_regions", "_geojson", "_blocks", "_engine"},
    {"_pairs", "_split", "_html", "_hits", "_places", "filters", "prompts"},
    {"sources", "encoders", "captioners", "stores", "dataset", "_search"},
    {"embedding", "captioning", "splitting", "transfer"},
    {"index", "training", "evaluation", "pixtral", "detection", "curation"},
    {"agents", "testing", "distributed"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {name: height for height, floor in enumerate(FLOORS) for name in floor}

# Modules of one floor that may know each other, each for a reason.
SAME_FLOOR = {
    ("imaging", "_tiff"),  # one reader in two files
    ("_tiff", "imaging"),
    ("_parts", "_tables"),  # a part is a table of records
    ("_hits", "_html"),  # hits show themselves as pages
    ("_html", "_hits"),  # and pages are typed by them
    ("_hits", "_places"),  # hits are joined into places
    ("_places", "_hits"),  # and places know theirs
    ("pixtral", "training"),  # one way to keep checkpoints and to write down losses
}


def _edges():
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        unit = parts[0]
        if unit == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "geovlm":
                rest = node.module.split(".")[1:]
                names = [rest[0]] if rest else [alias.name for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [a.name.split(".")[1] for a in node.names if a.name.startswith("geovlm.")]
            for name in names:
                if name != unit and name in FLOOR_OF:
                    yield path.relative_to(PACKAGE).as_posix(), unit, name


def test_every_module_has_a_floor():
    """A new module is placed on purpose."""
    units = {p.relative_to(PACKAGE).with_suffix("").parts[0] for p in PACKAGE.rglob("*.py")} - {"__init__"}
    assert units == set(FLOOR_OF)


def test_imports_never_go_up_or_sideways():
    wrong = [
        f"{path} imports {target}"
        for path, unit, target in _edges()
        if FLOOR_OF[target] >= FLOOR_OF[unit] and (unit, target) not in SAME_FLOOR
        if not (FLOOR_OF[target] == FLOOR_OF[unit] == 0)
    ]
    assert not wrong, wrong


def test_back_ends_do_not_know_each_other():
    """open_clip's encoder never imports the one of transformers, and so on."""
    kinds = {"encoders": {"openclip", "huggingface"}, "captioners": {"blip", "tags"}, "sources": {"folder", "table"}}
    for package, back_ends in kinds.items():
        for name in back_ends:
            text = (PACKAGE / package / f"{name}.py").read_text(encoding="utf-8")
            for other in back_ends - {name}:
                assert f"geovlm.{package}.{other}" not in text, f"{package}/{name} imports {other}"


def test_import_is_light_and_changes_nothing():
    """In a fresh process: no heavy library, no new warning filter, no log handler, nothing printed."""
    program = """
import sys, warnings, logging
filters, handlers = list(warnings.filters), list(logging.root.handlers)
import geovlm
names = {"torch", "transformers", "open_clip", "rasterio", "pandas", "pyarrow", "PIL", "numpy", "geopandas"}
heavy = names & set(sys.modules)
assert not heavy, heavy
assert warnings.filters == filters and logging.root.handlers == handlers
assert "FolderSource" in dir(geovlm)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == result.stderr == ""


def test_light_stages_bring_no_torch():
    """Tables, folders, the store and its index work where torch is not installed."""
    program = """
import sys
sys.modules["torch"] = None
import geovlm as gv
gv.FolderSource, gv.TableSource, gv.Dataset, gv.NumpyStore, gv.Index, gv.TagCaptioner, gv.caption, gv.embed, gv.Workflow
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_public_names_are_exactly_those_that_resolve():
    assert sorted(geovlm.__all__) == sorted(["__version__", *_HOME_OF, *_MODULES])
    for name in geovlm.__all__:
        assert getattr(geovlm, name) is not None


def test_type_checking_twin_matches():
    """The names that type checkers see are the names that programs get."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(n for n in tree.body if isinstance(n, ast.If))
    twin = {
        alias.name: node.module.removeprefix("geovlm").lstrip(".")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert twin == {**_HOME_OF, **dict.fromkeys(_MODULES, "")}


def test_unknown_name_is_an_attribute_error():
    with_typo = "FolderSorce"
    with pytest.raises(AttributeError, match=with_typo):
        getattr(geovlm, with_typo)


def test_public_names_have_docstrings():
    for name in _HOME_OF:
        value = getattr(geovlm, name)
        assert (value.__doc__ or "").strip(), name
    for name in _MODULES:
        assert importlib.import_module(f"geovlm.{name}").__doc__
