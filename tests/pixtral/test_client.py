"""The client over real HTTP: what is sent, what comes back."""

from __future__ import annotations

import base64
import io
import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

import geovlm as gv
from geovlm.errors import ImageError, ServiceError, UsageError
from geovlm.pixtral import LabelSet, VisionGrid
from geovlm.testing.mistral_api import MistralEmulator, Refused, labels_of, text_of
from tests.mistral import scene

LABELS = ["Beach", "DenseResidential", "Forest"]


def sent(api, place=-1):
    return api.log.of("chat.complete")[place].body


def images_sent(api, place=-1):
    chunks = [c for m in sent(api, place)["messages"] if isinstance(m["content"], list) for c in m["content"]]
    return [chunk for chunk in chunks if chunk["type"] == "image_url"]


def pixels(chunk):
    return Image.open(io.BytesIO(base64.b64decode(chunk["image_url"]["url"].partition(",")[2])))


def test_ask_sends_all_images_in_one_request(api, connect):
    answer = connect().ask("What changed?", [scene(1), scene(2)], instructions="Be brief.")
    body = sent(api)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert body["messages"][0]["content"] == "Be brief."
    assert [chunk["type"] for chunk in body["messages"][1]["content"]] == ["image_url", "image_url", "text"]
    assert body["temperature"] == 0.0
    assert answer.text.startswith("An overhead image of 64x48 px")
    assert answer.finish_reason == "stop"
    assert not answer.is_cut_off
    charge = api.log.charges[0]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        charge.prompt_tokens,
        charge.completion_tokens,
    )


