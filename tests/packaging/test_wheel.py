"""What is in the wheel and the sdist, and what they say of themselves."""

from __future__ import annotations

import email
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import geovlm

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Both, built as a packager does, with the build back end that is installed."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT], check=True, capture_output=True
    )
    [wheel], [sdist] = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def metadata(built):
    with zipfile.ZipFile(built[0]) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def test_the_wheel_has_the_package_and_nothing_else(built):
    with zipfile.ZipFile(built[0]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    source = ROOT / "src"
    kept = {path.relative_to(source).as_posix() for path in (source / "geovlm").rglob("*") if path.is_file()}
    assert names == {name for name in kept if "__pycache__" not in name}
    assert "geovlm/py.typed" in names


def test_the_sdist_builds_without_the_repository(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = ["pyproject.toml", "README.md", "LICENSE", "CITATION.cff", "CHANGELOG.md", "constraints.txt", "Makefile"]
    assert not set(wanted) - names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", "site/"))]


def test_the_metadata_is_complete(metadata):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (metadata["Name"], metadata["Version"]) == ("geovlm", geovlm.__version__)
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0 AND BSD-2-Clause"  # the second is Leaflet's, which is inside
    assert len(metadata.get_all("License-File")) == 2
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert len(metadata["Summary"]) < 120
    assert set(metadata.get_all("Provides-Extra")) == set(project["optional-dependencies"])


def test_each_extra_has_a_program_that_uses_it(metadata):
    """`make package-check` runs them in environments of their own."""
    programs = {path.stem for path in (Path(__file__).parent / "uses").glob("*.py")}
    assert programs == {*metadata.get_all("Provides-Extra"), "core"}


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == geovlm.__version__
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)


def test_the_change_log_knows_this_version():
    assert f"## {geovlm.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
