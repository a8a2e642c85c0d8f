"""From records to a fine-tuning that is ready to run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

from geovlm.errors import UsageError
from geovlm.pixtral.chat_data import check_chat_data
from geovlm.pixtral.requests import as_labels
from geovlm.pixtral.tuning._data import TuningData, prepare
from geovlm.pixtral.tuning._service import TuningService
from geovlm.pixtral.tuning.config import FineTuningConfig
from geovlm.pixtral.tuning.hosted import HostedTuning
from geovlm.pixtral.tuning.local import LocalTuning

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from geovlm.pixtral._policy import Caller
    from geovlm.pixtral.chat_data import ChatData
    from geovlm.pixtral.local import LocalModel
    from geovlm.pixtral.parsing import LabelSet
    from geovlm.pixtral.requests import RequestBuilder
    from geovlm.records import Record

    Conversations = Iterable[Record] | str | os.PathLike[str]


def start_local(
    train: Conversations,
    val: Conversations | None,
    *,
    labels: LabelSet | Iterable[str] | None,
    out: str | os.PathLike[str],
    config: FineTuningConfig | None,
    progress: bool | None,
    requests: RequestBuilder,
    own: LocalModel | None,
    base: str | os.PathLike[str] | None,
) -> LocalTuning:
    """A fine-tuning of the model in `base`, or of a client's own local model."""
    from geovlm.pixtral._local_folder import find_folder
    from geovlm.pixtral._rendering import Renderer

    if base is None and own is None:
        raise UsageError(
            "A local fine-tuning starts from a model in a folder: give base='…/pixtral-12b' (in the form of"
            " transformers, such as mistral-community/pixtral-12b), or make the client of it:"
            " PixtralClient('…/pixtral-12b')."
        )
    folder = own.folder if base is None and own is not None else find_folder(str(base))
    if folder.adapter is not None:
        raise UsageError(f"{folder.adapter} is an adapter; merge it first (merge_adapter), and start from that.")
    renderer = Renderer(folder.processor()) if own is None or base is not None else own.renderer
    asks = evolve(requests, encoding=evolve(requests.encoding, grid=renderer.grid))
    data = _prepared(train, val, labels=labels, requests=asks, out=Path(out), progress=progress)
    settings = config or FineTuningConfig()
    return LocalTuning(
        base=folder,
        renderer=renderer,
        data=data,
        config=evolve(settings, device=str(own.device)) if own and settings.device is None else settings,
        out=Path(out).absolute(),
        release=own.release if own else lambda: None,
    )


def start_hosted(
    train: Conversations,
    val: Conversations | None,
    *,
    labels: LabelSet | Iterable[str] | None,
    out: str | os.PathLike[str],
    config: FineTuningConfig | None,
    progress: bool | None,
    requests: RequestBuilder,
    caller: Caller,
    mistral: Any,
) -> HostedTuning:
    """A job at the client's service, made but not started."""
    data = _prepared(train, val, labels=labels, requests=requests, out=Path(out), progress=progress)
    exported = data.train.files[0].parent
    service = TuningService(caller, mistral, exported=exported)
    # Files that were given were not looked at yet, and the service would only tell that some lines are wrong.
    data = TuningData(
        train=_checked(data.train, progress) if _is_path(train) else data.train,
        val=_checked(data.val, progress) if data.val is not None and _is_path(val) else data.val,
    )
    tuning = HostedTuning(service, data=data, config=config or FineTuningConfig(), out=Path(out).absolute())
    tuning.submit(model=requests.model, url=caller.endpoint.url)
    return tuning


def _prepared(
    train: Conversations,
    val: Conversations | None,
    *,
    labels: LabelSet | Iterable[str] | None,
    requests: RequestBuilder,
    out: Path,
    progress: bool | None,
) -> TuningData:
    if labels is not None and _is_path(train):
        raise UsageError("Conversations in files have their answers already; leave labels= out.")
    known = None if labels is None else as_labels(labels)
    return prepare(train, val, labels=known, requests=requests, out=out.absolute(), progress=progress)


def _is_path(source: Any) -> bool:
    return isinstance(source, str) or hasattr(source, "__fspath__")


def _checked(data: ChatData, progress: bool | None) -> ChatData:
    report = check_chat_data(data.files, progress=progress)
    if report.failed:
        raise UsageError(f"The files are not fit to learn from. {report}")
    return evolve(data, report=report)
