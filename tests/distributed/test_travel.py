"""What goes to another process: models without the memory of a GPU, records with their pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
import torch
from PIL import Image
from ray import cloudpickle

from geovlm import Record, RotationEncoder, new_encoder
from geovlm.captioners.tags import TagCaptioner
from geovlm.distributed._travel import pack, pack_model, unpack_model
from geovlm.errors import ImageError
from geovlm.testing import HashEncoder
from tests.models import openclip_config, picture


def arrived(*records):
    return cloudpickle.loads(pack(records, cloudpickle.dumps))


@pytest.fixture(scope="module")
def encoder():
    return new_encoder(openclip_config(), device="cpu", dtype="bfloat16")


def test_records_arrive_as_they_were():
    scene = Image.new("I;16", (3, 2), 40_000)
    records = [
        Record(id="path", image="a/b.jpg", captions="x", label="Beach", meta={"year": 2024}),
        Record(id="pathlib", image=Path("a/b.jpg")),
        Record(id="bytes", image=b"\xff\xd8"),
        Record(id="picture", image=scene),
        Record(id="array", image=np.zeros((2, 3, 4), dtype=np.uint16)),
        Record(id="text"),
    ]
    found = arrived(*records)
    assert found == records
    assert [record.image for record in found[:3]] == [record.image for record in records[:3]]
    assert found[3].image.tobytes() == scene.tobytes()
    assert found[4].image.dtype == np.uint16


def test_a_function_that_cannot_travel_is_called_before():
    lock = Lock()

    def read():
        with lock:
            return picture(3)

    (record,) = arrived(Record(id="a", image=read, label="Beach"))
    assert record.label == "Beach"
    assert record.open().tobytes() == picture(3).tobytes()


def fail(lock):
    raise ImageError("the tile is gone")


def test_what_cannot_travel_is_one_failure():
    """The others of its batch are sent as they are."""
    lock = Lock()
    good, gone, odd = arrived(
        Record(id="good", image="a.jpg"),
        Record(id="gone", image=partial(fail, lock)),
        Record(id="odd", image="b.jpg", meta={"lock": lock}),
    )
    assert good.image == "a.jpg"
    for record, reason in ((gone, "the tile is gone"), (odd, "cannot be sent to a worker")):
        with pytest.raises(ImageError, match=reason):
            record.open()


def there(model, device="cpu"):
    return unpack_model(cloudpickle.loads(cloudpickle.dumps(pack_model(model))), device)


def test_an_encoder_computes_as_before(encoder):
    """In the precision that it has here, from the exact weights."""
    scenes = [picture(seed) for seed in range(3)]
    twin = there(encoder)
    assert (twin.dtype, twin.fingerprint) == ("bfloat16", encoder.fingerprint)
    assert twin.encode_images(scenes).tobytes() == encoder.encode_images(scenes).tobytes()


def test_another_back_end_is_made_again_where_it_arrives():
    """Also in an encoder around it; what it has compiled here stays here."""
    pytest.importorskip("openvino")
    inner = new_encoder(openclip_config(), device="cpu", dtype="float32").with_backend("openvino")
    encoder = RotationEncoder(inner)
    vectors = encoder.encode_images([picture(0)])
    encoder.encode_texts(["a river"])
    twin = there(encoder)
    assert twin._encoder.backend == inner.backend == "openvino"
    np.testing.assert_allclose(twin.encode_images([picture(0)]), vectors, atol=1e-5)


def test_parts_on_torch_move_and_the_rest_stays():
    """On the device `meta`, which every machine has."""
    inner = new_encoder(openclip_config(), device="cpu", dtype="float32")
    far = there(RotationEncoder(inner), "meta")
    assert next(far._encoder.model.parameters()).device.type == far._encoder.device == "meta"
    assert next(inner.model.parameters()).device.type == inner.device == "cpu"


def test_modules_of_captioners_move():
    class Captioner:
        def __init__(self):
            self.name = "mine"
            self.model = torch.nn.Linear(2, 2)

    captioner = Captioner()
    assert pack_model(captioner) is captioner
    assert there(captioner, "meta").model.weight.device.type == "meta"
    assert captioner.model.weight.device.type == "cpu"


@pytest.mark.parametrize("model", [HashEncoder(), TagCaptioner()])
def test_models_without_torch_are_left_alone(model):
    assert unpack_model(pack_model(model), "cuda:0") is model
