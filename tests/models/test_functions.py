"""Tests of models of two functions, one of images and one of texts, as those of a server are."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import nibt
from nibt.data.images import ImageInput
from nibt.errors import BadOption, CannotLoad, Unsupported
from nibt.models._functions import FunctionImageTower
from nibt.models.base import Model
from tests.helpers import cosine

CAPTION = "a red cat, and a blue hat."
WORDS = ("a", "red", "cat", "and", "blue", "hat", "green", "dog")


def embed_images(images: list[Image.Image]) -> NDArray[np.float64]:
    """Return the mean color of each quarter of an image."""
    rows = []
    for image in images:
        pixels = np.array(image.resize((8, 8), Image.Resampling.BOX)) / 255
        rows.append([pixels[y : y + 4, x : x + 4].mean((0, 1)) for y in (0, 4) for x in (0, 4)])
    return np.array(rows).reshape(len(images), -1)


def embed_texts(texts: list[str]) -> list[list[float]]:
    """Return which words a text has, and a constant, so that no vector is zero."""
    return [[float(word in re.findall(r"\w+", text)) for word in WORDS] + [1.0, 0.5, 0.2, 0.1] for text in texts]


def model(**options: Any) -> Model:
    return nibt.load_model(images=embed_images, texts=embed_texts, **options)


def picture() -> Image.Image:
    colors = np.random.default_rng(3).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(colors).resize((224, 224), Image.Resampling.NEAREST)


def similarity(image: Image.Image, text: str) -> float:
    of_image, of_text = torch.tensor(embed_images([image])[0]), torch.tensor(embed_texts([text])[0])
    return float(cosine(of_image, of_text))


def test_the_score_of_a_word_is_what_its_removal_costs() -> None:
    words = nibt.explain(model(), picture(), CAPTION, "occlusion").words
    assert [word.text for word in words] == ["a", "red", "cat", ",", "and", "a", "blue", "hat", "."]
    whole = similarity(picture(), CAPTION)
    for word, left in [(2, "a red, and a blue hat."), (7, "a red cat, and a blue."), (0, "red cat, and a blue hat.")]:
        assert words[word].score == pytest.approx(whole - similarity(picture(), left), abs=1e-6)


def test_the_score_of_a_cell_is_what_hiding_it_costs() -> None:
    functions = model()
    grid = nibt.explain(functions, picture(), CAPTION, "occlusion").grid
    assert grid.shape == (8, 8)
    assert isinstance(functions.image, FunctionImageTower)
    hidden = picture()
    mean = tuple(round(255 * value) for value in (0.48, 0.46, 0.41))
    hidden.paste(mean, (3 * 28, 5 * 28, 4 * 28, 6 * 28))
    expected = similarity(picture(), CAPTION) - similarity(hidden, CAPTION)
    assert float(grid[5, 3]) == pytest.approx(expected, abs=1e-5)


def test_shapley_values_add_up_to_what_the_words_add() -> None:
    explanation = nibt.explain(model(), picture(), CAPTION, "shapley", budget=200)
    expected = similarity(picture(), CAPTION) - similarity(picture(), "")
    assert sum(word.score for word in explanation.words) == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_functions_of_a_model_give_its_similarity() -> None:
    """The image and the caption reach the functions as they are given."""
    scenes = nibt.load_model("scenes")

    def images(listed: list[Image.Image]) -> torch.Tensor:
        return scenes.image.encode(scenes.image.prepare([ImageInput(image, "image") for image in listed]))

    def texts(listed: list[str]) -> torch.Tensor:
        inputs = [scenes.text.prepare([text]) if text else scenes.text.empty_inputs() for text in listed]
        return torch.cat([scenes.text.encode(each) for each in inputs])

    wrapped = nibt.load_model(images=images, texts=texts, name="wrapped", image_size=192)
    scene = nibt.explain(scenes, "sample:scene", "a cat", "ones").image.input.pil_image
    scene = scene.convert("RGB").resize((192, 192))  # the size that the function gets
    for caption in ("a cat and a hamburger", "Two  dogs, side by side!"):
        actual = nibt.explain(wrapped, scene, caption, "ones").similarity
        assert actual == pytest.approx(nibt.explain(scenes, scene, caption, "ones").similarity, abs=1e-6)


def test_images_keep_their_aspect_ratio() -> None:
    wide = picture().resize((448, 112))
    explanation = nibt.explain(model(), wide, CAPTION, "occlusion")
    assert explanation.grid.shape == (4, 16)


@pytest.mark.slow
def test_other_calls_take_functions(tmp_path: Any) -> None:
    functions = model(name="served")
    explanation = nibt.explain(functions, picture(), CAPTION, "banzhaf", budget=200, views=3)
    explanation.save(tmp_path / "map.json")
    assert nibt.Explanation.load(tmp_path / "map.json").model["id"] == "served"
    ranking = nibt.rank(functions, picture(), ["a red cat", "a green dog"])
    assert {label.label for label in ranking} == {"a red cat", "a green dog"}
    table = nibt.regions(functions, picture(), "a red cat", "banzhaf", budget=300)
    assert table.table.shape == (3, 8, 8)


def test_methods_that_read_layers_are_refused_by_name() -> None:
    with pytest.raises(Unsupported, match=r"nib needs states, which this image tower lacks; methods .* occlusion"):
        nibt.explain(model(), picture(), CAPTION)
    with pytest.raises(Unsupported, match="gae needs attention"):
        nibt.explain(model(), picture(), CAPTION, "gae")
    with pytest.raises(Unsupported, match="no attention over all"):
        model().attentions("sample:scene")


def test_what_reads_weights_or_layers_is_refused() -> None:
    pairs = [(picture(), "a red cat"), (picture().rotate(90), "a green dog")]
    check = r"--check \(nibt.check\), which compares the map with that of random weights,"
    for caller, call in {
        check: lambda: nibt.check(model(), picture(), CAPTION),
        "an audit": lambda: nibt.audit(model(), pairs * 4),
        "calibrate": lambda: nibt.calibrate(model(), [picture()]),
        "parts of evidence": lambda: nibt.parts(model(), pairs),
    }.items():
        with pytest.raises(Unsupported, match=f"{caller} needs the layers and the weights of the model"):
            call()


def test_the_embeddings_of_fixed_inputs_identify_functions() -> None:
    def others(texts: list[str]) -> list[list[float]]:
        return [[*row[:-1], 0.3] for row in embed_texts(texts)]

    same, other = model(), nibt.load_model(images=embed_images, texts=others)
    assert same.weights_hash == model().weights_hash
    assert same.weights_hash != other.weights_hash
    assert model(name="other name").record()["id"] == "other name"


@pytest.mark.parametrize("length", [1e-30, 1e-14, 1e30])
def test_the_length_of_vectors_does_not_matter(length: float) -> None:
    scaled = nibt.load_model(images=embed_images, texts=lambda listed: length * np.array(embed_texts(listed)))
    actual = nibt.explain(scaled, picture(), CAPTION, "occlusion")
    expected = nibt.explain(model(), picture(), CAPTION, "occlusion")
    assert actual.similarity == pytest.approx(expected.similarity, abs=1e-6)
    assert [word.score for word in actual.words] == pytest.approx([word.score for word in expected.words], abs=1e-6)


def test_functions_may_use_their_memory_again() -> None:
    answers = torch.zeros(64, 12)

    def texts(listed: list[str]) -> torch.Tensor:
        answers[: len(listed)] = torch.tensor(embed_texts(listed))
        return answers[: len(listed)]

    def images(listed: list[Image.Image]) -> NDArray[np.float64]:
        vectors = embed_images(listed)
        listed.clear()
        return vectors

    reusing = nibt.load_model(images=images, texts=texts)
    actual = nibt.explain(reusing, picture(), CAPTION, "occlusion")
    expected = nibt.explain(model(), picture(), CAPTION, "occlusion")
    assert [word.score for word in actual.words] == pytest.approx([word.score for word in expected.words], abs=1e-6)


def test_functions_that_draw_are_noted() -> None:
    draws = np.random.default_rng(0)

    def texts(listed: list[str]) -> NDArray[np.float64]:
        return np.array(embed_texts(listed)) + 0.01 * draws.normal(size=(len(listed), 12))

    served = nibt.load_model(images=embed_images, texts=texts)
    assert any(
        "given twice, differ by 0.0" in note for note in nibt.explain(served, picture(), CAPTION, "ones").warnings
    )
    assert not any("twice" in note for note in nibt.explain(model(), picture(), CAPTION, "ones").warnings)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"images": embed_images}, CannotLoad, "texts must be a function.*give both"),
        ({"images": 3, "texts": embed_texts}, CannotLoad, "images must be a function"),
        ({}, CannotLoad, "a model is missing"),
        ({"id": "scenes", "name": "a name"}, BadOption, "name is of a model of two functions"),
        ({"id": "scenes", "images": embed_images, "texts": embed_texts}, BadOption, "take the place of a model"),
        ({"images": embed_images, "texts": embed_texts, "dtype": "float16"}, BadOption, "dtype cannot be set"),
        ({"images": embed_images, "texts": embed_texts, "image_size": 3}, BadOption, "image_size must be between"),
        ({"images": embed_images, "texts": embed_texts, "name": 3}, BadOption, "name must be a text"),
        ({"images": lambda _: None, "texts": embed_texts}, CannotLoad, "the function images must return an array"),
        ({"images": lambda _: ["a"], "texts": embed_texts}, CannotLoad, "the function images must return an array"),
        ({"images": lambda _: [torch.ones(2, requires_grad=True)] * 2, "texts": embed_texts}, CannotLoad, "an array"),
        ({"images": lambda _: torch.ones(2, 12, device="meta"), "texts": embed_texts}, CannotLoad, "an array"),
        ({"images": embed_images, "texts": lambda _: np.ones((1, 12))}, CannotLoad, r"shape \(3, dim\)"),
        ({"images": embed_images, "texts": lambda t: np.full((len(t), 12), np.nan)}, CannotLoad, "finite vectors"),
        ({"images": embed_images, "texts": lambda t: np.zeros((len(t), 12))}, CannotLoad, "not zero"),
        ({"images": embed_images, "texts": lambda t: np.ones((len(t), 7))}, CannotLoad, "vectors of one length"),
        ({"images": embed_images, "texts": lambda t: np.ones((len(t), 12))}, CannotLoad, "texts must tell its inputs"),
        ({"images": lambda i: np.ones((len(i), 12)), "texts": embed_texts}, CannotLoad, "images must tell its inputs"),
    ],
)
def test_wrong_functions_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nibt.load_model(**arguments)


def test_a_function_that_changes_its_answer_is_refused_while_it_explains() -> None:
    calls = []

    def images(listed: list[Image.Image]) -> NDArray[np.float64]:
        calls.append(len(listed))
        return embed_images(listed)[: len(listed) - (len(calls) > 2)]  # two calls check it

    served = nibt.load_model(images=images, texts=embed_texts)
    with pytest.raises(CannotLoad, match="the function images must return an array of the shape"):
        nibt.explain(served, picture(), CAPTION, "occlusion")
