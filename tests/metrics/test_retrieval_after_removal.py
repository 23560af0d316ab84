"""Tests of ``nibt.metrics.removal``."""

from typing import Any

import numpy as np
import pytest
import torch

import nibt
from nibt.data.pair import Pair
from nibt.engine.encode import encode
from nibt.errors import BadOption
from nibt.metrics.base import Candidates
from nibt.metrics.removal import RetrievalAfterRemoval
from nibt.targets.base import CosineSimilarity
from tests import tiny
from tests.helpers import noise_pairs
from tests.metrics.known_maps import FIRST, on


def matched_pairs(count: int = 6) -> list[Pair]:
    """Return pairs of noise, matched greedily by similarity, so that the first is retrieved in both directions."""
    similarities, pairs = similarities_of(noise_pairs(count)), noise_pairs(count)
    matched = []
    for _ in range(count):
        image, caption = divmod(int(similarities.argmax()), count)
        matched.append(Pair(pairs[image].image, pairs[caption].caption))
        similarities[image], similarities[:, caption] = -9, -9
    return matched


def similarities_of(pairs: list[Pair]) -> torch.Tensor:
    """Return the similarities of all images with all captions."""
    model = tiny.model("clip")
    images, texts = (
        encode(model.image, [pair.image for pair in pairs]),
        encode(model.text, [pair.caption for pair in pairs]),
    )
    return model.similarity.to_each(images, texts).clone()


@pytest.mark.parametrize("corrupted", ["query", "candidate"])
@pytest.mark.parametrize("side", ["image", "text"])
def test_removal_of_everything_leaves_what_a_blank_input_retrieves(side: Any, corrupted: str) -> None:
    """The oracle encodes the blank input itself: an image of the mean color, or a caption of padding."""
    model, data = tiny.model("clip"), matched_pairs()
    metric = RetrievalAfterRemoval(corrupted, 1.0, 1.0)
    rows = nibt.measure(model, data, [metric], "random", side=side)
    images, texts = (
        encode(model.image, [pair.image for pair in data]),
        encode(model.text, [pair.caption for pair in data]),
    )
    own, other = (images, texts) if side == "image" else (texts, images)
    keys = {"image": [pair.image.digest for pair in data], "text": [pair.caption for pair in data]}
    items = [pair.image for pair in data] if side == "image" else keys["text"]
    rivals = keys[side] if corrupted == "candidate" else keys["text" if side == "image" else "image"]
    tower = model.image if side == "image" else model.text
    for position, row in enumerate(rows):
        trace = tower.trace(tower.prepare([items[position]]), 0)
        blank = trace.cut(tower.depth).rest(tower.blank(trace.inputs, tower.depth)[None])[0, 0]
        competing = [k for k in range(len(data)) if rivals[k] != rivals[position]]

        def hit(embedding: torch.Tensor, position: int = position, competing: list[int] = competing) -> bool:
            score = model.similarity(embedding, other[position])
            if corrupted == "query":
                return bool(score > max(model.similarity(embedding, other[k]) for k in competing))
            return bool(score > max(model.similarity(own[k], other[position]) for k in competing))

        expected = 1 - float(hit(blank)) if hit(own[position]) else float("nan")
        assert row.value == pytest.approx(expected, nan_ok=True)
    assert any(not np.isnan(row.value) for row in rows)


def test_hits_of_known_embeddings() -> None:
    """Three pairs in the plane: the partner of the first is along x, its rival along y."""
    along = torch.eye(2)
    candidates = Candidates(CosineSimilarity(), along[:1], (along[1:],), (along[1:],))
    embeddings = torch.tensor([[[1.0, 0.2]], [[0.2, 1]], [[1, 1]]])
    query, candidate = (RetrievalAfterRemoval(name)._hits(candidates)(embeddings) for name in ("query", "candidate"))
    assert query.tolist() == [[1], [0], [0]], "a tie is no hit"
    assert candidate.tolist() == [[1], [1], [1]], "the rival has 0 with the partner"
    alone = Candidates(CosineSimilarity(), along[:1], (along[:0],), (along[:0],))
    for name in ("query", "candidate"):
        assert RetrievalAfterRemoval(name)._hits(alone)(embeddings).isnan().all()


def test_pairs_that_are_not_retrieved_have_no_value() -> None:
    data = matched_pairs()
    similarities = similarities_of(data)
    for side, table in (("image", similarities), ("text", similarities.T)):
        rows = nibt.measure(tiny.model("clip"), data, ["retrieval_after_removal"], "random", side=side)  # pyright: ignore
        hits = [int(scores.argmax()) == position for position, scores in enumerate(table)]
        assert [not np.isnan(row.value) for row in rows] == hits
        assert hits[0]
        assert not all(hits)
    (single, _) = nibt.measure(tiny.model("clip"), data[:1], ["retrieval_after_removal"], "random")
    assert np.isnan(single.value), "nothing competes"
    assert RetrievalAfterRemoval()(on(FIRST)).isnan().all()


def test_value_does_not_depend_on_the_batch() -> None:
    model, data = tiny.model("clip"), matched_pairs()
    together, alone = (
        [row.value for row in nibt.measure(model, data, ["retrieval_after_removal"], "nib", batch_size=size)]
        for size in (6, 1)
    )
    np.testing.assert_array_equal(together, alone)


def test_retrieval_rejects_wrong_options() -> None:
    with pytest.raises(BadOption, match=r"corrupted must be one of query, candidate \(got 'both'\)"):
        RetrievalAfterRemoval("both")
