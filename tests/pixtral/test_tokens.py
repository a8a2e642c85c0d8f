"""What images cost."""

from __future__ import annotations

import base64
import io
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from geovlm.errors import UsageError
from geovlm.pixtral import MODELS, PIXTRAL_GRID, Price, VisionGrid, find_model

ABSENT = "mistral-common is not installed (it wants an older NumPy); `make mistral-versions` brings it"
SIDES = st.integers(1, 25_000)
GRIDS = st.sampled_from([PIXTRAL_GRID, VisionGrid(patch=14, merge=2, max_side=1540), VisionGrid(max_side=100)])
NEWER = VisionGrid(patch=14, merge=2, max_side=1540)

_SOURCE = random.Random(7)
SIZES = [
    (1, 1),
    (16, 16),
    (17, 16),
    (256, 256),
    (300, 300),
    (600, 600),
    (1024, 1024),
    (1025, 1024),
    (5000, 1),
    (3, 4000),
]
SIZES += [(_SOURCE.randint(1, 2600), _SOURCE.randint(1, 2600)) for _ in range(40)]


@pytest.mark.parametrize(
    ("size", "tokens"), [((256, 256), 272), ((300, 300), 380), ((600, 600), 1482), ((1024, 1024), 4160)]
)
def test_figures_that_are_known(size, tokens):
    assert PIXTRAL_GRID.tokens(*size) == tokens


def test_equal_to_the_tokenizer_on_50_sizes():
    """mistral-common counts the tokens of real images, through its own tokenizer for Pixtral."""
    library = pytest.importorskip("mistral_common", reason=ABSENT)
    pytest.importorskip("cv2", reason="mistral-common needs opencv to read images")
    from mistral_common.protocol.instruct.messages import UserMessage
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    # The tokenizer of Pixtral 12B, which the package brings along.
    tokenizer = MistralTokenizer.from_file(Path(library.__file__).parent / "data" / "tekken_240911.json")
    special = tokenizer.instruct_tokenizer.image_encoder.special_ids
    ours = {special.img, special.img_break, special.img_end}
    assert len(SIZES) == 50
    for size in SIZES:
        buffer = io.BytesIO()
        Image.new("RGB", size).save(buffer, format="PNG")
        url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        message = UserMessage(content=[{"type": "image_url", "image_url": {"url": url}}])
        encoded = tokenizer.encode_chat_completion(ChatCompletionRequest(messages=[message]))
        assert sum(token in ours for token in encoded.tokens) == PIXTRAL_GRID.tokens(*size), size


def test_equal_to_the_image_encoder_of_later_models():
    image = pytest.importorskip("mistral_common.tokens.tokenizers.image", reason=ABSENT)
    config = image.ImageConfig(14, 1540, 2)
    encoder = image.ImageEncoder(config, image.SpecialImageIDs(img=1, img_break=2, img_end=3))
    for size in SIZES:
        columns, rows = encoder._image_to_num_tokens(Image.new("1", size))
        assert (columns + 1) * rows == NEWER.tokens(*size), size


@given(GRIDS, SIDES, SIDES)
def test_a_fitted_image_stays_and_costs_the_same(grid, width, height):
    fitted = grid.fit(width, height)
    assert max(fitted) <= grid.max_side
    assert min(fitted) >= 1
    assert fitted[0] <= width
    assert fitted[1] <= height
    assert grid.fit(*fitted) == fitted
    assert grid.tokens(*fitted) == grid.tokens(width, height)


@given(GRIDS, SIDES, SIDES, st.integers(2, 5000))
def test_a_budget_is_kept_and_used(grid, width, height, most):
    fitted = grid.fit(width, height, max_tokens=most)
    assert grid.tokens(*fitted) <= most
    assert fitted[0] <= width
    assert fitted[1] <= height
    if grid.tokens(width, height) <= most:
        assert fitted == grid.fit(width, height)


@given(st.integers(50, 4000), st.integers(100, 3000))
def test_a_square_fills_its_budget(side, most):
    """One more row and column of cells would not fit."""
    fitted = PIXTRAL_GRID.fit(side, side, max_tokens=most)
    whole = PIXTRAL_GRID.fit(side, side)
    longer = min(fitted[0] + 16, whole[0])
    assert fitted == whole or PIXTRAL_GRID.tokens(longer, longer) > most


def test_what_has_no_size_is_refused():
    with pytest.raises(UsageError, match="0x5"):
        PIXTRAL_GRID.tokens(0, 5)
    with pytest.raises(UsageError, match="at least 2 tokens"):
        PIXTRAL_GRID.fit(5, 5, max_tokens=1)
    for wrong in ({"patch": 0}, {"merge": 1.5}, {"max_side": -1}):
        with pytest.raises(UsageError):
            VisionGrid(**wrong)


def test_the_table_of_models():
    names = [name for model in MODELS for name in (model.id, *model.aliases)]
    assert len(names) == len(set(names))
    for model in MODELS:
        assert find_model(model.id) is model
        assert model.replacement is None or find_model(model.replacement).retired is None
        assert model.structured == ("pixtral" not in model.id)
    assert find_model("ft:pixtral-12b-latest:mine:d3417809:20250709:7ddb123c").id == "pixtral-12b-2409"
    assert find_model("mistralai/Pixtral-12B-2409").id == "pixtral-12b-2409"
    assert find_model("gpt") is None


def test_the_walk_through_s_batch_costs_eight_cents():
    """2,000 scenes of 300×300 px with 527 tokens each, at half the list price."""
    price = find_model("pixtral-12b").price
    assert round(price.of(prompt_tokens=2000 * 527, completion_tokens=0, batch=True), 2) == 0.08
    assert Price(prompt=1.5, completion=7.5).of(prompt_tokens=10**6, completion_tokens=10**6) == 9.0
