"""Tests of ``nibt.data.ground_truth``."""

import pytest
import torch
from PIL import Image

from nibt.data.ground_truth import GroundTruth, ground_truth
from nibt.data.images import ImageInput, Region
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.data.units import Word, Words


def make_truth(caption: str, words: list[str], spans: tuple, absent: tuple = ()) -> GroundTruth:
    pair = Pair(
        ImageInput(Image.new("RGB", (10, 8)), "drawn"), caption, (Object("x", (2, 1, 4, 3), None, spans),), absent
    )
    units = Words(
        (("t",) * len(words),),
        (tuple(Word(word, (i,)) for i, word in enumerate(words)),),
        torch.ones(1, len(words), dtype=torch.bool),
    )
    return ground_truth(pair, Region(0.0, 0.0, 10.0, 8.0), units)


def test_ground_truth_finds_words_in_order() -> None:
    known = make_truth("a Cat and a cat", ["a", "cat", "and", "a", "cat"], ((12, 15),))
    assert known.named is not None
    assert known.named.tolist() == [False, False, False, False, True]
    lost = make_truth(
        "a cafe\u0301 cat", ["a", "caf\u00e9", "cat"], ((8, 11),), ((0, 1),)
    )  # spelled differently: skipped
    assert lost.named is not None
    assert lost.named.tolist() == [False, False, True]
    assert lost.absent is not None
    assert lost.absent.tolist() == [True, False, False]
    assert make_truth("a cat", ["a", "cat"], ()) == GroundTruth()


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        (Region(0.0, 0.0, 10.0, 8.0), [slice(1, 4), slice(2, 6)]),
        (Region(3.0, 2.0, 5.0, 4.0), [slice(0, 2), slice(0, 3)]),
        (Region(-2.0, -3.0, 14.0, 14.0), [slice(4, 7), slice(4, 8)]),
    ],
)
def test_ground_truth_crops_the_mask_to_the_region(region: Region, expected: list[slice]) -> None:
    obj = Object("x", (2, 1, 4, 3), None, ((0, 1),))
    pair = Pair(ImageInput(Image.new("RGB", (10, 8)), "drawn"), "x", (obj,))
    units = Words((("x",),), ((Word("x", (0,)),),), torch.ones(1, 1, dtype=torch.bool))
    mask = ground_truth(pair, region, units).mask
    assert mask is not None
    whole = torch.zeros(round(region.height), round(region.width), dtype=torch.bool)
    whole[expected[0], expected[1]] = True
    assert torch.equal(mask, whole)
