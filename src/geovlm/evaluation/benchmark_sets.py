"""The data sets of the SkyScript benchmark, as data: where they are, which files, which words, which number.

The protocol is that of Wang et al., "SkyScript: a large and semantically diverse vision-language dataset for remote
sensing" (AAAI 2024), as its repository runs it: https://github.com/wangzhecheng/SkyScript.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from attrs import frozen

from geovlm.errors import UnknownName

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BENCHMARK_SETS", "EIGHT_SETS", "SEVEN_SETS", "BenchmarkSet", "find_set"]

ARCHIVES = "https://opendatasharing.s3.us-west-2.amazonaws.com/SkyScript/benchmark"


@frozen(kw_only=True)
class BenchmarkSet:
    """One data set of the benchmark.

    Args:
        name: What papers call it.
        folder: Its folder in the archives of SkyScript.
        task: `"classification"`, scored by accuracy, or `"retrieval"`, scored by mean recall.
        aliases: Other names that its folder has, in small letters and digits only.
        tables: Names of the tables that say which images count, the right one first, in `fnmatch`'s patterns.
        splits: The parts of it that are tested, where folders or a table have parts; the first that is there.
        labels: The columns of the table that may hold the labels, the right one first.
        classnames: The files that may hold the names of the classes, the right one first.
        subject: What the classes are kinds of; stands before the name in the prompts ("building, flat").
        caption: What each caption is put into.
        images: How many images the published figures are on, where that is known.

    Examples:
        >>> BENCHMARK_SETS["AID"].is_called("aid"), BENCHMARK_SETS["AID"].images
        (True, 2000)
    """

    name: str
    folder: str
    task: Literal["classification", "retrieval"] = "classification"
    aliases: frozenset[str] = frozenset()
    tables: tuple[str, ...]
    splits: tuple[str, ...] = ("test", "val", "train")
    labels: tuple[str, ...] = ("label",)
    classnames: tuple[str, ...] = ("classnames.txt",)
    subject: str | None = None
    caption: str = "a satellite image. {}"
    images: int | None = None

    @property
    def url(self) -> str:
        """The archive with its images, table and class names."""
        return f"{ARCHIVES}/{self.folder}.zip"

    def is_called(self, name: str) -> bool:
        """Whether a folder of that name holds it; capitals, dashes and underscores do not matter."""
        return plain(name) in {plain(self.name), plain(self.folder), *self.aliases}


def plain(name: str) -> str:
    """A name in small letters and digits only."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _scenes(name: str, folder: str, *aliases: str, table: str, images: int | None = None) -> BenchmarkSet:
    split = table.removesuffix(".csv").rpartition("_")[2]
    return BenchmarkSet(
        name=name,
        folder=folder,
        aliases=frozenset(aliases),
        tables=(table, f"*img_txt_pairs_{split}.csv"),
        splits=tuple(dict.fromkeys((split, "test", "val", "train"))),
        images=images,
    )


def _kinds(name: str, subject: str, images: int) -> BenchmarkSet:
    """Fine-grained classes, in two versions of which the papers report the first."""
    return BenchmarkSet(
        name=name,
        folder=name,
        tables=("img_txt_pairs_test.csv",),
        labels=("label_v1", "label"),
        classnames=("classnames_v1.txt", "classnames.txt"),
        subject=subject,
        images=images,
    )


def _captions(name: str, folder: str, *aliases: str, images: int | None = None) -> BenchmarkSet:
    return BenchmarkSet(
        name=name,
        folder=folder,
        task="retrieval",
        aliases=frozenset(aliases),
        tables=(
            f"{folder.lower()}_img_txt_pairs_test.csv",
            "*img_txt_pairs_test.csv",
            "dataset*.json",
            "captions.json",
        ),
        splits=("test",),
        images=images,
    )


# Numbers of images: AID, EuroSAT and the fine-grained sets by the published percentages, each of which must be a whole
# number of images; UCM-captions by the output in SkyScript's notebook; RSICD and RSITMD by their test splits.
_ALL = (
    _scenes("SkyScript_cls", "SkyScript_cls", "skyscript", table="img_txt_pairs_val.csv"),
    _scenes("AID", "aid", table="aid_img_txt_pairs_test.csv", images=2000),
    _scenes("EuroSAT", "eurosat", "eurosatrgb", "2750", table="eurosat_img_txt_pairs_test.csv", images=2700),
    _scenes("fMoW", "fmow", "fmowrgb", table="fmow_img_txt_pairs_val.csv"),
    _scenes("Million-AID", "millionaid", "maid", table="img_txt_pairs_train.csv"),
    _scenes("PatternNet", "patternnet", table="img_txt_pairs_train.csv"),
    _scenes("RESISC45", "nwpu", "nwpuresisc45", "nwpu45", "nwpuresisc", table="img_txt_pairs_train.csv"),
    _scenes("RSI-CB256", "rsicb256", "rsicb", table="img_txt_pairs_train.csv"),
    _kinds("roof_shape", "building", 600),
    _kinds("smoothness", "road", 500),
    _kinds("surface", "road", 440),
    _captions("RSICD", "RSICD", images=1093),
    _captions("RSITMD", "RSITMD", images=452),
    _captions("UCM-captions", "ucmcaptions", "ucm", "ucmcaption", images=210),
)

BENCHMARK_SETS: Mapping[str, BenchmarkSet] = MappingProxyType({one.name: one for one in _ALL})
"""The data sets by name, in the order of the papers' tables."""

SEVEN_SETS = ("AID", "EuroSAT", "fMoW", "Million-AID", "PatternNet", "RESISC45", "RSI-CB256")
"""What the SkyScript paper takes its mean over; its own set is not among them."""

EIGHT_SETS = ("SkyScript_cls", *SEVEN_SETS)
"""What FarSLIP and DOFA-CLIP take theirs over: not to be compared with a mean over seven."""


def find_set(name: str) -> BenchmarkSet | None:
    """The set that a name or a folder means, if any.

    Examples:
        >>> find_set("NWPU-RESISC45").name, find_set("rsicb").name, find_set("my farms")
        ('RESISC45', 'RSI-CB256', None)
    """
    return next((one for one in BENCHMARK_SETS.values() if one.is_called(name)), None)


def known_set(name: str) -> BenchmarkSet:
    """The set of that name.

    Raises:
        UnknownName: There is none; the message offers the nearest.
    """
    found = find_set(name)
    if found is None:
        raise UnknownName("set of the benchmark", name, BENCHMARK_SETS)
    return found