def test_images_are_always_objects_with_a_jpeg_url(api, connect):
    connect().ask("?", scene(1))
    (chunk,) = images_sent(api)
    assert set(chunk) == {"type", "image_url"}
    assert set(chunk["image_url"]) == {"url"}
    assert chunk["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert pixels(chunk).format == "JPEG"


def test_the_key_goes_as_a_bearer_token(api, connect):
    connect().ask("Hello")
    assert api.log.records[0].headers["authorization"] == f"Bearer {api.api_key}"


def test_every_form_of_an_image_is_taken(api, connect, tmp_path):
    path = tmp_path / "a.png"
    scene(3).save(path)
    forms = [
        gv.Record(id="r", image=path),
        path,
        str(path),
        path.read_bytes(),
        scene(3),
        np.asarray(scene(3)),
        lambda: scene(3),
    ]
    answers = connect(concurrency=1).caption(forms)
    assert len({answer.text for answer in answers}) == 1
    assert len(answers) == len(forms)


def test_classify_one_and_many(api, connect):
    api.chat.brain = lambda body: "dense residential" if "DenseResidential" in text_of(body) else "?"
    client = connect()
    one = client.classify(scene(1), LABELS)
    assert (one.label, one.parsed, one.hallucinated) == ("DenseResidential", True, False)
    assert one.text == "dense residential"
    assert one.model == "pixtral-12b-2409"
    assert one.usage.total_tokens > 0
    many = client.classify([scene(1), scene(2)], LabelSet(LABELS))
    assert [result.label for result in many] == ["DenseResidential"] * 2
    assert client.classify((scene(1),), LABELS)[0] == one


def test_results_stay_with_their_images(api, connect):
    """Answers depend on the image and come at the same time; each is with its own."""
    scenes = [scene(seed) for seed in range(12)]
    client = connect(concurrency=6)
    together = [answer.text for answer in client.caption(scenes)]
    alone = [client.caption(image).text for image in scenes]
    assert together == alone
    assert len(set(alone)) == 12


def test_a_hallucinated_label_is_never_mapped(api, connect):
    api.chat.brain = lambda body: '```json\n{"label": "Vineyard"}\n```'
    result = connect().classify(scene(1), LABELS)
    assert (result.label, result.hallucinated, result.claimed) == (None, True, "Vineyard")
    assert result.text == '```json\n{"label": "Vineyard"}\n```'


def test_an_answer_that_cannot_be_read_is_neither(api, connect):
    api.chat.brain = lambda body: "A beach beside a forest."
    result = connect().classify(scene(1), LABELS)
    assert (result.label, result.hallucinated, result.parsed) == (None, False, False)


def test_labels_go_by_schema_where_the_model_keeps_to_one(api, connect):
    result = connect("ministral-14b-2512").classify(scene(1), LABELS)
    assert labels_of(sent(api)) == LABELS
    assert sent(api)["response_format"]["json_schema"]["strict"] is True
    assert result.label in LABELS
    assert json.loads(result.text) == {"label": result.label}


def test_pixtral_gets_a_prompt_and_no_schema(api, connect):
    connect().classify(scene(1), ["Bare Land", 'Odd "quoted" Ω'], context="Taken in winter.")
    assert "response_format" not in sent(api) or sent(api)["response_format"] is None
    prompt = sent(api)["messages"][0]["content"]
    assert '["Bare Land", "Odd \\"quoted\\" Ω"]' in prompt
    assert prompt.endswith("Taken in winter.")


def test_structured_is_a_setting(api, connect):
    connect("ministral-14b-2512", structured=False).classify(scene(1), LABELS)
    assert labels_of(sent(api)) == []


def test_an_answer_cut_off_says_so(api, connect):
    api.chat.brain = lambda body: "one two three four"
    answer = connect(max_tokens=2).ask("Count.")
    assert (answer.text, answer.is_cut_off) == ("one two", True)


def test_images_are_sent_no_larger_than_the_model_looks(api, connect):
    connect().ask("?", scene(1, (2000, 1000)))
    assert pixels(images_sent(api)[0]).size == (1024, 512)
    connect("ministral-8b-2512").ask("?", scene(1, (2000, 1000)))
    assert pixels(images_sent(api)[0]).size == (1540, 770)
    connect(image_tokens=300).ask("?", scene(1, (2000, 1000)))
    size = pixels(images_sent(api)[0]).size
    assert VisionGrid().tokens(*size) <= 300 < VisionGrid().tokens(size[0] + 32, size[1] + 16)


def test_small_images_are_not_touched(api, connect):
    connect().ask("?", scene(1, (37, 21)))
    assert pixels(images_sent(api)[0]).size == (37, 21)


def test_it_is_a_captioner(api, connect, tmp_path):
    client = connect()
    assert isinstance(client, gv.Captioner)
    source = [gv.Record(id=str(seed), image=scene(seed)) for seed in range(3)] + [
        gv.Record(id="bad", image=b"no image")
    ]
    pairs = gv.caption(source, client, out=tmp_path / "pairs")
    assert (pairs.report.done, pairs.report.failed) == (3, 1)
    assert {pair.captions for pair in pairs} == {(client.caption(scene(seed)).text,) for seed in range(3)}
    # The same call again asks nothing.
    before = len(api.log.of("chat.complete"))
    gv.caption(source, connect(), out=tmp_path / "pairs")
    assert len(api.log.of("chat.complete")) == before
    with pytest.raises(gv.errors.ConfigMismatch):
        gv.caption(source, connect(caption_prompt="Name what you see."), out=tmp_path / "pairs")


def test_silence_is_no_caption(api, connect):
    api.chat.brain = lambda body: "  \n"
    assert connect().caption([gv.Record(id="a", image=scene(1))], [scene(1)]) == [[]]
    with pytest.raises(UsageError, match="1 records and 2 images"):
        connect().caption([gv.Record(id="a", image=scene(1))], [scene(1), scene(2)])


def test_fingerprint_knows_what_changes_captions(connect):
    base = connect().fingerprint
    assert connect().fingerprint == base == connect(api_key="another", concurrency=9, max_retries=0).fingerprint
    changes = [
        {"caption_prompt": "x"},
        {"temperature": 0.5},
        {"max_tokens": 9},
        {"image_tokens": 99},
        {"jpeg_quality": 50},
    ]
    prints = {connect(**change).fingerprint for change in changes} | {connect("ministral-8b-2512").fingerprint}
    assert len(prints) == 6
    assert base not in prints


def test_a_server_of_ones_own_needs_no_key_and_gets_none(monkeypatch):
    monkeypatch.setenv("MISTRAL_API_KEY", "sk-for-mistral-only")
    with MistralEmulator(hosted=False) as own:
        client = gv.PixtralClient("mistralai/Pixtral-12B-2409", base_url=own.url)
        assert client.requests.encoding.grid.max_side == 1024
        client.classify(scene(1), LABELS)
        client.ask("?", [scene(seed) for seed in range(8)])
        assert all("authorization" not in record.headers for record in own.log.records)
        assert own.log.count("chat.complete", status=200) == 2


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/"])
def test_a_base_url_works_with_and_without_v1(api, connect, tail):
    connect(base_url=api.url + tail).ask("Hello")
    assert [record.path for record in api.log.records] == ["/v1/chat/completions"]


def test_a_base_url_below_a_path(api, connect):
    client = connect(base_url=api.url + "/proxy/v1/")
    assert client.base_url == api.url + "/proxy"


# What cannot be right.


def test_odd_images(api, connect, tmp_path):
    """Each is sent as a JPEG, or is an error before anything is sent."""
    frames = [scene(seed) for seed in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    deep = Image.fromarray(np.linspace(0, 40_000, 64 * 64, dtype=np.uint16).reshape(64, 64))
    deep.save(tmp_path / "deep.tif")
    client = connect()
    client.ask("?", [tmp_path / "moving.gif", tmp_path / "deep.tif", scene(1, (20_000, 40))])
    shown = [pixels(chunk) for chunk in images_sent(api)]
    assert [image.format for image in shown] == ["JPEG"] * 3
    assert [image.size for image in shown] == [(64, 48), (64, 64), (1024, 2)]
    assert np.asarray(shown[1].convert("L")).std() > 50  # stretched, not cut to the upper byte
    asked = len(api.log)
    (tmp_path / "empty.jpg").touch()
    for bad, reason in [
        (b"", "empty"),
        (tmp_path / "empty.jpg", "empty"),
        (b"<html>", "not an image"),
        (tmp_path / "absent.jpg", "does not exist"),
        (gv.Record(id="textual"), "textual"),
        (gv.Record(id="hollow", image=b""), "hollow"),
    ]:
        with pytest.raises(ImageError, match=reason):
            client.ask("?", [scene(1), bad])
    assert len(api.log) == asked


def test_a_20000_pixel_image_is_refused(connect):
    small = io.BytesIO()
    Image.new("L", (1, 1)).save(small, format="PNG")
    head = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    huge = small.getvalue()[:12] + head + struct.pack(">I", zlib.crc32(head)) + small.getvalue()[33:]
    with pytest.raises(ImageError, match="too large"):
        connect().ask("?", huge)


def test_a_16_bit_geotiff(api, connect, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    bands = np.linspace(300, 3000, 3 * 64 * 48).reshape(3, 48, 64).astype(np.uint16)
    place = rasterio.transform.from_origin(8.5, 47.5, 1e-4, 1e-4)
    shape = {"width": 64, "height": 48, "count": 3, "dtype": "uint16", "crs": "EPSG:4326", "transform": place}
    with rasterio.open(tmp_path / "deep.tif", "w", driver="GTiff", **shape) as file:
        file.write(bands)
    connect().ask("?", tmp_path / "deep.tif")
    shown = np.asarray(pixels(images_sent(api)[0]))
    assert shown.min() < 10
    assert shown.max() > 245


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([], "empty"),
        (["a", "b", "a"], "twice: 'a'"),
        ("Beach", "not one text"),
        (["a", ""], "not ''"),
        (["two\nlines"], "on one line"),
        ([" a"], "without spaces"),
        ([3], "not 3"),
    ],
)
def test_labels_that_cannot_be_chosen_from(api, connect, labels, reason):
    with pytest.raises(UsageError, match=reason):
        connect().classify(scene(1), labels)
    assert len(api.log) == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"model": ""},
        {"model": None},
        {"timeout": 0},
        {"timeout": "soon"},
        {"max_retries": -1},
        {"max_retries": 1.5},
        {"pause": -1},
        {"concurrency": 0},
        {"temperature": 2},
        {"max_tokens": 0},
        {"image_tokens": 1},
        {"jpeg_quality": 100},
        {"max_images": 0},
        {"caption_prompt": " "},
    ],
)
def test_settings_are_checked_at_once(connect, settings):
    with pytest.raises(UsageError):
        connect(**settings)


