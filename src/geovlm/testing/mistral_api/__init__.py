"""A loopback emulator of Mistral's API, and of servers like vLLM, to test clients against.

It speaks HTTP on 127.0.0.1, keeps everything in memory, and gives the same answers to the same requests. The real
client works with it::

    with MistralEmulator(brain=lambda request: "Beach") as api:
        client = geovlm.PixtralClient("pixtral-12b-2409", base_url=api.url, api_key=api.api_key)
        api.faults.add(Fault.rate_limited(retry_after=0), operation="chat.complete", times=2)
        ...
        assert api.log.count("chat.complete", status=429) == 2

There are chat completions, files, batch jobs, models and fine-tuning. A batch job goes on each time it is looked at, so
nothing waits: `api.batches.looks` says how often it is running, `api.batches.end_with` how it ends, and
`api.batches.edit_results` changes its result lines. Not emulated: streaming, tools, other endpoints than chat in batch
jobs, quotas.
"""

from geovlm.testing.mistral_api.brains import Brain, describe, images_of, labels_of, sizes_of, text_of
from geovlm.testing.mistral_api.contract import Contract
from geovlm.testing.mistral_api.faults import Fault, Faults
from geovlm.testing.mistral_api.log import Charge, RequestLog, RequestRecord
from geovlm.testing.mistral_api.server import MistralEmulator
from geovlm.testing.mistral_api.wire import Refused

__all__ = [
    "Brain",
    "Charge",
    "Contract",
    "Fault",
    "Faults",
    "MistralEmulator",
    "Refused",
    "RequestLog",
    "RequestRecord",
    "describe",
    "images_of",
    "labels_of",
    "sizes_of",
    "text_of",
]
