"""Where on the disk the data sets of a benchmark are: folders by their names, tables in them, images beside them."""

from __future__ import annotations

from fnmatch import fnmatch
from itertools import islice
from typing import TYPE_CHECKING

from geovlm._files import must_exist
from geovlm.errors import UsageError
from geovlm.evaluation.benchmark_sets import BENCHMARK_SETS, BenchmarkSet, find_set, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

# Archives are often unpacked into a folder of their own name, and images lie in a folder "images" or of any name.
MOST_FOLDERS = 500
TRIED = 64


def sets_in(root: Path) -> dict[str, Path]:
    """Folders of the benchmark's sets, by name, in the order of the papers' tables.

    Args:
        root: A folder that holds their folders, or that is the folder of one of them.

    Raises:
        UsageError: It does not exist, or two folders hold the same set.
    """
    must_exist(root)
    if not root.is_dir():
        raise UsageError(f"{root} is a file. Give the folder with the data sets, or a mapping from names to paths.")
    folders = subfolders(root)
    found = {name: _folder_of(one, folders) for name, one in BENCHMARK_SETS.items()}
    here = {name: folder for name, folder in found.items() if folder is not None}
    itself = find_set(root.resolve().name)
    return here or ({itself.name: root} if itself else {})


def _folder_of(one: BenchmarkSet, folders: Sequence[Path]) -> Path | None:
    named = [folder for folder in folders if one.is_called(folder.name)]
    exact = [folder for folder in named if plain(folder.name) == plain(one.folder)]
    if len(exact or named) > 1:
        raise UsageError(
            f"{' and '.join(str(folder) for folder in exact or named)} may both be {one.name}. Say which:"
            f" datasets={{{one.name!r}: path}}."
        )
    return next(iter(exact or named), None)


def nothing_found(root: Path) -> UsageError:
    """What to say where none of the benchmark's sets is."""
    folders = ", ".join(one.folder for one in BENCHMARK_SETS.values())
    seen = ", ".join(folder.name for folder in subfolders(root)[:8]) or "no folders"
    example = BENCHMARK_SETS["AID"].url
    return UsageError(
        f"No data set of the benchmark is in {root}: it holds {seen}. Looked for the folders {folders}. Unpack the"
        f" archives there, such as {example}, or give your own data: datasets={{'my scenes': FolderSource(…)}}."
    )


def find_table(folder: Path, patterns: Iterable[str]) -> tuple[Path, bool] | None:
    """The table of a set, in its folder or one below, and whether it is the published one."""
    places = [folder, *subfolders(folder)]
    for rank, pattern in enumerate(patterns):
        for place in places:
            match = next((file for file in _files(place) if fnmatch(file.name.lower(), pattern.lower())), None)
            if match is not None:
                return match, rank == 0
    return None


def find_file(names: Sequence[str], *, near: Path, top: Path) -> Path | None:
    """The first of some files, in the folder `near` or those above it, up to `top`."""
    folders = [near, *near.parents]
    if top in folders:
        folders = folders[: folders.index(top) + 1]
    paths = (folder / name for name in names for folder in folders[:4])
    return next((path for path in paths if path.is_file()), None)


def image_root(table: Path, paths: Sequence[str]) -> Path:
    """The folder that the paths in a table are relative to: the one under which most of the first ones exist.

    SkyScript's paths begin at the folder that holds all sets; Karpathy's files have bare names.

    Raises:
        UsageError: Under no folder is any of them.
    """
    above = table.parent
    folders = [above, above.parent, *subfolders(above), *subfolders(above.parent)]
    tried = list(islice(paths, TRIED))
    counts = {folder: sum((folder / path).is_file() for path in tried) for folder in dict.fromkeys(folders)}
    best = max(counts, key=lambda folder: counts[folder])
    if not counts[best]:
        raise UsageError(
            f"None of the first {len(tried)} images of {table} is there, such as {tried[0]!r}; looked below {above},"
            f" {above.parent} and their folders. Unpack the images beside the table."
        )
    return best


def class_root(folder: Path, splits: Sequence[str]) -> tuple[Path, str | None]:
    """The folder that holds the class folders, and the part of the set that it is.

    Goes down through folders that hold one folder only, into `images`, and into the part that is to be tested.
    """
    part: str | None = None
    for _ in range(6):
        inside = {plain(one.name): one for one in subfolders(folder)}
        split = next((name for name in (*splits, "validation") if name in inside), None)
        if "images" in inside:
            folder = inside["images"]
        elif split is not None and part is None:
            folder, part = inside[split], split
        elif len(inside) == 1 and subfolders(next(iter(inside.values()))):
            folder = next(iter(inside.values()))
        else:
            break
    return folder, part


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; hidden ones left out."""
    try:
        found = [entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.is_dir()]
    except OSError:
        return []
    return sorted(found)[:MOST_FOLDERS]


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in (".csv", ".json"))
    except OSError:
        return []
