"""Tests of ``nibt.engine.calibrate``."""

from typing import Any

import pytest
import torch

from nibt.engine.calibrate import calibrate
from nibt.progress import Progress
from tests import tiny
from tests.suites import VARIED, few

IMAGES = [tiny.image(seed=seed) for seed in range(5)]


CAPTIONS = ["cat", "two cars", "a photo of a cat", "a small gray bird on the mat"]


KINDS = ["clip", "siglip", "siglip naflex", "own vit", "own text both ways", "coca", "bert", "convnext", "timm eva"]


every_kind = pytest.mark.parametrize("kind", few(KINDS, VARIED))


def states_of(tower: Any, items: list[Any], layer: int) -> torch.Tensor:
    return torch.cat([tower.trace(tower.prepare([item])).cut(layer).hidden for item in items])


@every_kind
def test_calibrate_gives_the_means_of_images(kind: str) -> None:
    model = tiny.model(kind)
    actual = calibrate(model, IMAGES, batch_size=2)
    assert actual.layers("image") == [str(layer) for layer in range(model.image.depth + 1)]
    assert actual.layers("text") == []
    for layer in range(model.image.depth + 1):
        states = states_of(model.image, IMAGES, layer)
        wanted = states.mean(0) if model.image.positional else states.mean((0, 1))
        torch.testing.assert_close(actual.tensors[f"image.mean.{layer}"], wanted, rtol=1e-4, atol=1e-5)


@every_kind
def test_calibrate_gives_the_means_of_captions(kind: str) -> None:
    """Each caption alone, with its rows counted from its last word."""
    tower = tiny.model(kind).text
    actual = calibrate(tiny.model(kind), [], CAPTIONS, batch_size=1)
    zero = int(actual.facts["zero"])
    for layer in (0, tower.depth):
        after: dict[int, list[torch.Tensor]] = {}
        before: dict[int, list[torch.Tensor]] = {}
        for caption in CAPTIONS:
            cut = tower.trace(tower.prepare([caption])).cut(layer)
            of_words = cut.units.explained[0].nonzero()[:, 0].tolist()
            for row, state in enumerate(cut.hidden[0]):
                place = before.setdefault(row, []) if row < of_words[0] else after.setdefault(row - of_words[-1], [])
                place.append(state)
        mean, first = actual.tensors[f"text.mean.{layer}"], actual.tensors[f"text.first.{layer}"]
        assert len(mean) == len(after)
        assert len(first) == len(before)
        assert zero == -min(after)
        for place, states in after.items():
            torch.testing.assert_close(mean[zero + place], torch.stack(states).mean(0), rtol=1e-4, atol=1e-5)
        for row, states in before.items():
            torch.testing.assert_close(first[row], torch.stack(states).mean(0), rtol=1e-4, atol=1e-5)


def test_calibrate_aligns_captions_at_their_last_word() -> None:
    """The mean of the end token is that of end tokens, and that of the start token of start tokens, at every length."""
    tower = tiny.model("clip").text
    actual = calibrate(tiny.model("clip"), [], CAPTIONS)
    inputs = tower.prepare(["dog", "the two red dogs on the small mat"])
    cut = tower.trace(inputs).cut(2)
    states = actual.state(tower, inputs, cut.hidden, 2)
    assert states.shape == cut.hidden.shape
    starts = torch.stack([states_of(tower, [caption], 2)[0, 0] for caption in CAPTIONS]).mean(0)
    ends = torch.stack([states_of(tower, [caption], 2)[0, -1] for caption in CAPTIONS]).mean(0)
    lasts = torch.stack([states_of(tower, [caption], 2)[0, -2] for caption in CAPTIONS]).mean(0)
    for row, length in enumerate([1, 7]):
        count = int(inputs.words.explained[row].sum())
        assert count >= length
        torch.testing.assert_close(states[row, 0], starts, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(states[row, count], lasts, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(states[row, count + 1], ends, rtol=1e-4, atol=1e-5)


def test_calibrated_states_extend_to_longer_captions() -> None:
    tower = tiny.model("clip").text
    actual = calibrate(tiny.model("clip"), [], ["cat", "dog"])
    inputs = tower.prepare(["a small gray bird sleeping on the red mat"])
    states = actual.state(tower, inputs, tower.trace(inputs).cut(1).hidden, 1)
    words = states[0, inputs.words.explained[0]]
    assert torch.equal(words, words[:1].expand_as(words))  # the only word position


@every_kind
def test_calibrate_is_independent_of_the_batch(kind: str) -> None:
    model = tiny.model(kind)
    one, other = (calibrate(model, IMAGES, CAPTIONS, batch_size=size) for size in (1, 8))
    assert one.tensors.keys() == other.tensors.keys()
    for key, tensor in one.tensors.items():
        torch.testing.assert_close(tensor, other.tensors[key], rtol=1e-4, atol=1e-5)


def test_calibrate_takes_layers() -> None:
    actual = calibrate(tiny.model("clip"), IMAGES, CAPTIONS, layers=[1, 3])
    assert actual.layers("image") == actual.layers("text") == ["1", "3"]


def test_calibrate_reports_progress() -> None:
    done: list[Progress] = []
    calibrate(tiny.model("clip"), IMAGES, CAPTIONS, batch_size=2, on_progress=done.append)
    total = len(IMAGES) + len(CAPTIONS)
    assert done == [Progress(count, total) for count in (2, 4, 5, 7, total)]
