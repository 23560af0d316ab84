"""The models of the page: an allow-list, each loaded when it is first asked for; and the one thread that uses them."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from nibt.errors import UnknownName
from nibt.models._loading import load_model
from nibt.models.base import Model

_Part = TypeVar("_Part")


class ModelCache:
    """Models by name. ``ready`` are loaded at once and stay; of the others ``most`` are kept, the last ones used."""

    def __init__(
        self,
        ready: Sequence[str],
        others: Sequence[str] = (),
        most: int = 1,
        load: Callable[[str], Model] = load_model,
    ) -> None:
        self.names = list(dict.fromkeys((*ready, *others)))
        self._load, self._most, self._lock = load, most, threading.Lock()
        self._ready = {name: load(name) for name in dict.fromkeys(ready)}
        self._others: OrderedDict[str, Model] = OrderedDict()

    def loaded(self, name: Any) -> Model | None:
        """The model of that name, if it is here already. Nothing is loaded, and no load is waited for."""
        return (self._ready.get(name) or self._others.get(name)) if isinstance(name, str) else None

    def model(self, name: str) -> Model:
        """The model of that name, loaded if it is not here yet.

        Raises:
            UnknownName: The page's owner did not allow it.
            CannotLoad: It cannot be loaded.

        """
        if name not in self.names:
            raise UnknownName("models", name, self.names)
        if name in self._ready:
            return self._ready[name]
        with self._lock:
            loaded = self._others.pop(name, None) or self._load(name)
            while len(self._others) >= self._most:
                self._others.popitem(last=False)
            self._others[name] = loaded
            return loaded


class SerialExecutor:
    """One thread for all computations: whoever asks, one at a time, and its memory is used again by the next."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "nibt-turns")

    def each(self, parts: Iterator[_Part]) -> Iterator[_Part]:
        """The parts, each computed there, in the context of who asks."""
        while True:
            part = self._thread.submit(copy_context().run, next, parts, None).result()
            if part is None:
                return
            yield part
