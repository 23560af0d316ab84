"""The models of the page, which are loaded when they are first used, and the thread that runs all computations."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any, TypeVar

from nibt.app.methods import ForwardTimes, MethodFacts, generator_facts, measure_forwards, method_facts
from nibt.errors import BadInput, UnknownName
from nibt.models._load_generator import is_generator, load_generator
from nibt.models._loading import embedded, embedded_generators, load_model

_Item = TypeVar("_Item")


class ModelCache:
    """The models that visitors may select."""

    def __init__(
        self,
        kept: Sequence[str],
        others: Sequence[str] = (),
        max_others: int = 1,
        load: Callable[[str], Any] = load_model,
        measure: Callable[[Any], ForwardTimes] = measure_forwards,
        facts: Callable[..., dict[str, MethodFacts]] = method_facts,
        generators: "ModelCache | None" = None,
    ) -> None:
        self.names = list(dict.fromkeys((*kept, *others)))
        self.generators = generators
        self._load, self._measure, self._facts = load, measure, facts
        self._max_others, self._lock = max_others, threading.Lock()
        self._times: dict[str, ForwardTimes] = {}
        self._measured: dict[tuple[str, str], dict[str, float]] = {}
        self._kept_names, self._kept = frozenset(kept), dict[str, Any]()
        self._others: OrderedDict[str, Any] = OrderedDict()

    @classmethod
    def of_names(cls, kept: Sequence[str], names: Sequence[str]) -> "ModelCache":
        """Return the embedded models and generators, and those of the names; generators in folders come first."""
        folders = [name for name in names if Path(name).is_dir() and is_generator(Path(name))]
        remote = [name for name in names if not Path(name).is_dir() and name not in embedded()]
        generators = cls(
            [],
            [*folders, *embedded_generators(), *remote],
            load=load_generator,
            measure=lambda generator: {},
            facts=generator_facts,
        )
        return cls(kept, [name for name in names if name not in embedded_generators()], generators=generators)

    @property
    def all_names(self) -> list[str]:
        return list(dict.fromkeys([*self.names, *(self.generators.names if self.generators else ())]))

    def for_answers(self, is_answer: bool) -> "ModelCache":
        """Return the generators, or the models that compare images with captions."""
        if is_answer and self.generators is None:
            raise BadInput("this page has no generator, which answers prompts: choose another mode")
        return self.generators if is_answer and self.generators is not None else self

    def get_loaded(self, name: Any) -> Any:
        """Return a model if it is loaded, else None. This never waits for another model that is being loaded."""
        return (self._kept.get(name) or self._others.get(name)) if isinstance(name, str) else None

    def facts(self, name: Any, variant: str) -> dict[str, MethodFacts]:
        """Return the facts of all methods for a model; empty if it is not loaded."""
        model = self.get_loaded(name)
        if model is None:
            return self.generators.facts(name, variant) if self.generators else {}
        return self._facts(model, self._times.get(name), variant, self._measured.get((name, variant), {}))

    def record(self, name: str, variant: str, method: str, seconds: float) -> None:
        """Record the time of an explanation, but for the first one with a model, which is slower."""
        if name in self._times:
            self._measured.setdefault((name, variant), {})[method] = seconds

    def measure(self, name: str) -> None:
        """Measure the forward passes of a loaded model, if that was not done."""
        model = self.get_loaded(name)
        if model is not None and name not in self._times:
            self._times[name] = self._measure(model)

    def get(self, name: str) -> Any:
        """Return a model, and load it if necessary."""
        if name not in self.names:
            raise UnknownName("models", name, self.names)
        with self._lock:
            if name in self._kept_names:
                if name not in self._kept:
                    self._kept[name] = self._load(name)
                return self._kept[name]
            model = self._others.pop(name, None) or self._load(name)
            while len(self._others) >= self._max_others:
                self._others.popitem(last=False)
            self._others[name] = model
            return model


class SerialExecutor:
    """One thread that runs all computations one after another, so that they reuse the same memory."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "nibt-compute")

    def iterate(self, items: Iterator[_Item]) -> Iterator[_Item]:
        """Yield the items, each computed in the thread but in the context of the caller. An item must not be None."""
        while True:
            item = self._thread.submit(copy_context().run, next, items, None).result()
            if item is None:
                return
            yield item
