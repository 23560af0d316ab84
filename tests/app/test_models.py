"""Tests of ``nibt.app.cache``."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from nibt.app.cache import ModelCache, in_thread, load_named
from nibt.app.methods import MethodFacts
from nibt.errors import BadInput, UnknownName
from nibt.models.base import Model


def test_model_cache_loads_on_demand_and_keeps_the_last(scenes: Model) -> None:
    loaded: list[str] = []

    def load(name: str) -> Model:
        loaded.append(name)
        return replace(scenes, id=name)

    cache = ModelCache(["a"], ["b", "c"], max_others=1, load=load)
    assert loaded == []
    assert [cache.get(name).id for name in "abbacab"] == list("abbacab")
    assert loaded == ["a", "b", "c", "b"]
    with pytest.raises(UnknownName, match="Known models: a, b, c"):
        cache.get("../d")


def test_models_and_generators_are_chosen_by_the_mode(clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["LlavaForConditionalGeneration"]}')
    folder, names = str(tmp_path), ["scenes_generator", str(clip_folder), str(tmp_path), "owner/name"]
    models = ModelCache.of_names(("lite", "scenes"), names)
    assert models.names == ["lite", "scenes", str(clip_folder), folder, "owner/name"]
    generators = models.for_answers(True)
    assert generators.names == [folder, "scenes_generator", "owner/name"]
    assert models.for_answers(False) is models
    assert models.all_names == [*models.names, "scenes_generator"]
    with pytest.raises(BadInput, match="this page has no generator"):
        ModelCache(["lite"]).for_answers(True)
    assert generators.get("scenes_generator").answers.prompts == "needed"
    facts = models.facts("scenes_generator", "paper")
    assert facts["similarity_map"].reason.startswith("needs vectors")
    assert facts["nib"] == MethodFacts(is_default=True)
    generators.record("scenes_generator", "paper", "nib", 3.0)
    assert models.facts("scenes_generator", "paper")["nib"] == MethodFacts(is_default=True), (
        "the first explanation is slower"
    )
    generators.measure("scenes_generator")
    generators.record("scenes_generator", "paper", "nib", 3.0)
    assert models.facts("scenes_generator", "paper")["nib"] == MethodFacts(3.0, is_default=True)


def test_serial_executor_runs_one_step_at_a_time() -> None:
    thread, running, most, threads = ThreadPoolExecutor(1), 0, 0, set[int]()

    def parts() -> Iterator[int]:
        nonlocal running, most
        for number in range(5):
            running += 1
            most = max(most, running)
            threads.add(threading.get_ident())
            time.sleep(0.005)
            running -= 1
            yield number

    with ThreadPoolExecutor(8) as visitors:
        actual = list(visitors.map(lambda _: list(in_thread(thread, parts())), range(8)))
    assert actual == [list(range(5))] * 8
    assert (most, len(threads)) == (1, 1)


def test_serial_executor_raises_in_the_caller() -> None:
    def parts() -> Iterator[int]:
        yield 1
        raise BadInput("no")

    actual = in_thread(ThreadPoolExecutor(1), parts())
    assert next(actual) == 1
    with pytest.raises(BadInput, match="no"):
        next(actual)


def test_a_smaller_image_size_is_a_model_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose perturbation methods meet the time limit; names of the hub with a folder are no such names."""
    monkeypatch.setattr("nibt.app.cache.load_model", lambda name, **options: (name, options))
    assert load_named("lite:256") == ("lite", {"image_size": 256})
    for name in ("lite", "org/name:sub", "org/name:256"):
        assert load_named(name) == (name, {})
