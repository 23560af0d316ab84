"""Tests of the metrics ``confidence_drop`` and ``confidence_increase``."""

import copy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nibt
from nibt.core.side import Side
from nibt.data.images import ImageInput
from nibt.data.pair import Pair
from nibt.errors import BadOption, Unsupported
from nibt.methods.controls import Ones
from nibt.methods.nib import NIB
from nibt.metrics.base import MetricInput
from nibt.metrics.confidence import ConfidenceDrop, ConfidenceIncrease, all_row_scores
from nibt.models.base import Model
from nibt.registry import find
from nibt.results.attribution import Attribution
from tests import tiny
from tests.helpers import Golden, Record, assert_error_below, at_end, count_hooks, make_side, peer, stretch
from tests.metrics.linear_maps import long_sides, nothing, ordered, pairs, trial, values
from tests.suites import few


def flat(of_side: Side, value: float) -> Attribution:
    cut = of_side.cut(0)
    rows = torch.full(cut.hidden.shape[:2], value)
    return Attribution(cut.units.keep(rows), cut.units, torch.zeros(2))


@pytest.mark.parametrize("modality", ["image", "text"])
def test_confidence_of_a_flat_map_keeps_nothing(modality: str) -> None:
    """A flat map counts as 0, so the blank image or caption is kept."""
    here = make_side(tiny.model("clip"), modality)
    nothing = at_end(here, "zero", None, here.cut(0), here.tower.blank(here.inputs, 0))
    drop = find("metrics", "confidence_drop")()(MetricInput(here, flat(here, 1.0)))
    rise = find("metrics", "confidence_increase")()(MetricInput(here, flat(here, 1.0)))
    torch.testing.assert_close(drop, 100 * (here.value() - nothing).clamp_min(0), atol=1e-4, rtol=1e-4)
    assert rise.tolist() == (100 * (nothing > here.value()).float()).tolist()


def test_confidence_drop_keeps_the_words_of_the_map() -> None:
    here = make_side(tiny.model("clip"), "text")
    answer = flat(here, 1.0)
    scores = answer.scores.clone()
    scores[:, 1] = 0  # the first word is removed, all others stay
    kept = torch.ones_like(scores)
    kept[:, 1] = 0
    with here.tower.blend_to_padding(kept):  # pyright: ignore
        expected = here.score(here.tower.encode(here.inputs))
    drop = find("metrics", "confidence_drop")()(MetricInput(here, replace(answer, scores=scores)))
    torch.testing.assert_close(drop, 100 * (here.value() - expected).clamp_min(0), atol=1e-4, rtol=1e-4)


def authors(model: Model, image: ImageInput, caption: str, rows: np.ndarray) -> tuple[float, float]:
    """Return the score of a caption and of what is kept of it, as in the code of the authors: in a copy of the model
    with an edited token table, for token scores in [0, 1] including start and end.
    """
    ids = model.text.prepare([caption]).values[:, 1:-1]
    edited = copy.deepcopy(model.module)
    with torch.no_grad():
        weight = edited.text_model.embeddings.token_embedding.weight
        for token, keep in zip(ids[0].tolist(), rows[1:-1].tolist(), strict=True):
            weight[token] = weight[token] * keep
        image = model.image.encode(model.image.prepare([image]))
        before, after = (
            torch.cosine_similarity(image, one.get_text_features(ids).pooler_output).item()
            for one in (model.module, edited)
        )
    return before, after


@pytest.mark.parametrize("case", few([0, 1], [1]))
def test_paper_protocol_equals_the_code_of_the_authors(golden: Golden, case: int) -> None:
    """The metric removes by the maps of the authors, and its values are those of the edited copy."""
    model = golden.model
    pair = Pair(nibt.data.images.read_image(golden.images[case]), golden.captions[case])
    image, text = (
        tower.trace(tower.prepare([item])) for tower, item in ((model.image, pair.image), (model.text, pair.caption))
    )
    method, metric = NIB((9,), "zero", "riemann", 10), ConfidenceDrop(protocol="paper")
    of = trial(Side(model, text, lambda here: torch.cosine_similarity(here, image.embedding, dim=-1)), method)
    rows = golden.outputs[f"nib_s10_l9_t_{case}"].ravel()
    np.testing.assert_allclose(stretch(all_row_scores(of)[0]), rows, atol=1e-4)
    captions = torch.cat(metric.scores(of)).tolist()
    assert captions == pytest.approx(authors(model, pair.image, pair.caption, rows), abs=1e-4)
    of = trial(Side(model, image, lambda here: torch.cosine_similarity(here, text.embedding, dim=-1)), method)
    keep = torch.from_numpy(stretch(nibt.results.pixels.to_pixels(of.attribution.grid, 224, 224)[0]))
    np.testing.assert_allclose(keep[::8, ::8], golden.outputs[f"nib_s10_l9_v_{case}"], atol=1e-4)
    seen = of.side.score(model.image.encode(replace(image.inputs, values=image.inputs.values * keep)))
    images = torch.cat(metric.scores(of)).tolist()
    assert images == pytest.approx([of.side.value().item(), seen.item()], abs=1e-6)
    for kind, number in (
        (ConfidenceDrop, lambda whole, kept: 100 * max(0.0, whole - kept)),
        (ConfidenceIncrease, lambda whole, kept: 100.0 * (kept > whole)),
    ):
        actual = values(model, [pair], kind(protocol="paper"), variant="paper", layer=9)
        assert actual == pytest.approx([number(*images), number(*captions)], abs=1e-3)


