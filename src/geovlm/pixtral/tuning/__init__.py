"""Fine-tune a vision-language model on labelled or captioned images: here, or by Mistral's service where it still does.

`PixtralClient.fine_tune` is the way in. torch, transformers and peft are imported when a local training begins.
"""

from geovlm.pixtral.tuning.config import FineTuningConfig
from geovlm.pixtral.tuning.hosted import HostedTuning
from geovlm.pixtral.tuning.local import LocalTuning, merge_adapter
from geovlm.pixtral.tuning.values import Estimate, LossPoint, TuningEvent, TuningResult

__all__ = [
    "Estimate",
    "FineTuningConfig",
    "HostedTuning",
    "LocalTuning",
    "LossPoint",
    "TuningEvent",
    "TuningResult",
    "merge_adapter",
]
