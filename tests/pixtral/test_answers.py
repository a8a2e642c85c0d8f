"""Chat completions as servers and result lines give them."""

from __future__ import annotations

import pytest

from geovlm.errors import ServiceError, UsageError
from geovlm.pixtral import Answer, Classification, LabelSet
from geovlm.pixtral.answers import read_answer, read_classification


def body(content, **more):
    return {"model": "m", "choices": [{"message": {"content": content}, "finish_reason": "stop"}], **more}


def test_forms_of_content():
    assert read_answer(body("text")).text == "text"
    assert read_answer(body(None)).text == ""
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "Beach"}]
    assert read_answer(body(parts)).text == "Beach"


def test_usage_may_be_absent():
    assert read_answer(body("x")).usage.total_tokens == 0
    assert read_answer(body("x", usage=None)).usage.total_tokens == 0
    told = read_answer(body("x", usage={"prompt_tokens": 5, "completion_tokens": None}))
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (5, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"choices": []},
        {"choices": None},
        {"choices": [{}]},
        {"choices": [{"message": None}]},
        "text",
        None,
        body(7),
    ],
)
def test_what_is_no_completion_is_a_service_error(wrong):
    with pytest.raises(ServiceError, match="not a chat completion"):
        read_answer(wrong)


def test_a_cut_off_answer_is_read_as_json_only():
    labels = LabelSet(["Park", "Parking"])
    for text, label in [("Park", None), ('{"label": "Park', None), ('{"label": "Park"}', "Park"), ("", None)]:
        result = read_classification(Answer(text=text, model="m", finish_reason="length"), labels)
        assert (result.label, result.claimed) == (label, None)


def test_a_classification_is_one_thing():
    with pytest.raises(UsageError, match="cannot both be"):
        Classification(answer=Answer(text="", model=""), label="a", claimed="b")
