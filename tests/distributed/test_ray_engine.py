"""`embed` and `caption` on Ray: the same bytes as here, whatever dies on the way."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
from PIL import Image

from geovlm import Record, caption, embed, new_encoder
from geovlm.distributed import RayEngine
from geovlm.errors import MissingExtra, UsageError
from geovlm.protocols import Engine
from geovlm.testing import EchoCaptioner, HashEncoder
from tests.distributed.conftest import CORES
from tests.models import openclip_config, picture, save_pictures

ray = pytest.importorskip("ray")


def written(folder):
    """Every file that a run leaves, but for its lock."""
    files = (path for path in sorted(Path(folder).rglob("*")) if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def colours(count):
    return [Record(id=f"{n}", image=Image.new("RGB", (4, 4), (n % 256, 90, 7 * n % 256))) for n in range(count)]


def mixed(folder):
    """Twelve files, one of them broken, and everything else that can be an image."""
    paths = save_pictures(folder, 12)
    paths[5].write_bytes(b"not a picture")
    lock = Lock()

    def locked():
        with lock:
            return picture(50)

    others = [os.path.relpath(paths[0]), paths[1].read_bytes(), np.asarray(picture(9)), picture(8), locked, None]
    images = [*map(str, paths), *others]
    return [Record(id=f"{number:02}", image=image, meta={"n": number}) for number, image in enumerate(images)]


def test_the_bytes_are_those_of_one_process(cluster, tmp_path):
    """Two workers, three parts, all kinds of images, failures; and again from all finished."""
    encoder = new_encoder(openclip_config(), device="cpu", dtype="float32")
    records = mixed(tmp_path / "scenes")
    settings = {"batch_size": 4, "progress": False}
    here = embed(records, encoder, out=tmp_path / "here", **settings)
    there = embed(records, encoder, out=tmp_path / "there", engine=RayEngine(workers=2), **settings)
    assert (there.report.done, there.report.failed) == (16, 2)
    assert there.report.failures == here.report.failures
    assert written(tmp_path / "there") == written(tmp_path / "here")
    again = embed(records[:5], encoder, out=tmp_path / "there", engine=RayEngine(workers=2), **settings)
    assert (again.report.done, again.report.skipped) == (0, 5)


def deadly(folder, poison):
    """An encoder whose process dies once midway, and always at one picture."""

    class Deadly(HashEncoder):
        def encode_images(self, images):
            levels = [image.getpixel((0, 0))[0] for image in images]
            marker = folder / "died"
            if poison in levels or (20 in levels and not marker.exists()):
                with (folder / "deaths").open("a") as file:
                    file.write("x")
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().encode_images(images)

    return Deadly(dim=8)


def test_killed_workers_lose_nothing(cluster, tmp_path):
    """The batches of a worker that was killed are computed again; a picture that kills every worker is a failure."""
    records = colours(40)
    poison = 30
    found = embed(records, deadly(tmp_path, poison), batch_size=4, engine=RayEngine(workers=2), progress=False)
    wanted = embed(records, HashEncoder(dim=8), batch_size=4)
    assert [failure.id for failure in found.report.failures] == ["30"]
    assert "worker died" in found.report.failures[0].reason
    ids, vectors = wanted.to_numpy()
    keep = [place for place, key in enumerate(ids) if key != "30"]
    assert found.to_numpy()[0] == [ids[place] for place in keep]
    assert found.to_numpy()[1].tobytes() == vectors[keep].tobytes()
    assert 4 <= len((tmp_path / "deaths").read_text()) <= 6


def free_cores():
    return ray.available_resources().get("CPU", 0)


def test_a_stopped_run_goes_on(cluster, tmp_path):
    """The driver stops between two parts; the next call, with another number of workers, ends with the same bytes."""
    records = colours(1200)

    def stops_after(count):
        yield from records[:count]
        raise KeyboardInterrupt

    encoder, settings = HashEncoder(dim=8), {"batch_size": 64, "progress": False}
    out = tmp_path / "there"
    with pytest.raises(KeyboardInterrupt):
        embed(stops_after(900), encoder, out=out, engine=RayEngine(workers=1), **settings)
    assert len(list(out.glob("part-*"))) == 1
    end = time.monotonic() + 30
    while free_cores() < CORES and time.monotonic() < end:  # the workers of the stopped run are let go
        time.sleep(0.1)
    assert free_cores() == CORES
    rest = embed(records, encoder, out=out, engine=RayEngine(workers=2), **settings)
    assert (rest.report.done, rest.report.skipped) == (1200 - 512, 512)
    embed(records, encoder, out=tmp_path / "here", **settings)
    assert written(out) == written(tmp_path / "here")


def test_captions_are_those_of_one_process(cluster, tmp_path, monkeypatch):
    """Pictures in memory are saved by the worker, where the caller meant; two batches are in it at once."""
    monkeypatch.chdir(tmp_path)
    records = [*colours(10), Record(id="broken", image=b"?")]
    here = caption(records, EchoCaptioner(), out="here", batch_size=4)
    there = caption(records, EchoCaptioner(), out="there", batch_size=4, engine=RayEngine(num_cpus=2))
    assert there.report.failures == here.report.failures
    assert len(there.report.failures) == 1
    assert written("there") == written("here")


def test_errors_that_are_no_fault_of_images_are_raised_here(cluster):
    """With their own types and words; and an endless source is read no further than the workers need."""

    class Wrong(HashEncoder):
        def encode_images(self, images):
            return super().encode_images(images)[:, :4]

    pulled = []

    def endless():
        for record in colours(100_000):
            pulled.append(record.id)
            yield record

    with pytest.raises(UsageError, match=r"returned an array of shape \(1, 4\) for 1 images"):
        embed(endless(), Wrong(dim=8), batch_size=2, engine=RayEngine(), progress=False)
    assert len(pulled) <= 10


def test_nothing_to_do_starts_nothing():
    assert len(embed([], HashEncoder(), engine=RayEngine(address="no such cluster"))) == 0


def test_a_model_that_cannot_be_sent_is_told(cluster):
    class Locked(HashEncoder):
        def __getstate__(self):
            raise TypeError("cannot pickle a lock")

    with pytest.raises(UsageError, match=r"Locked cannot be sent to workers \(cannot pickle a lock\)"):
        embed(colours(1), Locked(), engine=RayEngine(), progress=False)


def test_a_worker_that_fits_nowhere_is_told(cluster):
    with pytest.raises(UsageError, match="needs 1 CPUs and 1 GPUs, and no machine has as many: this one has 2 and 0"):
        embed(colours(1), HashEncoder(), engine=RayEngine(num_gpus=1), progress=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "workers is a whole number"),
        ({"num_cpus": 0}, "more than 0"),
        ({"num_gpus": 2}, "0 to 1"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(UsageError, match=message):
        RayEngine(**settings)


@pytest.mark.parametrize("wrong", ["ray", RayEngine])
def test_what_is_no_engine_is_told(wrong, tmp_path):
    with pytest.raises(UsageError, match=r"geovlm\.distributed\.RayEngine"):
        embed(colours(1), HashEncoder(), engine=wrong, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert isinstance(RayEngine(), Engine)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(MissingExtra, match=r"geovlm\[ray\]"):
        embed(colours(1), HashEncoder(), engine=RayEngine(), progress=False)
