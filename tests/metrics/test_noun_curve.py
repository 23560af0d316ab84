"""Tests of the metrics ``noun_deletion`` and ``noun_insertion``."""

import numpy as np
import pytest
import torch

from nibt.metrics.base import Noun
from nibt.metrics.region_curves import NounDeletion, NounInsertion
from tests.helpers import Record, assert_error_below
from tests.metrics.known_tables import embeddings_by_hand, input_of, known, number, quarter, tiny_table
from tests.suites import few

KINDS = {False: NounDeletion, True: NounInsertion}


def area_by_hand(table: np.ndarray, words: tuple[int, ...], inserted: bool, caption: str, levels: int) -> float:
    """Return the area for one noun: patches go, or come, by the sum of the rows of its words."""
    order = np.argsort(-table[list(words)].sum(0), kind="stable")
    patches, kept_words = torch.full((levels + 1, 16), float(not inserted)), torch.ones(levels + 1, 4)
    for level in range(levels + 1):
        patches[level, order[: round(level / levels * 16)]] = float(inserted)
    if caption == "noun":
        kept_words[:] = torch.tensor([float(word in words) for word in range(4)])
    image, text = embeddings_by_hand(patches, kept_words)
    scores = (image * text).sum(1).double().numpy()
    return float(np.trapezoid(scores, dx=1 / levels))


@pytest.mark.parametrize("caption", few(["whole", "noun"], ["noun"]))
@pytest.mark.parametrize("inserted", [False, True])
def test_areas_equal_those_of_one_noun_after_the_other(inserted: bool, caption: str, record_property: Record) -> None:
    rng = np.random.default_rng(1)
    actual, expected = [], []
    for _ in range(3):
        table = rng.standard_normal((4, 16))
        nouns = Noun((1,), quarter(0, 0), ()), Noun((2, 3), quarter(1, 1), ())
        metric_input = input_of(known(table.tolist()), *nouns)
        actual.append(number(KINDS[inserted](8, caption), metric_input))
        expected.append(np.mean([area_by_hand(table, noun.words, inserted, caption, 8) for noun in nouns]))
    assert_error_below(2e-6, actual, expected, record_property)


def test_the_curve_has_the_area_and_known_ends() -> None:
    metric_input = input_of(tiny_table("occlusion")[0], Noun((1,), quarter(0, 0), ()))
    curves = {}
    for inserted, kind in KINDS.items():
        area, curve = kind().measured(metric_input)
        assert curve.shape == (1, 11)
        assert float(torch.trapezoid(curve) / 10) == pytest.approx(float(area))
        curves[inserted] = curve[0]
    ends = embeddings_by_hand(torch.tensor([[1.0] * 16, [0.0] * 16]), torch.ones(2, 4))
    whole, nothing = (ends[0] * ends[1]).sum(1).tolist()
    assert curves[False][[0, -1]].tolist() == pytest.approx([whole, nothing], abs=1e-5)
    assert curves[True][[0, -1]].tolist() == pytest.approx([nothing, whole], abs=1e-5)
    assert (NounDeletion.better, NounInsertion.better) == ("lower", "higher")


def test_curves_need_a_noun() -> None:
    area, curve = NounDeletion(4).measured(input_of(known([[1.0]])))
    assert area.isnan().all()
    assert curve.shape == (1, 5)
    assert curve.isnan().all()