@pytest.mark.parametrize("kind", ["clip", "clip legacy end"])
def test_paper_protocol_scales_a_repeated_word_by_the_product(kind: str) -> None:
    model, image = tiny.model(kind), tiny.image()
    captions = ["cat dog cat cat", "a red cat on the red mat", "dog"]
    before = model.weights_hash, count_hooks(model.module)
    metrics = [ConfidenceDrop(protocol="paper"), ConfidenceIncrease(protocol="paper")]
    actual = nibt.measure(
        model, [Pair(image, caption) for caption in captions], metrics, variant="paper", side="text", layer=2
    )
    for place, caption in enumerate(captions):
        text, opposite = model.text.prepare([caption]), model.image.encode(model.image.prepare([image]))
        of = Side(
            model,
            model.text.trace(text),
            lambda here, opposite=opposite: torch.cosine_similarity(here, opposite, dim=-1),
        )
        metric_input = trial(of, NIB((2,), "zero", "riemann", 10))
        rows = all_row_scores(metric_input)[0]
        assert rows[0] != 0, "the start token has its score"
        whole, kept = authors(model, image, caption, stretch(rows))
        assert torch.cat(metrics[0].scores(metric_input)).tolist() == pytest.approx([whole, kept], abs=1e-5)
        drop, rise = (row.value for row in actual if row.item == place)
        assert drop == pytest.approx(100 * max(0.0, whole - kept), abs=1e-3)
        assert rise == 100 * (kept > whole)
    assert (model.weights_hash, count_hooks(model.module)) == before


def test_paper_protocol_stretches_the_pixels_of_images() -> None:
    of = make_side(tiny.model("clip"), "image")
    scores = torch.randn(2, 16, generator=torch.Generator().manual_seed(4))
    scores[1] = 3.0  # a flat map keeps nothing
    actual = ConfidenceDrop(protocol="paper")(MetricInput(of, Attribution(scores, of.units, torch.zeros(2))))
    pixels = torch.nn.functional.interpolate(scores.reshape(2, 1, 4, 4), (32, 32), mode="bilinear")
    keep = torch.stack([torch.from_numpy(stretch(pixels[0])), torch.zeros(1, 32, 32)])
    seen = of.score(of.tower.encode(replace(of.inputs, values=of.inputs.values * keep)))
    torch.testing.assert_close(actual, 100 * (of.value() - seen).clamp_min(0), atol=1e-3, rtol=1e-4)


def test_paper_protocol_rejects_other_text_towers() -> None:
    for kind in ("siglip", "own vit", "bert"):
        with pytest.raises(Unsupported, match="protocol='correct'"):
            values(tiny.model(kind), pairs(1), ConfidenceDrop(protocol="paper"), side="text")
        assert np.isfinite(values(tiny.model(kind), pairs(1), ConfidenceDrop(protocol="paper"), side="image"))
    of = make_side(tiny.model("clip"), "text")
    with pytest.raises(Unsupported, match=r"nibt\.measure"):
        ConfidenceDrop(protocol="paper")(MetricInput(of, Ones()(of)))
    with pytest.raises(BadOption, match="leave hide out"):
        ConfidenceDrop(protocol="paper", hide="blur")
    with pytest.raises(BadOption, match="one of correct, paper"):
        ConfidenceDrop(protocol="published")


class Extractor(nn.Module):
    """The features of a tower, as pytorch-grad-cam calls them."""

    def __init__(self, features: Any) -> None:
        super().__init__()
        self.features = features

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.features(values).pooler_output


