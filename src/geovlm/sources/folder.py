"""A folder of images; folders inside it are classes."""

from __future__ import annotations

import os
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from attrs import field, frozen
from PIL import Image, ImageFile

from geovlm._files import must_exist
from geovlm.errors import ImageError, UsageError
from geovlm.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FolderSource", "image_extensions"]

# Cameras write these as JPEGs with more frames; Pillow opens them as JPEG and lists the extension for saving only.
ALSO_READABLE = {".mpo"}
# Named where a folder holds no image; Pillow knows ten times as many.
COMMON = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".jp2", ".webp")
# Recognised but never decoded.
NOT_IMAGES = {"MPEG"}


def image_extensions() -> frozenset[str]:
    """The extensions of the formats that Pillow decodes, plug-ins registered by other packages included.

    Examples:
        >>> {".jpg", ".tif", ".jp2", ".webp"} <= image_extensions()
        True
    """
    Image.init()
    formats = {name for name, (factory, _) in Image.OPEN.items() if not _is_stub(factory)} - NOT_IMAGES
    return frozenset(ending for ending, name in Image.EXTENSION.items() if name in formats) | ALSO_READABLE


def _is_stub(factory: object) -> bool:
    """Whether Pillow only knows the format's name (HDF5, GRIB) and needs another package to decode it."""
    return isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile)


def _to_root(path: str | os.PathLike[str]) -> Path:
    return Path(path).expanduser().absolute()


@frozen
class FolderSource:
    """The images in a folder, in the order of their paths.

    A record's id is the path below `root` with forward slashes, so that files of one name in two folders differ.
    Files are chosen by extension (every format that Pillow decodes) and not opened: a broken one is yielded, and fails
    where it is used. Hidden files and folders are left out, links are followed, but not in circles. A folder that
    cannot be listed is yielded as one record that fails with the reason. Memory holds one folder's names at a time.

    Args:
        root: The folder; `~` is the home folder.
        recursive: Look into folders below it.
        class_folders: Take the name of the first folder below `root` as the label; images directly in `root` have none.

    Raises:
        UsageError: The folder does not exist, is a file, cannot be read or holds no image.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("Beach/1.png", "Port/1.png"):
        ...         (Path(root) / name).parent.mkdir()
        ...         Image.new("RGB", (8, 8)).save(Path(root) / name)
        ...     source = FolderSource(root)
        ...     print([(record.id, record.label) for record in source], source.labels, len(source))
        [('Beach/1.png', 'Beach'), ('Port/1.png', 'Port')] ['Beach', 'Port'] 2
    """

    root: Path = field(converter=_to_root)
    recursive: bool = field(default=True, kw_only=True)
    class_folders: bool = field(default=True, kw_only=True)

    def __attrs_post_init__(self) -> None:
        must_exist(self.root)
        if not self.root.is_dir():
            raise UsageError(f"{self.root} is a file, not a folder. For a table of images, use TableSource.")
        if next(self._walk(), None) is None:
            where = "in it or below" if self.recursive else "directly in it (recursive=True looks into its folders)"
            others = len(image_extensions()) - len(COMMON)
            raise UsageError(
                f"{self.root} holds no image {where}. Looked for files that end in {' '.join(COMMON)} and {others}"
                f" rarer endings; {self._instead()}."
            )

    def _instead(self) -> str:
        with os.scandir(self.root) as entries:
            found = sorted(entry.name for entry in islice(entries, 1000))
        return f"there is only {', '.join(found[:3])}{' …' if found[3:] else ''}" if found else "it is empty"

    def __iter__(self) -> Iterator[Record]:
        for below, error in self._walk():
            yield self._record(below, error)

    def __len__(self) -> int:
        return sum(1 for _ in self._walk())

    @property
    def labels(self) -> list[str]:
        """The names of the class folders that hold images, sorted; empty for a flat folder."""
        if not self.class_folders or not self.recursive:
            return []
        folders = [name for name in _listing(self.root, frozenset()) if name.endswith("/")]
        return [_text(name[:-1]) for name in sorted(folders) if next(self._walk(name), None) is not None]

    def _walk(self, below: str = "") -> Iterator[tuple[str, OSError | None]]:
        return _walk(self.root, below, image_extensions(), recursive=self.recursive, inside=frozenset())

    def _record(self, below: str, error: OSError | None) -> Record:
        name = _text(below)
        first, slash, _ = name.partition("/")
        path = os.path.join(self.root, below)  # noqa: PTH118 - a Path for each of millions of files is slow
        return Record(
            id=name,
            image=partial(_fail, path, error) if error else path if name == below else partial(_read, path),
            label=first if slash and self.class_folders else None,
        )


def _walk(
    root: Path, below: str, extensions: frozenset[str], *, recursive: bool, inside: frozenset[tuple[int, int]]
) -> Iterator[tuple[str, OSError | None]]:
    """Paths below `root`, in order; a folder that cannot be listed comes with its error."""
    folder = root / below
    try:
        state = folder.stat()
        here = (state.st_dev, state.st_ino)
        names = [] if here in inside else _listing(folder, extensions)
    except OSError as error:
        if not below:
            raise UsageError(f"{root} cannot be read ({error.strerror or error}).") from error
        yield below, error
        return
    for name in names:
        if not name.endswith("/"):
            yield below + name, None
        elif recursive:
            yield from _walk(root, below + name, extensions, recursive=True, inside=inside | {here})


def _listing(folder: Path, extensions: frozenset[str]) -> list[str]:
    """Names of images and, with a slash at the end, of folders; so sorted, whole paths come out in their order."""
    with os.scandir(folder) as entries:
        return sorted(name for entry in entries if (name := _name(entry, extensions)))


def _name(entry: os.DirEntry[str], extensions: frozenset[str]) -> str | None:
    if entry.name.startswith("."):
        return None
    if _is_folder(entry):
        return entry.name + "/"
    return entry.name if _is_image(entry, extensions) else None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def _is_image(entry: os.DirEntry[str], extensions: frozenset[str]) -> bool:
    if os.path.splitext(entry.name)[1].lower() not in extensions:  # noqa: PTH122 - as above, speed
        return False
    if not entry.is_symlink():
        return entry.is_file()  # pipes and sockets would wait forever
    target = Path(entry.path)
    return target.is_file() or not target.exists()


def _text(name: str) -> str:
    r"""A name that can be stored: bytes that are no UTF-8 are written as `\xe9`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def _fail(path: str, error: OSError) -> NoReturn:
    raise ImageError(f"the folder could not be listed ({error.strerror or error})", uri=_text(path)) from error
