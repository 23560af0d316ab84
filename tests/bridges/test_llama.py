"""Tests of answers behind a real llama.cpp server, which serves the embedded generator from GGUF files.

The local model is explained by the same calls and changed images, behind a server of its own, so that a difference is
one of the models. llama.cpp's mistake with class tokens is named and put into the local model, too; a model whose tower
has no class token is compared as it is.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nibt.datasets.scenes import Scenes
from tests.helpers import recipe_modules

pytestmark = pytest.mark.slow
pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def recipe() -> Iterator[Any]:
    with recipe_modules("generator"):
        import llama_cpp

        yield llama_cpp


@pytest.fixture(scope="module", params=["clip", "siglip"])
def served(request: pytest.FixtureRequest, recipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The kind of a model with the address of its llama.cpp server."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    recipe.write_gguf(request.param, folder)
    with recipe.llama_cpp(folder) as address:
        yield request.param, address


@pytest.mark.parametrize("settings", [{"method": "occlusion"}, {"method": "shapley", "cells": 3, "budget": 64}])
def test_maps_are_those_of_the_local_model(recipe: Any, served: Any, settings: dict[str, Any]) -> None:
    kind, address = served
    image = Scenes(count=3, seed=20)[2].image
    record = recipe.measured(address, [kind], image, settings)
    assert record["noise"] < 0.005
    assert record[kind]["log_probabilities"] < 0.02
    assert record[kind]["scores"] < 0.02
    assert record[kind]["r"], "no word depends on the image"
    assert min(record[kind]["r"]) > 0.999


@pytest.mark.parametrize("method", ["occlusion", "shapley budget=64"])
def test_scores_of_words_are_those_of_the_local_model(recipe: Any, served: Any, method: str) -> None:
    """Both read changed prompts and answers; the local one by the template and the tokens of Transformers."""
    kind, address = served
    image = Scenes(count=3, seed=20)[2].image
    settings = {"cells": 2, "sources": "all"}
    own = recipe.explained(address, image, method, **settings, max_words=5)
    with recipe.serving(recipe.LocalAnswers(*recipe.generator(kind))) as local:
        other = recipe.explained(local, image, method, answer=own.answer, **settings)
    assert own.prompt_words == other.prompt_words
    assert len(own.prompt_words) > 2
    for word, same in zip(own.words, other.words, strict=True):
        assert word.prompt.tolist() == pytest.approx(same.prompt.tolist(), abs=0.02)
        assert word.earlier.tolist() == pytest.approx(same.earlier.tolist(), abs=0.02)
        assert word.without == pytest.approx(same.without, abs=0.02)
        assert word.at_blank == pytest.approx(same.at_blank, abs=0.02)
    scores = [abs(score) for word in own.words for score in [*word.prompt.tolist(), *word.earlier.tolist()]]
    assert max(scores) > 0.1, "no word depends on the words before it"


def test_the_stock_server_is_another_model_where_the_tower_has_a_class_token(recipe: Any, served: Any) -> None:
    kind, address = served
    if kind != "clip":
        return
    images = [scene.image for scene in Scenes(count=4, seed=20)]
    records = [recipe.measured(address, ["as it is"], image, {"method": "occlusion"}) for image in images]
    differences = [record["as it is"]["log_probabilities"] for record in records]
    assert np.max(differences) > 0.2, "llama.cpp reads class tokens rightly: compare with the local model as it is"
