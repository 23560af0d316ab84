"""Tests of ``nibt.results.frames``."""

import math
import sys
from typing import Any

import pytest

import nibt
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.models.base import Model
from tests.answers import PEAK, WHOLE, answer


@pytest.fixture
def model(scenes: Model) -> Model:
    return scenes


def test_frame_has_a_row_per_pair(model: Model) -> None:
    explanations = nibt.explain(model, "sample:coffee", ["a red cup", "a dog"])
    frame = nibt.to_frame(explanations)
    assert len(frame) == 2
    assert frame["caption"].tolist() == ["a red cup", "a dog"]
    assert frame["image"].unique().tolist() == ["sample:coffee"]
    for row, explanation in zip(frame.to_dict("records"), explanations, strict=True):
        assert row["similarity"] == explanation.similarity == pytest.approx(row["image_value"])
        assert row["image_sum"] == pytest.approx(float(explanation.grid.sum()))
        assert row["text_sum"] == pytest.approx(sum(word.score for word in explanation.words), abs=1e-6)
        path = explanation.image.path
        assert path is not None
        assert row["image_completeness_gap"] == float(path.gap)
        assert row["mismatch"] == any("do not" in warning or "not rate" in warning for warning in explanation.warnings)
        assert (row["image_target"], row["method"], row["variant"]) == ("cosine", "nib", "default")


def test_frame_has_a_row_per_word(model: Model) -> None:
    explanations = nibt.explain(model, "sample:coffee", ["a red cup", "a dog"])
    frame = nibt.to_frame(explanations, rows="words")
    assert frame["word"].tolist() == ["a", "red", "cup", "a", "dog"]
    assert frame["position"].tolist() == [0, 1, 2, 0, 1]
    assert frame["error"].isna().all()
    assert frame["score"].tolist() == [word.score for one in explanations for word in one.words]
    sums = nibt.to_frame(explanations)["text_sum"]
    assert frame.groupby("pair")["score"].sum().tolist() == pytest.approx(sums.tolist(), abs=1e-6)


def test_frame_of_answers_has_a_row_per_word() -> None:
    options: dict[str, Any] = {"method": "saliency_map", "other_images": []}
    explanations = [
        nibt.explain_answer("scenes_generator", "sample:scene", "describe the picture", text, **options)
        for text in ("a house", "a cat")
    ]
    for rows in ("pairs", "words"):
        frame = nibt.to_frame(explanations, rows=rows)
        assert frame["word"].tolist() == ["a", "house", "a", "cat"]
    assert frame["pair"].tolist() == [0, 0, 1, 1]
    assert frame["position"].tolist() == [0, 1, 0, 1]
    assert set(frame["answer"]) == {"a house", "a cat"}
    words = [word for explanation in explanations for word in explanation.words]
    for row, word in zip(frame.to_dict("records"), words, strict=True):
        assert math.isnan(row["with_other_images"])
        for name in ("log_probability", "with_blank_image", "image_gain", "image_hardly_matters", "value", "gap"):
            assert row[name] == getattr(word, name)
        assert {name: row[f"{name}_share"] for name in word.shares} == word.shares
    with pytest.raises(BadInput, match="of pairs, or of answers"):
        nibt.to_frame([answer(PEAK, (90, 90), WHOLE), explanations[0]])


def test_frame_of_one_explanation_without_a_path() -> None:
    (row,) = nibt.to_frame(answer(PEAK, (90, 90), WHOLE)).to_dict("records")
    assert (row["pair"], row["caption"], row["mismatch"]) == (0, "a red cat", False)
    assert math.isnan(row["text_completeness_gap"])


def test_frame_rejects_other_rows() -> None:
    with pytest.raises(BadOption, match=r"rows must be one of pairs, words \(got 'tokens'\)"):
        nibt.to_frame([], rows="tokens")


def test_frame_needs_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(Unsupported, match=r"results need pandas: in a clone of nibt, pip install '\.\[data\]'"):
        nibt.to_frame([answer(PEAK, (90, 90), WHOLE)])
