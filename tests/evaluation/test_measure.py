"""Tests of ``nibt.evaluation.measure``."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import nibt
from nibt.core.side import Side
from nibt.data.images import ImageInput
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.errors import BadInput, BadOption, UnknownName
from nibt.methods.base import Method
from nibt.methods.masks import Occlusion
from nibt.metrics.base import Metric
from nibt.metrics.confidence import ConfidenceDrop, ConfidenceIncrease
from nibt.metrics.faithfulness import Deletion, Infidelity, Insertion
from nibt.metrics.sensitivity import MaxSensitivity
from nibt.models.base import Model
from nibt.registry import find
from nibt.results.attribution import Attribution
from tests import tiny
from tests.evaluation.bench.script_metrics import PositiveShare
from tests.helpers import both_sides, noise_pairs
from tests.metrics.linear_maps import pairs, values
from tests.suites import few


@pytest.mark.parametrize("factor", [5.0, -1.0, 1e300])
def test_values_outside_of_the_bounds_of_a_metric_are_refused(factor: float) -> None:
    with pytest.raises(BadOption, match=r"script_metrics must return .* from 0 to 1, its bounds \(got .*correct"):
        nibt.measure(tiny.model("clip"), noise_pairs(2), [PositiveShare(factor)])


@pytest.mark.slow
def test_measure_is_independent_of_the_batch() -> None:
    model = tiny.model("clip")
    obj = Object("cat", (2, 2, 9, 9), None, ((0, 3),))
    pairs = [
        Pair(ImageInput(tiny.image(seed=seed + 8).pil_image, "drawn"), text, (obj,))
        for seed, text in enumerate(tiny.CAPTIONS[:3])
    ]
    together = nibt.measure(model, pairs, batch_size=3)
    alone = nibt.measure(model, pairs, batch_size=1)
    assert [(row.item, row.side, row.metric) for row in together] == [(r.item, r.side, r.metric) for r in alone]
    np.testing.assert_allclose([r.value for r in together], [r.value for r in alone], atol=1e-4, rtol=1e-3)


def test_measure_takes_metric_objects_and_one_side() -> None:
    model = tiny.model("clip")
    pair = Pair(ImageInput(tiny.image().pil_image, "drawn"), "a cat")
    strict = find("metrics", "deletion")(levels=2)
    rows = nibt.measure(model, [pair], [strict, "special_token_share"], side="text")
    assert {(row.side, row.metric) for row in rows} == {("text", "deletion"), ("text", "special_token_share")}
    with pytest.raises(BadInput, match="nothing to measure"):
        nibt.measure(model, [])
    with pytest.raises(UnknownName):
        nibt.measure(model, [pair], ["beauty"])


@pytest.mark.parametrize(
    "metric", few([ConfidenceDrop, ConfidenceIncrease, Deletion, Insertion, Infidelity], [ConfidenceDrop, Deletion])
)
def test_removal_metrics_take_a_fill_and_are_independent_of_the_batch(metric: Any) -> None:
    model, data = tiny.model("clip"), pairs()
    few = {"masks": 8} if metric is Infidelity else {}
    plain, noisy = (values(model, data, metric(hide=hide, **few), steps=2) for hide in ("mean", "noise"))
    alone = values(model, data, metric(hide="noise", **few), steps=2, batch_size=1)
    np.testing.assert_allclose(noisy, alone, atol=1e-3, rtol=1e-3)
    assert plain[1::2] == noisy[1::2], "words fade to padding as before"
    if metric is not ConfidenceIncrease:
        assert plain[::2] != noisy[::2]
    with pytest.raises(BadOption, match="hide must be one of mean, blur, noise"):
        metric(hide="gray")
    with pytest.raises(BadOption, match="seed"):
        metric(seed=-1)


def by_hand(model: Model, data: list[Pair], number: Callable[[torch.Tensor, int], float]) -> list[float]:
    """Return 100 max(0, S - S of the blank image), since the map of ones keeps nothing."""
    actual = []
    for place, pair in enumerate(data):
        inputs = model.image.prepare([pair.image])
        seen, nothing = (model.image.encode(replace(inputs, values=inputs.values * keep))[0] for keep in (1, 0))
        actual.append(100 * max(0.0, number(seen, place) - number(nothing, place)))
    return actual


def test_measured_softmax_compares_with_the_captions_of_the_call() -> None:
    model = tiny.model("clip")
    data = [*pairs(3), Pair(tiny.image(seed=9), tiny.CAPTIONS[0])]  # one caption occurs twice
    texts = torch.nn.functional.normalize(model.text.encode(model.text.prepare(tiny.CAPTIONS[:3])), dim=-1)

    def number(image: torch.Tensor, place: int) -> float:
        cosines = texts @ torch.nn.functional.normalize(image, dim=-1)
        return float((model.scale * cosines).softmax(-1)[place % 3])

    options = {"method": "ones", "side": "image", "measured": "softmax"}
    for size in (1, 3, 16):
        assert values(model, data, ConfidenceDrop(), batch_size=size, **options) == pytest.approx(
            by_hand(model, data, number), abs=1e-3
        )


@pytest.mark.slow
@both_sides
def test_measured_target_does_not_change_the_map(modality: Any) -> None:
    model, data = tiny.model("clip"), pairs(2)
    same = {"side": modality, "steps": 2}
    sensitivity = MaxSensitivity(samples=1)  # it explains again, with the same target
    assert values(model, data, sensitivity, measured="softmax", **same) == values(model, data, sensitivity, **same)
    for metric in (
        ConfidenceDrop(),
        Deletion(),
        Insertion(),
        Infidelity(masks=4),
        "special_token_share",
        "completeness_gap",
    ):
        plain = values(model, data, metric, **same)
        np.testing.assert_allclose(values(model, data, metric, measured="cosine", **same), plain, atol=1e-5, rtol=1e-5)
        logit = values(model, data, metric, measured="logit", **same)
        if isinstance(metric, str):
            assert logit == plain, "these metrics depend on the map only"
        elif isinstance(metric, ConfidenceDrop):
            np.testing.assert_allclose(logit, model.scale * np.array(plain), atol=1e-3, rtol=1e-3)


def test_measured_target_uses_against() -> None:
    model, data, against = tiny.model("clip"), pairs(2), ["a bird", "a bus", "a dog"]
    for metric in (ConfidenceDrop(), Deletion()):
        one = values(model, data, metric, target="softmax", against=against, side="image", steps=2)
        two = values(model, data, metric, target="softmax", against=against, measured="softmax", side="image", steps=2)
        np.testing.assert_allclose(one, two, atol=1e-4, rtol=1e-4)
    values(model, data, ConfidenceDrop(), measured="difference", against="a dog", side="image")
    values(model, data, ConfidenceDrop(), measured="difference")  # of two pairs, each is the contrast of the other


@pytest.mark.parametrize("target", ["cosine", "softmax"])
def test_measured_softmax_counts_the_caption_of_a_pair_once(target: str) -> None:
    model, data = tiny.model("clip"), pairs(2)
    labels = [data[0].caption.upper(), data[1].caption, "a bus"]
    options = {"target": target, "measured": "softmax", "side": "image", "steps": 2}
    together = values(model, data, Deletion(), against=labels, **options)
    for place, pair in enumerate(data):
        others = [label for index, label in enumerate(labels) if index != place]
        alone = values(model, [pair], Deletion(), against=others, **options)
        assert together[place] == pytest.approx(alone[0], abs=1e-4)


def test_measured_target_rejects_missing_contrasts() -> None:
    model = tiny.model("clip")
    with pytest.raises(BadInput, match="other captions, and the call has none"):
        values(model, pairs(1), ConfidenceDrop(), measured="softmax")
    with pytest.raises(BadOption, match="one other, and the image side has 2 captions"):
        values(model, pairs(3), ConfidenceDrop(), measured="difference")
    with pytest.raises(BadOption, match="ensemble, which rewords"):
        values(model, pairs(2), ConfidenceDrop(), measured="ensemble")
    with pytest.raises(BadOption, match="compares with nothing"):
        values(model, pairs(2), ConfidenceDrop(), measured="logit", against="a dog")
    with pytest.raises(UnknownName):
        values(model, pairs(2), ConfidenceDrop(), measured="beauty")


def test_measure_takes_a_metric_twice_with_other_options() -> None:
    rows = nibt.measure(tiny.model("clip"), pairs(1), [Deletion(levels=2), Deletion(levels=5)], side="image")
    assert [row.metric for row in rows] == ["deletion", "deletion"]
    assert rows[0].value != rows[1].value


@pytest.mark.parametrize(
    ("returned", "got"),
    [(None, "NoneType"), ([1.0], "list"), (torch.ones(2), "(2,)"), (torch.ones(1, dtype=torch.complex64), "(1,)")],
)
def test_a_metric_must_return_a_number_per_example(unchecked: None, returned: Any, got: str) -> None:
    class Wrong(Metric):
        better = "higher"

        def __call__(self, metric_input: Any) -> Any:
            return returned

    pair = Pair(ImageInput(tiny.image().pil_image, "drawn"), "a cat")
    with pytest.raises(BadOption, match=re.escape(f"a number per example, of the shape (1,) (got {got})")):
        nibt.measure(tiny.model("clip"), [pair], [Wrong()], side="image")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_scores_that_are_no_numbers_are_an_error_that_names_the_method(value: float) -> None:
    class Broken(Occlusion, name="broken"):
        def attribute(self, side: Side) -> Attribution:
            scored = super().attribute(side)
            return replace(scored, scores=scored.scores * value)

    model, image = tiny.model("clip"), tiny.image(64, 48)
    calls: list[Callable[[], Any]] = [
        lambda: nibt.explain(model, image, "a cat", Broken()),
        lambda: nibt.compare(model, image, tiny.image(48, 48), Broken()),
        lambda: nibt.measure(model, noise_pairs(1), ["sparseness"], Broken()),
    ]
    for call in calls:
        with pytest.raises(BadOption, match="the method broken gave scores that are NaN, infinite or too large"):
            call()


def test_a_method_must_return_an_attribution(unchecked: None) -> None:
    class Wrong(Method):
        def attribute(self, side: Any) -> Any:
            return None

    with pytest.raises(BadOption, match=r"must return an Attribution \(got NoneType\)"):
        nibt.explain(tiny.model("clip"), tiny.image().pil_image, "a cat", Wrong())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache": 5}, r"cache must be a BatchCache \(got int\)"),
        ({"metrics": {"": "deletion"}}, r"the label of a metric must be a text that is not empty \(got ''\)"),
        ({"metrics": {3: "deletion"}}, r"the label of a metric must be a text that is not empty \(got 3\)"),
    ],
)
def test_caches_and_labels_of_other_kinds_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        nibt.measure(tiny.model("clip"), [(tiny.IMAGES[0], "a cat")], **{"metrics": "deletion", **options})
