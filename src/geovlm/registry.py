"""Names for back ends: `load_encoder("skyclip-vit-b-32")` finds its factory here.

A name maps to a *thunk* that imports and returns the factory, so that naming a back end costs no import of
its heavy library. Other packages add names through entry points in the groups `geovlm.encoders`,
`geovlm.captioners` and `geovlm.stores`; these are read at the first name that is not built in, and a plug-in that
fails to import is a warning that names it, never an error for people who did not ask for it.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from geovlm.errors import UnknownName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Registry"]


class Registry:
    """Lazy names of one kind of back end.

    Args:
        kind: The word used in messages, such as `"captioner"`.
        group: The entry-point group that other packages add to.
        builtin: Name → `"module:attribute"` of the factory.

    Examples:
        >>> stores = Registry("store", group="geovlm.stores", builtin={"ordered": "collections:OrderedDict"})
        >>> stores["ordered"].__name__
        'OrderedDict'
        >>> "ordred" in stores
        False
    """

    def __init__(self, kind: str, *, group: str, builtin: Mapping[str, str]) -> None:
        self.kind = kind
        self.group = group
        self._targets = dict(builtin)
        self._plugins: dict[str, Callable[..., Any]] | None = None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._targets, *self._load_plugins()}))

    def __contains__(self, name: object) -> bool:
        return name in self._targets or name in self._load_plugins()

    def __getitem__(self, name: str) -> Callable[..., Any]:
        """Import and return the factory behind `name`.

        Raises:
            UnknownName: With the nearest known names.
        """
        target = self._targets.get(name)
        if target is not None:
            module, _, attribute = target.partition(":")
            factory: Callable[..., Any] = getattr(import_module(module), attribute)
            return factory
        plugins = self._load_plugins()
        if name in plugins:
            return plugins[name]
        raise UnknownName(self.kind, name, self)

    def _load_plugins(self) -> dict[str, Callable[..., Any]]:
        if self._plugins is None:
            self._plugins = {}
            for point in entry_points(group=self.group):
                try:
                    self._plugins[point.name] = point.load()
                except Exception as error:  # noqa: BLE001 - whatever a stranger's module raises at import
                    warnings.warn(
                        f"The {self.kind} plug-in {point.name!r} ({point.value}) was left out, because it failed to"
                        f" import: {type(error).__name__}: {error}",
                        RuntimeWarning,
                        stacklevel=2,
                    )
        return self._plugins
