"""Tests of the places of cells: a painted cell is where the state of the model changes most."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nibt
from benchmarks.models.tiny_vision_language import Making, llava
from nibt.data.images import ImageInput
from nibt.data.units import SequenceUnits
from nibt.errors import CannotLoad
from nibt.generators.answers import ForcedWord, Generator, Prompted
from nibt.generators.loading import load_generator
from nibt.models._heads import ClassTokenTower
from nibt.models._vision_language.pixels import SquareLayout
from tests import tiny
from tests.tiny import randomized

_REGISTERS: dict[str, Any] = {"model_type": "dinov2_with_registers", "hidden_size": 16, "num_hidden_layers": 3}
_REGISTERS |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 8, "num_register_tokens": 4, "mlp_ratio": 2}


def loaded(making: Making) -> Generator:
    return load_generator(randomized(making.make), processor=making.processor)


def states(generator: Generator, image: Image.Image) -> tuple[torch.Tensor, SequenceUnits]:
    """Return the states that enter the decoder, with the blocks of the vision encoder skipped, and their units."""
    tower = generator.answers
    prompted = Prompted(ImageInput(image, "noise"), "what is in the image")
    inputs = tower.prepare([ForcedWord(prompted, tower.read(prompted, "a cat"))])
    with tower.unmixed():
        cut = tower.stem(inputs)
    assert isinstance(cut.units, SequenceUnits)
    return cut.hidden[0], cut.units


def painted(image: Image.Image, row: int, column: int) -> Image.Image:
    pixels = np.array(image)
    pixels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] ^= 255
    return Image.fromarray(pixels)


FULL: dict[str, Callable[[], Making]] = {
    "class token": lambda: llava("full"),
    "registers": lambda: llava("full", _REGISTERS, 5),
}


@pytest.mark.parametrize("kind", FULL)
def test_special_tokens_of_a_vision_encoder_are_no_cells(kind: str) -> None:
    generator = loaded(FULL[kind]())
    image = tiny.image(32, 32).pil_image
    before, units = states(generator, image)
    assert (units.grid.rows, units.grid.columns) == (4, 4)

    for row, column in ((0, 0), (1, 2), (3, 3)):
        after, _ = states(generator, painted(image, row, column))
        assert (after - before).norm(dim=-1).argmax() == units.grid.tokens[4 * row + column]


def test_class_token_in_a_prompt_does_not_move_the_scores_of_words() -> None:
    generator = loaded(llava("full"))
    _, units = states(generator, tiny.image(32, 32).pil_image)
    count = units.words.count
    numbers = torch.arange(1.0, count + 1)[None]
    scores = units.keep(numbers)[0]
    assert len(scores) == units.count
    for word in units.words.words[0]:
        for row in word.tokens:
            assert scores[16 + row] == row + 1

    explanation = nibt.explain_answer(generator, tiny.image(32, 32), "what is in the image", "a cat")
    assert explanation.prompt_words == ("what", "is", "in", "the", "image")


def test_vision_encoder_whose_special_tokens_look_like_cells_is_refused() -> None:
    """A grid of 2 x 2 cells with five special tokens has as many tokens as one of 3 x 3."""
    making = llava("full", {**_REGISTERS, "image_size": 16}, 5)
    with pytest.raises(CannotLoad, match=r"would be drawn at wrong places: .* of its 3 x 3 cells changes the state of"):
        loaded(making)


def test_shifted_cells_of_a_generator_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = SquareLayout.grid
    monkeypatch.setattr(
        SquareLayout, "grid", lambda layout, inputs, places: plain(layout, inputs, places[1:] + places[:1])
    )
    with pytest.raises(CannotLoad, match=r"row 2 and column 3 of its 4 x 4 cells .* of row 2 and column 2 most"):
        loaded(llava())


def test_shifted_cells_of_a_dual_encoder_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClassTokenTower, "prefix", 0)
    with pytest.raises(CannotLoad, match=r"row 2 and column 3 of its 4 x 4 cells .* of row 2 and column 4 most"):
        tiny.fresh("clip")


def test_checking_places_leaves_no_hook() -> None:
    generator = loaded(llava())
    hooks = [hook for module in generator.module.modules() for hook in module._forward_hooks.values()]
    assert not any(getattr(hook, "of_nibt", False) for hook in hooks)
