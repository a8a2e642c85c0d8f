"""Which models are served on which day."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geovlm.pixtral.models import MODELS, find_model
from geovlm.pixtral.tokens import PIXTRAL_GRID, VisionGrid
from geovlm.testing.mistral_api.wire import Refused, Request, answered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from geovlm.testing._loopback import Response

TUNABLE = ("pixtral-12b-2409",)


@dataclass
class TunedModel:
    """A model that a fine-tuning job has made."""

    id: str
    root: str
    job: str
    created: int
    archived: bool = False
    name: str | None = None


@dataclass(frozen=True)
class Served:
    """A model that answers: its dated id, how it sees, whether it keeps to a JSON schema."""

    id: str
    grid: VisionGrid = PIXTRAL_GRID
    structured: bool = True


class Models:
    """The models of the service.

    Args:
        today: What is retired on this day answers 404.
        serves: Ids that a server of one's own serves; None for those of Mistral's service.
    """

    def __init__(self, *, today: dt.date, serves: Sequence[str] | None) -> None:
        self.today = today
        self.serves = serves
        self.tuned: dict[str, TunedModel] = {}

    def handlers(self) -> dict[str, Callable[[Request], Response]]:
        """What it answers."""
        return {
            "models.list": lambda _: answered({"object": "list", "data": self._cards()}),
            "models.retrieve": lambda request: answered(self._card(request.params["model"])),
            "models.delete": self._delete,
            "models.update": self._update,
            "models.archive": lambda request: self._archive(request, archived=True),
            "models.unarchive": lambda request: self._archive(request, archived=False),
        }

    def find(self, name: Any) -> Served:
        """The model that answers under a name.

        Raises:
            Refused: There is none, or no longer.
        """
        if self.serves is not None:
            if name in self.serves:
                info = find_model(name)
                return Served(name, grid=info.grid if info else PIXTRAL_GRID)
            raise Refused(404, f"The model `{name}` does not exist.", kind="NotFoundError")
        tuned = self.tuned.get(name)
        if tuned is not None and not tuned.archived:
            return dataclasses.replace(self.find(tuned.root), id=tuned.id)
        info = None if str(name).startswith("ft:") or "/" in str(name) else find_model(str(name))
        if info is None:
            raise Refused(400, f"Invalid model: {name}", kind="invalid_model")
        if info.retired is not None and info.retired < self.today:
            raise Refused(404, f"The model {name} was retired and is not available.", kind="model_not_found")
        return Served(info.id, grid=info.grid, structured=info.structured)

    def check_tunable(self, name: Any) -> str:
        """The dated id of a model that can be fine-tuned.

        Raises:
            Refused: It cannot.
        """
        found = self.find(name).id
        if found not in TUNABLE:
            raise Refused(422, "Model not available for this type of fine-tuning (completion)")
        return found

    def _cards(self) -> list[dict[str, Any]]:
        if self.serves is not None:
            return [_card(name) for name in self.serves]
        alive = [model for model in MODELS if model.retired is None or model.retired >= self.today]
        return [self._card(model.id) for model in alive] + [self._card(name) for name in self.tuned]

    def _card(self, name: str) -> dict[str, Any]:
        tuned = self.tuned.get(name)
        if tuned is not None:
            own = {"type": "fine-tuned", "job": tuned.job, "root": tuned.root, "archived": tuned.archived}
            return {**_card(name), **own, "created": tuned.created, "name": tuned.name}
        served = self.find(name)
        info = find_model(served.id)
        announced = info is not None and info.deprecated is not None and info.deprecated <= self.today
        if info is None or not announced or info.retired is None:
            return _card(served.id, list(info.aliases) if info else [])
        ends = dt.datetime.combine(info.retired, dt.time(12), dt.UTC).isoformat()
        card = _card(served.id, list(info.aliases))
        return {**card, "deprecation": ends, "deprecation_replacement_model": info.replacement}

    def _own(self, request: Request) -> TunedModel:
        tuned = self.tuned.get(request.params["model"])
        if tuned is None:
            raise Refused(404, f"No fine-tuned model {request.params['model']}")
        return tuned

    def _delete(self, request: Request) -> Response:
        del self.tuned[self._own(request).id]
        return answered({"id": request.params["model"], "object": "model", "deleted": True})

    def _update(self, request: Request) -> Response:
        tuned = self._own(request)
        tuned.name = request.json().get("name")
        return answered(
            {
                "id": tuned.id,
                "object": "model",
                "created": tuned.created,
                "owned_by": "emulator",
                "workspace_id": "00000000-0000-4000-8000-000000000000",
                "root": tuned.root,
                "root_version": re.sub(r"\D", "", tuned.root),
                "archived": tuned.archived,
                "name": tuned.name,
                "capabilities": {"completion_chat": True},
                "job": tuned.job,
                "model_type": "completion",
            }
        )

    def _archive(self, request: Request, *, archived: bool) -> Response:
        tuned = self._own(request)
        tuned.archived = archived
        return answered({"id": tuned.id, "object": "model", "archived": archived})


def _card(name: str, aliases: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 1_756_746_619,
        "owned_by": "mistralai",
        "capabilities": {"completion_chat": True, "vision": True, "fine_tuning": name in TUNABLE},
        "name": name,
        "max_context_length": 131_072,
        "aliases": list(aliases),
        "deprecation": None,
        "deprecation_replacement_model": None,
        "type": "base",
    }
