"""`PixtralClient`: one question at a time to a vision-language model, hosted or one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self, overload

from geovlm.errors import UsageError
from geovlm.pixtral._base import ClientBase
from geovlm.pixtral._concurrent import in_threads
from geovlm.pixtral.answers import read_answer, read_classification
from geovlm.pixtral.images import as_list
from geovlm.pixtral.requests import as_labels

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from PIL import Image

    from geovlm.pixtral.batch import BatchOptions, BatchPlan, BatchRun
    from geovlm.pixtral.images import ImageInput
    from geovlm.pixtral.parsing import LabelSet
    from geovlm.pixtral.tuning import FineTuningConfig, HostedTuning, LocalTuning
    from geovlm.pixtral.values import Answer, ChatRequest, Classification
    from geovlm.protocols import ImageSource
    from geovlm.records import Record

__all__ = ["PixtralClient"]


class PixtralClient(ClientBase):
    """Asks a vision-language model about overhead images: Pixtral, Mistral's later models, or a server of one's own.

    It speaks Mistral's chat API, which vLLM and other OpenAI-compatible servers speak as well. It is a `Captioner`, so
    `geovlm.caption(source, client, out=…)` works. It may be used from several threads.

    Args:
        model: The id at the server, such as `"ministral-14b-2512"`. Mistral's own service retired Pixtral in 2025 and
            2026; its weights can be served by vLLM. With `backend="local"`, a folder.
        backend: `"server"`, or `"local"` for a model in a folder in the form of transformers, such as one that
            `fine_tune` made: Pixtral 12B, Ministral 3, Mistral Small 3.x. `None` is local if the model is such a
            folder.
        api_key: For Mistral's own hosts `None` takes `MISTRAL_API_KEY`. Another server gets a key only if it is given
            here.
        base_url: The server, with or without `/v1`; `None` is Mistral's own.
        device: Where a local model runs; `None` takes the first GPU, or the CPU if there is none.
        dtype: `"float32"`, `"bfloat16"` or `"float16"` for a local model; `None` takes the fastest that loses little.
        timeout: Seconds that one attempt may take.
        max_retries: How often a request is sent again after a time limit, a broken connection, 429 or 5xx. Paid answers
            that are lost on the way are paid again.
        pause: About the seconds before the first repetition; doubled before each further one, unless the server tells
            how long to wait (`Retry-After`).
        concurrency: Requests under way at a time, where there are several images.
        structured: Ask for labels with a JSON schema; `None` does where the model is known to keep to one, which
            Pixtral is not. vLLM can make any model keep to it.
        temperature: 0 for the likeliest answer.
        max_tokens: The longest answer.
        image_tokens: The most tokens that one image may cost; larger images are sent smaller. `None` sends what the
            model can look at.
        max_images: The most images in one request; Mistral's own service takes 8.
        jpeg_quality: 1 to 95.
        grid: How the model cuts images into tokens, for models that geovlm does not know.
        caption_prompt: What is asked for a caption.

    Raises:
        AuthError: There is no key for Mistral's own service; told before any request.
        UsageError: A setting cannot be right.
        MissingExtra: mistralai is not installed, or transformers for a local model.

    Examples:
        >>> from PIL import Image
        >>> from geovlm.testing.mistral_api import MistralEmulator
        >>> with MistralEmulator(brain=lambda request: "The label is: beach") as api:
        ...     client = PixtralClient("pixtral-12b-2409", base_url=api.url, api_key=api.api_key)
        ...     result = client.classify(Image.new("RGB", (300, 300)), ["Beach", "Forest"])
        >>> result.label, result.text, result.usage.prompt_tokens > 380
        ('Beach', 'The label is: beach', True)
    """

    def complete(self, request: ChatRequest) -> Answer:
        """Send one request as it is.

        Raises:
            AuthError: The key is wrong.
            RateLimited: Too many requests, and the retries were used up.
            ServiceUnavailable: There was no answer, and the retries were used up.
            ModelRetired: The model is no longer served; the error names its replacement when known.
            RequestRefused: The server will not do it.
            ServiceError: The server does not speak Mistral's API.
        """
        if self._local:
            return self._local.complete(request)
        response = self._caller.call(lambda: self._chat.complete(**request.body()))
        return read_answer(response.model_dump())

    def ask(self, prompt: str, images: ImageInput | Sequence[ImageInput] = (), *, instructions: str = "") -> Answer:
        """Ask anything about one or several images, which the model sees together.

        Args:
            prompt: The question.
            images: Records, paths, bytes, PIL images or arrays; none for a question without.
            instructions: What the model is told beforehand.

        Raises:
            UsageError: There are more images than one request takes, or there is no question.
            ImageError: An image cannot be read; nothing was sent.
            ServiceError: As for `complete`.
        """
        return self.complete(self.requests.ask(prompt, images, instructions=instructions))

    @overload
    def classify(  # type: ignore[overload-overlap]  # a path is text, and text a sequence of texts
        self, images: ImageInput, labels: LabelSet | Iterable[str], *, context: str = ""
    ) -> Classification: ...

    @overload
    def classify(
        self, images: Sequence[ImageInput], labels: LabelSet | Iterable[str], *, context: str = ""
    ) -> list[Classification]: ...

    def classify(
        self, images: ImageInput | Sequence[ImageInput], labels: LabelSet | Iterable[str], *, context: str = ""
    ) -> Classification | list[Classification]:
        """Choose a label for an image, or one for each image of a list.

        Args:
            images: One image, or a list of them, each of which is asked about alone.
            labels: To choose from.
            context: What else is known of the images, in words.

        Returns:
            The label with the raw answer; for a list, one for each image in order. A name outside the set is told as
            `hallucinated`, never mapped to a label.

        Raises:
            UsageError: The labels cannot be chosen from, or the list is empty.
            ImageError: An image cannot be read.
            ServiceError: As for `complete`. The answers to other images of the list are lost.
        """
        known = as_labels(labels)

        def one(image: ImageInput) -> Classification:
            answer = self.complete(self.requests.classify(image, known, context=context))
            return read_classification(answer, known)

        results = in_threads(one, as_list(images), workers=self._concurrency)
        return results if isinstance(images, list | tuple) else results[0]

    @overload
    def caption(self, records: Sequence[Record], images: Sequence[Image.Image]) -> list[list[str]]: ...

    @overload
    def caption(  # type: ignore[overload-overlap]  # the same
        self, records: ImageInput, images: None = None
    ) -> Answer: ...

    @overload
    def caption(self, records: Sequence[ImageInput], images: None = None) -> list[Answer]: ...

    def caption(
        self, records: ImageInput | Sequence[ImageInput], images: Sequence[Image.Image] | None = None
    ) -> Answer | list[Answer] | list[list[str]]:
        """Describe an image, or each image of a list; with `images` as a `Captioner` does.

        Args:
            records: One image in any form, or a list of them.
            images: The decoded images of the records, as `geovlm.caption` gives them.

        Returns:
            The answer, whose `text` is the caption; for a list, one for each in order. With `images`: for each its
            captions, without spaces around, or none where the model said nothing.

        Raises:
            UsageError: There is no image, or not one for each record.
            ImageError: An image cannot be read.
            ServiceError: As for `complete`.
        """
        shown = as_list(records) if images is None else list(images)
        if images is not None and len(shown) != len(as_list(records)):
            raise UsageError(f"{len(as_list(records))} records and {len(shown)} images do not go together.")
        answers = in_threads(
            lambda image: self.complete(self.requests.caption(image)), shown, workers=self._concurrency
        )
        if images is not None:
            return [[text] if (text := answer.text.strip()) else [] for answer in answers]
        return answers if isinstance(records, list | tuple) else answers[0]

    @overload
    def batch_classify(
        self,
        source: ImageSource | Iterable[Record],
        *,
        labels: LabelSet | Iterable[str],
        out: str | os.PathLike[str],
        context: str = "",
        max_cost: float | None = None,
        dry_run: Literal[False] = False,
        options: BatchOptions | None = None,
        progress: bool | None = None,
    ) -> BatchRun: ...

    @overload
    def batch_classify(
        self,
        source: ImageSource | Iterable[Record],
        *,
        labels: LabelSet | Iterable[str],
        out: str | os.PathLike[str],
        context: str = "",
        max_cost: float | None = None,
        dry_run: Literal[True],
        options: BatchOptions | None = None,
        progress: bool | None = None,
    ) -> BatchPlan: ...

    def batch_classify(
        self,
        source: ImageSource | Iterable[Record],
        *,
        labels: LabelSet | Iterable[str],
        out: str | os.PathLike[str],
        context: str = "",
        max_cost: float | None = None,
        dry_run: bool = False,
        options: BatchOptions | None = None,
        progress: bool | None = None,
    ) -> BatchRun | BatchPlan:
        """Choose a label for every image of a source, by batch jobs at half the price.

        The requests are written to `out` first, then sent in as many jobs as their number and size need. A server
        without batch jobs, or a local model, is asked one by one, when somebody waits; the result is the same. A call
        that was stopped goes on when it is repeated, and pays nothing twice.

        Args:
            source: Records with images. Images that cannot be read, and ids that come twice, are failed inputs.
            labels: To choose from.
            out: The directory.
            context: What else is known of the images, in words.
            max_cost: US dollars. Nothing is sent if it may cost more, with every answer as long as it may be.
            dry_run: Prepare everything, tell what it would cost, and send nothing; the real call takes up the
                prepared requests. A server that is not Mistral's own is asked whether it has batch jobs.
            options: Limits and rules that rarely need a change.
            progress: Show a bar; `None` decides by where the output goes.

        Returns:
            The handle, whose `wait()` gives one state and label for every input; in a dry run the plan.

        Raises:
            ConfigMismatch: `out` holds something else, or a batch that asks something else.
            RunLocked: Another process works in the same directory.
            ServiceError: The service refused, or gave no answer; repeat the call to go on.
            StorageError: The disk refused; repeat the call to go on.
            UsageError: An argument cannot be right, or it may cost more than `max_cost`.

        Examples:
            >>> import tempfile
            >>> from PIL import Image
            >>> from geovlm import Record
            >>> from geovlm.testing.mistral_api import MistralEmulator
            >>> scenes = [Record(id=name, image=Image.new("RGB", (64, 64)), label="Beach") for name in ("a", "b")]
            >>> with MistralEmulator(brain=lambda request: "Beach") as api:
            ...     client = PixtralClient("pixtral-12b-2409", base_url=api.url, api_key=api.api_key)
            ...     run = client.batch_classify(scenes, labels=["Beach", "Forest"], out=tempfile.mkdtemp())
            ...     result = run.wait(poll=0)
            >>> result.predictions, result.coverage, len(api.log.charges)
            (['Beach', 'Beach'], 1.0, 2)
        """
        from geovlm.pixtral.batch.planning import Task
        from geovlm.pixtral.batch.starting import start

        task = Task(kind="classify", labels=as_labels(labels), context=context)
        return start(
            self, source, task, out=out, max_cost=max_cost, dry_run=dry_run, options=options, progress=progress
        )

    @overload
    def batch_caption(
        self,
        source: ImageSource | Iterable[Record],
        *,
        out: str | os.PathLike[str],
        max_cost: float | None = None,
        dry_run: Literal[False] = False,
        options: BatchOptions | None = None,
        progress: bool | None = None,
    ) -> BatchRun: ...

    @overload
    def batch_caption(
        self,
        source: ImageSource | Iterable[Record],
        *,
        out: str | os.PathLike[str],
        max_cost: float | None = None,
        dry_run: Literal[True],
        options: BatchOptions | None = None,
        progress: bool | None = None,
    ) -> BatchPlan: ...

    def batch_caption(
        self,
        source: ImageSource | Iterable[Record],
        *,
        out: str | os.PathLike[str],
        max_cost: float | None = None,
        dry_run: bool = False,
        options: BatchOptions | None = None,
        progress: bool | None = None,
    ) -> BatchRun | BatchPlan:
        """Describe every image of a source; as `batch_classify`, with the caption in the result's `text`."""
        from geovlm.pixtral.batch.planning import Task
        from geovlm.pixtral.batch.starting import start

        task = Task(kind="caption")
        return start(
            self, source, task, out=out, max_cost=max_cost, dry_run=dry_run, options=options, progress=progress
        )

    @overload
    def fine_tune(
        self,
        train: ImageSource | Iterable[Record] | str | os.PathLike[str],
        *,
        out: str | os.PathLike[str],
        labels: LabelSet | Iterable[str] | None = None,
        val: ImageSource | Iterable[Record] | str | os.PathLike[str] | None = None,
        config: FineTuningConfig | None = None,
        backend: Literal["local"] = "local",
        base: str | os.PathLike[str] | None = None,
        progress: bool | None = None,
    ) -> LocalTuning: ...

    @overload
    def fine_tune(
        self,
        train: ImageSource | Iterable[Record] | str | os.PathLike[str],
        *,
        out: str | os.PathLike[str],
        labels: LabelSet | Iterable[str] | None = None,
        val: ImageSource | Iterable[Record] | str | os.PathLike[str] | None = None,
        config: FineTuningConfig | None = None,
        backend: Literal["hosted"],
        base: None = None,
        progress: bool | None = None,
    ) -> HostedTuning: ...

    def fine_tune(
        self,
        train: ImageSource | Iterable[Record] | str | os.PathLike[str],
        *,
        out: str | os.PathLike[str],
        labels: LabelSet | Iterable[str] | None = None,
        val: ImageSource | Iterable[Record] | str | os.PathLike[str] | None = None,
        config: FineTuningConfig | None = None,
        backend: Literal["local", "hosted"] = "local",
        base: str | os.PathLike[str] | None = None,
        progress: bool | None = None,
    ) -> LocalTuning | HostedTuning:
        """Teach the model the labels or captions of images; `wait()` of what is returned does the work.

        The records are written as conversations first, in the words that `classify` or `caption` asks with. Then
        either adapters (LoRA) are trained on a model in a local folder, or a job is made at the service. Mistral's own
        withdrew fine-tuning in July 2026, and so did mistralai from 2.5.2 on.

        Args:
            train: Records with labels, or with captions; or conversations: a JSONL file, or a folder of them.
            out: The folder of the run. The same call goes on with what is there.
            labels: To choose from, for records; `None` teaches captions.
            val: What is held out: its loss is told beside that of training.
            config: The settings; `None` for `FineTuningConfig()`.
            backend: `"local"` or `"hosted"`.
            base: The folder of the model that a local training starts from; `None` is the client's own local model.
            progress: Show bars; `None` decides by where the output goes.

        Returns:
            What is to be waited for: `tuning.wait().model` is the `model` of a new client.

        Raises:
            UsageError: There is nothing to learn from, no model to start from, or `labels` with conversations.
            ConfigMismatch: The folder holds another run.
            RequestRefused: The service, or the installed mistralai, no longer fine-tunes; the files stay.
            ServiceError: As for `complete`; a hosted job only.
        """
        from geovlm.pixtral.tuning.start import start_hosted, start_local

        given: dict[str, Any] = {"labels": labels, "out": out, "config": config, "progress": progress}
        if backend == "local":
            return start_local(train, val, **given, requests=self.requests, own=self._local, base=base)
        if backend != "hosted":
            raise UsageError(f"backend is 'local' or 'hosted', not {backend!r}.")
        if self._local or base is not None:
            raise UsageError("A hosted fine-tuning starts from a model at a service, not from a folder.")
        return start_hosted(train, val, **given, requests=self.requests, caller=self._caller, mistral=self._mistral)

    def close(self) -> None:
        """Let go of the connections, or of a local model's weights; the client is not to be used afterwards."""
        if self._local:
            self._local.release()
        else:
            self._mistral.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