def test_a_source_is_not_an_image(connect, tmp_path):
    scene(1).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="not a FolderSource; make a list of it"):
        connect().classify(gv.FolderSource(tmp_path), LABELS)


def test_a_label_that_was_cut_off_is_not_read(api, connect):
    """ "Park" may be the beginning of "Parking"."""
    api.chat.brain = lambda body: "The label is: Park ing"
    cut = connect(max_tokens=4).classify(scene(1), ["Park", "Parking"])
    assert cut.text == "The label is: Park"
    assert cut.answer.is_cut_off
    assert (cut.label, cut.claimed) == (None, None)
    api.chat.brain = lambda body: '{"label": "Park"} and more of this'
    assert connect(max_tokens=3).classify(scene(1), ["Park", "Parking"]).label == "Park"


def test_questions_are_checked_at_once(api, connect):
    client = connect()
    with pytest.raises(UsageError, match="max_images"):
        client.ask("?", [scene(1)] * 9)
    with pytest.raises(UsageError, match="prompt"):
        client.ask("", scene(1))
    for call in (lambda: client.classify([], LABELS), lambda: client.caption([]), lambda: client.ask("?", [])):
        with pytest.raises(UsageError, match="no image"):
            call()
    assert len(api.log) == 0


def test_an_answer_without_a_choice_is_an_error(api, connect):
    def hollow(body, **_):
        return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [], "usage": _USAGE}

    api.chat.complete = hollow
    with pytest.raises(ServiceError, match="not a chat completion"):
        connect().ask("Hello")


_USAGE = {"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 1}


def test_one_refused_image_of_a_list_is_raised(api, connect):
    def picky(body):
        raise Refused(400, "This image is not allowed")

    api.chat.brain = picky
    with pytest.raises(gv.errors.RequestRefused, match="not allowed"):
        connect().classify([scene(1), scene(2)], LABELS)


def test_mistralai_is_imported_when_a_client_is_made():
    program = """
import sys, geovlm.pixtral, geovlm
geovlm.PixtralClient
from geovlm.pixtral import LabelSet
assert not [name for name in sys.modules if name.split(".")[0] in ("mistralai", "httpx", "httpx2", "torch")]
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