@pytest.mark.parametrize("kind", ["clip", "clip legacy end"])
@pytest.mark.parametrize("modality", ["image", "text"])
def test_m2ib_protocol_equals_its_program(kind: str, modality: str, record_property: Record) -> None:
    """The program calls pytorch-grad-cam with a map in place of a batch of maps, and multiplies ids by 0 or 1."""
    metrics = [
        peer(f"pytorch_grad_cam.metrics.cam_mult_image.{name}")()
        for name in ("DropInConfidence", "IncreaseInConfidence")
    ]
    model, generator = tiny.model(kind), torch.Generator().manual_seed(3)
    actual, expected = [], []
    for item, caption in enumerate(("a red cat on the red mat", "two cars", "the small gray bird", "a cat", "dog")):
        image, text = model.image.prepare([tiny.image(seed=item)]), model.text.prepare([caption])
        extractors = Extractor(model.module.get_image_features), Extractor(model.module.get_text_features)
        if modality == "image":
            trace, inputs, extractor = model.image.trace(image), image.values, extractors[0]
            with torch.no_grad():
                other = extractors[1](text.values)
        else:
            trace, inputs, extractor = model.text.trace(text), text.values[:, 1:-1], extractors[1]
            with torch.no_grad():
                other = extractors[0](image.values)
        of = Side(model, trace, lambda here, other=other: torch.cosine_similarity(here, other, dim=-1))
        scores = torch.randn(of.units.count if modality == "image" else text.values.shape[1], generator=generator)
        if modality == "image":
            pixels = torch.nn.functional.interpolate(scores.reshape(1, 1, 4, 4), size=32, mode="bilinear")
            scaled = stretch(pixels.squeeze())
        else:
            scaled = stretch(scores)[None, 1:-1]
            scaled = scaled > np.percentile(scaled, 50)
        target = partial(torch.cosine_similarity, other)
        expected += [100 * metric(inputs, scaled, [target], extractor)[0][0] for metric in metrics]
        trial_input = MetricInput(of, Attribution(scores[None], of.units, torch.zeros(1)))
        actual += [metric(protocol="m2ib")(trial_input).item() for metric in (ConfidenceDrop, ConfidenceIncrease)]
    assert max(expected[::2]) > 1, "some scores fall"
    assert_error_below(1e-4, actual, expected, record_property)


def test_m2ib_protocol_takes_batches_and_rejects_other_text_towers() -> None:
    model = tiny.model("clip")
    metric = ConfidenceDrop(protocol="m2ib")
    together = values(model, pairs(3), metric, batch_size=3)
    assert together == pytest.approx(values(model, pairs(3), metric, batch_size=1), abs=1e-3)
    with pytest.raises(Unsupported, match="the protocol m2ib needs the text tower of CLIP"):
        values(tiny.model("siglip"), pairs(1), metric, side="text")
    with pytest.raises(BadOption, match="hide must be mean with the protocol m2ib"):
        ConfidenceDrop(protocol="m2ib", hide="noise")


@long_sides
def test_confidence_drop_is_smallest_for_a_perfect_map(of: Side) -> None:
    """An even map keeps nothing, so the whole score drops."""
    best, even, worst = ordered(of, ConfidenceDrop())
    torch.testing.assert_close(even, 100 * (of.value().abs() - nothing(of)).clamp_min(0), rtol=1e-4, atol=1e-3)
    assert (best < even).all()
    assert (best < worst).all()


def test_confidence_of_a_score_that_stays_is_zero() -> None:
    of = make_side(tiny.model("clip"), "image")
    still = replace(of, score=lambda embedding: 0 * embedding[..., 0] + 0.25)
    metric_input = MetricInput(still, flat(still, 1.0))
    assert ConfidenceDrop()(metric_input).tolist() == [0, 0]
    assert ConfidenceIncrease()(metric_input).tolist() == [0, 0]


def test_confidence_measures_each_removal_anew() -> None:
    """Metrics share what they compute for one input, but only with the same options."""
    of = make_side(tiny.model("clip"), "image")
    scores = torch.rand(2, 16, generator=torch.Generator().manual_seed(0))
    answer = Attribution(scores, of.units, torch.zeros(2))
    shared = MetricInput(of, answer)
    kept = []
    for metric in (
        ConfidenceDrop(),
        ConfidenceDrop(hide="noise"),
        ConfidenceDrop(hide="noise", seed=1),
        ConfidenceDrop(hide="blur"),
        ConfidenceDrop(protocol="paper"),
    ):
        kept.append(metric.scores(shared)[1])
        assert torch.equal(kept[-1], metric.scores(MetricInput(of, answer))[1])
        assert metric.scores(shared) is metric.scores(shared)
    assert len({tuple(row.tolist()) for row in kept}) == 5
