"""The generative way: ask a vision-language model for labels, captions and anything else.

`PixtralClient` and `AsyncPixtralClient` import mistralai when one is made, not before.
"""

from geovlm.pixtral.aclient import AsyncPixtralClient
from geovlm.pixtral.client import PixtralClient
from geovlm.pixtral.models import MODELS, ModelInfo, Price, find_model
from geovlm.pixtral.parsing import LabelSet
from geovlm.pixtral.tokens import PIXTRAL_GRID, VisionGrid
from geovlm.pixtral.values import Answer, ChatRequest, Classification, Usage

__all__ = [
    "MODELS",
    "PIXTRAL_GRID",
    "Answer",
    "AsyncPixtralClient",
    "ChatRequest",
    "Classification",
    "LabelSet",
    "ModelInfo",
    "PixtralClient",
    "Price",
    "Usage",
    "VisionGrid",
    "find_model",
]
