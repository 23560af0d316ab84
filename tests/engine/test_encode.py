"""Tests of ``nibt.engine.encode``."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from nibt.engine.encode import encode, most_together
from nibt.preprocessing.images import Resize
from tests import tiny

CAPTIONS = ["a cat and a dog on a mat", "a cat", "two red cars and a blue bird", "a dog", "a bird on a tree"]


def test_embeddings_have_the_order_of_the_captions() -> None:
    """Captions of similar length share a batch, whatever their order; the oracle is each alone."""
    tower = tiny.model("clip").text
    each = torch.cat([tower.encode(tower.prepare([caption])) for caption in CAPTIONS])
    assert float((each[0] - each[1]).abs().max()) > 1e-3
    torch.testing.assert_close(encode(tower, CAPTIONS, batch_size=2), each, atol=1e-6, rtol=1e-5)


def test_batches_have_captions_of_similar_length(monkeypatch: pytest.MonkeyPatch) -> None:
    tower, batches = tiny.model("clip").text, []
    prepare = tower.prepare

    def seen(items: Any) -> Any:
        batches.append(sorted(items))
        return prepare(items)

    monkeypatch.setattr(tower, "prepare", seen)
    encode(tower, CAPTIONS, batch_size=2)
    assert batches == [["a cat", "a dog"], sorted([CAPTIONS[4], CAPTIONS[0]]), [CAPTIONS[2]]]


@pytest.mark.parametrize(("side", "size", "together"), [(32, 16, 16), (512, 16, 2), (4096, 16, 1), (512, 1, 1)])
def test_few_large_images_go_through_a_tower_together(
    side: int, size: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together they have at most half a million pixels, of the input of the tower."""
    tower = tiny.model("clip").image
    resize = Resize("squash", side, side)
    monkeypatch.setattr(tower, "preparation", replace(tower.preparation, resize=resize))

    assert most_together(tower, [tiny.image()], size) == together


def test_captions_and_images_without_a_preparation_share_the_batch_that_was_asked_for() -> None:
    assert most_together(tiny.model("clip").text, ["a cat"], 16) == 16
    assert most_together(tiny.model("clip").image, [], 16) == 16
