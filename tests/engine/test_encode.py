"""Tests of ``nibt.engine.encode``."""

from typing import Any

import pytest
import torch

from nibt.engine.encode import encode
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
