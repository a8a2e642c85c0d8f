"""The generative way: ask a vision-language model for labels, captions and anything else.

`PixtralClient` and `AsyncPixtralClient` import mistralai, or transformers for a local model, when one is made.
"""

from geovlm.pixtral.aclient import AsyncPixtralClient
from geovlm.pixtral.chat_data import check_chat_data, read_chat_data, write_chat_data
from geovlm.pixtral.client import PixtralClient
from geovlm.pixtral.models import MODELS, ModelInfo, Price, find_model
from geovlm.pixtral.parsing import LabelSet
from geovlm.pixtral.tokens import PIXTRAL_GRID, VisionGrid
from geovlm.pixtral.tuning import FineTuningConfig, TuningResult, merge_adapter
from geovlm.pixtral.values import Answer, ChatRequest, Classification, Usage

__all__ = [
    "MODELS",
    "PIXTRAL_GRID",
    "Answer",
    "AsyncPixtralClient",
    "ChatRequest",
    "Classification",
    "FineTuningConfig",
    "LabelSet",
    "ModelInfo",
    "PixtralClient",
    "Price",
    "TuningResult",
    "Usage",
    "VisionGrid",
    "check_chat_data",
    "find_model",
    "merge_adapter",
    "read_chat_data",
    "write_chat_data",
]
