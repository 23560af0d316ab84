"""What the page keeps in memory: models, which are loaded when they are first used, and results for downloads.

One thread runs all computations.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any, TypeVar

from nibt.app.methods import ForwardTimes, MethodFacts, measure_forwards, method_facts
from nibt.errors import BadInput, BadOption, check_names
from nibt.models._embedded import embedded, embedded_generators
from nibt.models._loaded import LoadedModel, is_served
from nibt.models._loading import check_name, load_model
from nibt.registry import format_of, kinds
from nibt.report.html.view import Panel

FORMATS = {ending: format_of(f"nibt.{ending}") for ending in ("png", "json", "html")}
"""The formats of downloads by the endings of their files."""


def endings(panels: Sequence[Panel]) -> list[str]:
    """Return the endings of the files that can hold the results of panels."""
    kinds = {panel.answer.kind for panel in panels}
    return [ending for ending, file_format in FORMATS.items() if kinds <= {*file_format.holds}]


_MAX_LINKED = 16


class ResultCache:
    """Results under random tokens."""

    def __init__(self, lifetime: float, max_size: int = 32, clock: Callable[[], float] = time.monotonic) -> None:
        self._lifetime = lifetime
        self._max_size = max_size
        self._clock = clock
        self._results: OrderedDict[str, tuple[float, Sequence[Panel]]] = OrderedDict()
        self._linked: OrderedDict[str, Sequence[Panel]] = OrderedDict()
        self._lock = threading.Lock()

    def store(self, panels: Sequence[Panel]) -> str:
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._remove_expired()
            while len(self._results) >= self._max_size:
                self._results.popitem(last=False)
            self._results[token] = self._clock(), panels
        return token

    def remember(self, query: str, panels: Sequence[Panel]) -> None:
        """Remember the result of a link, which is the same for all visitors; without its regions of words at first."""
        with self._lock:
            self._linked[query] = panels
            while len(self._linked) > _MAX_LINKED:
                self._linked.popitem(last=False)

    def recall(self, query: str) -> Sequence[Panel]:
        """Return the result of a link; empty if it is not remembered."""
        with self._lock:
            return self._linked.get(query, ())

    def export(self, token: str, ending: str) -> bytes | None:
        """Return a result as the content of a file, or None if the token or the format is unknown."""
        with self._lock:
            self._remove_expired()
            stored = self._results.get(token)

        if stored is None or ending not in endings(stored[1]):
            return None

        results: list[Any] = list(stored[1])
        if ending == "json":  # which has the word-region tables as results of their own
            results = [result for panel in stored[1] for result in (panel.answer, panel.table) if result is not None]
        return FORMATS[ending].encoded(results, Path(f"nibt.{ending}"))

    def _remove_expired(self) -> None:
        oldest = self._clock() - self._lifetime
        while self._results and next(iter(self._results.values()))[0] < oldest:
            self._results.popitem(last=False)


_Item = TypeVar("_Item")


def load_named(name: str) -> Any:
    """Load a model of the page; ``lite:256`` is lite on images of 256 pixels, which is faster and coarser."""
    base, _, pixels = name.partition(":")
    return load_model(base, image_size=int(pixels)) if base in embedded() and pixels.isdecimal() else load_model(name)


class ModelCache:
    """The models that visitors may select."""

    def __init__(
        self,
        kept: Sequence[str],
        others: Sequence[str] = (),
        max_others: int = 1,
        load: Callable[[str], LoadedModel] = load_named,
        measure: Callable[[Any], ForwardTimes] = measure_forwards,
        facts: Callable[..., dict[str, MethodFacts]] = method_facts,
        generators: "ModelCache | None" = None,
    ) -> None:
        self.names = list(dict.fromkeys((*kept, *others)))
        self.generators = generators
        self._load = load
        self._measure = measure
        self._facts = facts
        self._max_others = max_others
        self._lock = threading.Lock()
        self._times: dict[str, ForwardTimes] = {}
        self._measured: dict[tuple[str, str], dict[str, float]] = {}
        self._kept_names = frozenset(kept)
        self._kept = dict[str, Any]()
        self._others: OrderedDict[str, Any] = OrderedDict()

    @classmethod
    def of_names(cls, kept: Sequence[str], names: Sequence[str], served: Sequence[LoadedModel] = ()) -> "ModelCache":
        """Return the embedded models and generators, and those of the names; generators in folders come first.

        Before them come generators behind servers, which are ``served``: visitors see only their names.
        """
        if not kinds("writers"):  # an installation without generators
            return cls(kept, names)

        from nibt.app.answers import generator_facts
        from nibt.generators.loading import is_generator, load_generator

        folders = [name for name in names if Path(name).is_dir() and is_generator(Path(name))]
        for name in names:
            if name not in embedded_generators():
                check_name(name)

        remote = [name for name in names if not Path(name).is_dir() and name not in embedded()]
        by_name = {generator.id: generator for generator in served}
        taken = [name for name in by_name if name in (*kept, *names, *embedded_generators())]
        if taken or len(by_name) < len(served):
            raise BadOption(
                f"the page has another model of the name {(taken or [*by_name])[0]!r}: leave one of them out"
            )

        generators = cls(
            [*by_name],
            [*folders, *embedded_generators(), *remote],
            load=lambda name: by_name[name] if name in by_name else load_generator(name),
            measure=lambda generator: {},
            facts=generator_facts,
        )
        for name in by_name:
            generators.get(name)  # so that the page shows its methods before the first question
        return cls(kept, [name for name in names if name not in embedded_generators()], generators=generators)

    @property
    def served(self) -> list[str]:
        """The names of the loaded generators that are behind servers, which get the images of visitors."""
        loaded = self.generators._kept if self.generators else {}
        return [name for name, generator in loaded.items() if is_served(generator)]

    @property
    def all_names(self) -> list[str]:
        return list(dict.fromkeys([*self.names, *(self.generators.names if self.generators else ())]))

    def for_answers(self, is_answer: bool) -> "ModelCache":
        """Return the generators, or the models that compare images with captions."""
        if is_answer and self.generators is None:
            raise BadInput("this page has no generator, which answers prompts: choose another mode")
        return self.generators if is_answer and self.generators is not None else self

    def get_loaded(self, name: str) -> LoadedModel | None:
        """Return a model if it is loaded, else None. This never waits for another model that is being loaded."""
        return self._kept.get(name) or self._others.get(name)

    def facts(self, name: str, variant: str) -> dict[str, MethodFacts]:
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
        check_names("models", [name], self.names)
        with self._lock:
            if name in self._kept_names:
                if name not in self._kept:
                    self._kept[name] = self._load(name)
                return self._kept[name]

            # it is put back as the latest, and the model that was not used for longest makes room
            model = self._others.pop(name, None) or self._load(name)
            while len(self._others) >= self._max_others:
                self._others.popitem(last=False)
            self._others[name] = model
            return model


def in_thread(thread: ThreadPoolExecutor, items: Iterator[_Item]) -> Iterator[_Item]:
    """Yield the items, each computed in the thread but in the context of the caller. An item must not be None."""
    while (item := thread.submit(copy_context().run, next, items, None).result()) is not None:
        yield item
