"""Conversations in files: what is written, what is read again, and what is told of bad ones."""

from __future__ import annotations

import base64
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geovlm import Record
from geovlm.errors import ConfigMismatch, ImageError, UsageError
from geovlm.pixtral import LabelSet, _chat_files
from geovlm.pixtral._chat_rules import MOST_IMAGES, decode, images_in, problem_of, url_of
from geovlm.pixtral.chat_data import check_chat_data, read_chat_data, write_chat_data
from geovlm.pixtral.images import ImageEncoding
from geovlm.pixtral.requests import RequestBuilder
from tests.mistral import scene

LABELS = ["Airport", "Beach", "Forest"]


def records(count=6):
    return [Record(id=f"r{n}", image=scene(n), label=LABELS[n % 3], captions=f"scene number {n}") for n in range(count)]


def data_url(seed=0, size=(32, 24)):
    buffer = io.BytesIO()
    scene(seed, size).save(buffer, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def image_part(url=None):
    return {"type": "image_url", "image_url": url or data_url()}


def user(*parts):
    return {"role": "user", "content": list(parts) or "What is it?"}


def assistant(text="A beach.", **more):
    return {"role": "assistant", "content": text, **more}


GOOD = [user(image_part()), assistant()]


def save(path, *values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def test_labels_are_asked_for_as_by_classify(tmp_path):
    requests = RequestBuilder(model="m", encoding=ImageEncoding(max_tokens=200, quality=70))
    data = write_chat_data(records(), tmp_path, labels=LABELS, requests=requests)
    assert [path.name for path in data.files] == ["train-00000.jsonl"]
    for record, line in zip(records(), data, strict=True):
        asked = requests.classify(record, LABELS).messages
        assert line.messages[0] == asked[0]
        # The URL is text, as Mistral's documentation of training files has it, and the same bytes.
        assert url_of(line.messages[1]["content"][0]) == url_of(asked[1]["content"][0])
        assert isinstance(line.messages[1]["content"][0]["image_url"], str)
        assert LabelSet(LABELS).read(line.messages[-1]["content"]).label == record.label
    assert (data.report.done, data.report.failed) == (6, 0)
    assert check_chat_data(data.files).done == 6


def test_captions_are_asked_for_as_by_caption(tmp_path):
    data = write_chat_data(records(), tmp_path, name="val")
    assert [line.messages[-1]["content"] for line in data] == [f"scene number {n}" for n in range(6)]
    assert next(iter(data)).messages[0]["content"][1]["text"].startswith("Describe this overhead image")
    assert data.files[0].name == "val-00000.jsonl"


def test_files_are_split_by_bytes_in_order(tmp_path):
    whole = write_chat_data(records(12), tmp_path / "whole", labels=LABELS)
    line = max(map(len, whole.files[0].read_bytes().splitlines(keepends=True)))
    limit = 3 * line
    split = write_chat_data(records(12), tmp_path / "split", labels=LABELS, max_bytes=limit)
    assert len(split.files) >= 4
    assert all(path.stat().st_size <= limit for path in split.files)
    assert b"".join(path.read_bytes() for path in split.files) == whole.files[0].read_bytes()
    assert [key for path in split.files for key in _chat_files.ids_of(path)] == [f"r{n}" for n in range(12)]
    assert split.digest == whole.digest
    assert whole.bytes == split.bytes


def test_every_record_ends_in_one_state(tmp_path):
    broken = Record(id="broken", image=b"no image", label="Beach")
    awkward = [
        Record(id="no label", image=scene(1)),
        Record(id="outside", image=scene(1), label="beach"),
        Record(id="r0", image=scene(1), label="Beach"),
        broken,
    ]
    data = write_chat_data([*records(), *awkward], tmp_path, labels=LABELS)
    assert data.report.done == 6
    assert {failure.id: failure.stage for failure in data.report.failures} == {
        "no label": "export",
        "outside": "export",
        "r0": "read",
        "broken": "decode",
    }
    with pytest.raises(ImageError, match="not one of the labels"):
        write_chat_data(awkward[1:], tmp_path / "raising", labels=LABELS, on_error="raise")
    with pytest.raises(UsageError, match="No record can be learned from"):
        write_chat_data([broken], tmp_path / "none", labels=LABELS)


def test_a_missing_caption_names_the_way_to_labels(tmp_path):
    with pytest.raises(UsageError, match="give labels= to learn labels"):
        write_chat_data([Record(id="a", image=scene(1), label="Beach")], tmp_path)


def test_a_line_larger_than_a_file_is_a_failure(tmp_path):
    noise = Image.effect_noise((600, 600), 90).convert("RGB")
    data = write_chat_data(
        [*records(2), Record(id="big", image=noise, label="Beach")], tmp_path, labels=LABELS, max_bytes=20_000
    )
    assert [failure.id for failure in data.report.failures] == ["big"]
    assert "send smaller images" in data.report.failures[0].reason


def test_a_second_call_reads_what_is_there(tmp_path):
    first = write_chat_data(records(), tmp_path, labels=LABELS)
    written = first.files[0].stat().st_mtime_ns
    again = write_chat_data(records(), tmp_path, labels=LABELS)
    assert again.files == first.files
    assert again.digest == first.digest
    assert again.files[0].stat().st_mtime_ns == written
    assert (again.report.skipped, again.report.done) == (6, 0)
    with pytest.raises(ConfigMismatch):
        write_chat_data(records(5), tmp_path, labels=LABELS)
    with pytest.raises(ConfigMismatch):
        write_chat_data(records(), tmp_path, labels=[*LABELS, "River"])


def test_a_stopped_export_leaves_nothing_half_and_is_done_again(tmp_path):
    def stopping():
        yield from records(40)
        raise KeyboardInterrupt

    size = len(json.dumps({"messages": GOOD})) * 3
    with pytest.raises(KeyboardInterrupt):
        write_chat_data(stopping(), tmp_path, labels=LABELS, max_bytes=size)
    assert not (tmp_path / "train.json").exists()
    assert not list(tmp_path.glob("*.tmp"))
    data = write_chat_data(records(2), tmp_path, labels=LABELS)
    assert [path.name for path in sorted(tmp_path.glob("*.jsonl"))] == ["train-00000.jsonl"]
    assert data.report.done == 2


def test_other_people_s_files_are_read(tmp_path):
    path = tmp_path / "given.jsonl"
    as_object = [user(image_part({"url": data_url(3)}), {"type": "text", "text": "What?"}), assistant()]
    bare = [{"role": "system", "content": "Be brief."}, user(image_part()), assistant(), user(), assistant(weight=0)]
    path.write_text(json.dumps({"messages": as_object}) + "\n\n" + json.dumps(bare) + "\r\n")
    lines = list(read_chat_data(path))
    assert [line.number for line in lines] == [1, 3]
    assert lines[1].place == f"{path}:3"
    assert [image.size for line in lines for image in images_in(line.messages)] == [(32, 24), (32, 24)]
    assert list(read_chat_data(tmp_path)) == list(read_chat_data([path])) == lines


BAD = {
    "there are no messages": [{}, {"messages": []}, 3, {"prompt": "x"}],
    "message 1: it has no role": [[{"content": "x"}], ["x"]],
    "message 1: its role is 'tool'": [[{"role": "tool", "content": "x"}]],
    "the assistant cannot speak first": [[assistant(), user()]],
    "message 2: the system cannot speak after the user": [[user(), {"role": "system", "content": "x"}, assistant()]],
    "the last message is the user's": [[user()]],
    "what the assistant says is empty": [[user(), assistant(" ")]],
    "neither text nor a list": [[user(), assistant(None)], [{"role": "user", "content": []}, assistant()]],
    "there is an image in the assistant's turn": [[user(), assistant([image_part()])]],
    "there is an image in the system's turn": [[{"role": "system", "content": [image_part()]}, user(), assistant()]],
    "its weight is 2": [[user(), assistant(weight=2)]],
    "every answer has the weight 0": [[user(), assistant(weight=0)]],
    "an image is not a data URL": [[user(image_part("https://example.org/a.jpg")), assistant()]],
    "of the type 'input_audio'": [[user({"type": "input_audio"}), assistant()]],
    "a part of the text is empty": [[user({"type": "text", "text": ""}), assistant()]],
    f"more than {MOST_IMAGES} images": [[user(*[image_part()] * 5), user(*[image_part()] * 4), assistant()]],
    "larger than 10 MB": [[user(image_part("data:image/png;base64," + "A" * 14_000_000)), assistant()]],
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_conversation_is_told_with_file_and_line(tmp_path, reason):
    for value in BAD[reason]:
        path = save(tmp_path / "bad.jsonl", GOOD, value)
        failure = check_chat_data(path).failures[0]
        assert reason in failure.reason
        assert failure.uri == f"{path}:2"
        with pytest.raises(UsageError, match=r"bad\.jsonl:2: "):
            list(read_chat_data(path))


def test_images_and_repetitions_are_checked(tmp_path):
    url = data_url()
    cut = url[: len(url) // 2 // 4 * 4]
    path = save(
        tmp_path / "a.jsonl",
        GOOD,
        GOOD,
        [user(image_part(cut)), assistant()],
        [user(image_part("data:image/jpeg;base64,!!!!")), assistant()],
    )
    report = check_chat_data(path)
    assert report.done == 1
    assert [failure.uri for failure in report.failures] == [f"{path}:{number}" for number in (2, 3, 4)]
    assert report.failures[0].reason == "an earlier line is the same"
    assert "base64" in report.failures[2].reason


def test_text_that_is_not_json_is_told(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xff\xfe\n{"messages": [\n' + b"[" * 100_000 + b"\n")
    report = check_chat_data(path)
    assert [failure.uri for failure in report.failures] == [f"{path}:{number}" for number in (1, 2, 3)]


def test_sizes_of_files_are_checked(tmp_path):
    save(tmp_path / "large.jsonl", GOOD)
    (tmp_path / "empty.jsonl").touch()
    reasons = {failure.id: failure.reason for failure in check_chat_data(tmp_path, max_bytes=100).failures}
    assert reasons == {
        str(tmp_path / "large.jsonl"): "it is larger than 100 bytes",
        str(tmp_path / "empty.jsonl"): "it is empty",
    }


def test_a_line_that_is_too_long_is_not_held(tmp_path, monkeypatch):
    monkeypatch.setattr(_chat_files, "LINE_BYTES", 4096)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'"' + b"x" * 20_000 + b'"\n' + json.dumps([user(), assistant()]).encode() + b"\n")
    first, second = _chat_files.lines_of(path)
    assert first.text == b""
    assert "longer than 4096" in first.problem
    assert second.number == 2
    assert _chat_files.line_at(path, second.offset) == second.text


def test_files_that_are_not_there_are_told(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        check_chat_data(tmp_path / "train.jsonl")
    with pytest.raises(UsageError, match=r"no \.jsonl file"):
        check_chat_data(tmp_path)
    with pytest.raises(UsageError, match="FolderSource"):
        write_chat_data("scenes/", tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["user", "assistant", "system"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "image_url", "url", "weight"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(json_values, max_size=4))
def test_whatever_is_in_a_file_is_judged_without_an_error(messages):
    problem_of(messages)


def test_a_data_url_of_another_kind_is_told():
    with pytest.raises(ImageError, match="not a data URL"):
        decode("data:text/plain;base64,QQ==")
