"""Tests of ``nibt.evaluation.audit.runner``."""

import numpy as np

from nibt.datasets.scenes import Scenes
from nibt.evaluation.audit.runner import caption_words, nonsense_captions, other_captions, other_images
from nibt.evaluation.maps import Map

MANY = 8


def test_counterfactuals_differ_from_the_pairs() -> None:
    pairs = list(Scenes(count=MANY, seed=5))
    for own, other in zip(pairs, other_captions(pairs), strict=True):
        assert own.image is other.image
        assert not [obj for obj in own.objects if obj.name in other.caption.split()]
    for own, other in zip(pairs, other_images(pairs), strict=True):
        assert own.caption == other.caption
        assert own.image is not other.image
    for own, other in zip(pairs, nonsense_captions(pairs, 0), strict=True):
        assert len(own.caption.split()) == len(other.caption.split())
        assert not set(own.caption.split()) & set(other.caption.split())


def test_inner_returns_the_words_of_the_caption() -> None:
    plain = Map(np.array([1.0, 2.0]), ("a", "cat"))
    reworded = Map(np.arange(5.0), ("a", "photo", "of", "a", "cat"))
    actual = caption_words("a photo of {}", reworded, plain)
    assert actual is not None
    assert actual.scores.tolist() == [3.0, 4.0]
    assert caption_words("a photo {}", reworded, plain) is None
