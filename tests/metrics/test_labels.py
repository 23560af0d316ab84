"""Tests of metrics that know the labels of a data set: published loops, written by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.metrics import average_precision_score

import nibt
from nibt.data.ground_truth import GroundTruth
from nibt.data.images import ImageInput
from nibt.data.objects import Object, Point
from nibt.data.pair import Pair
from nibt.datasets._captions import openai_names, openai_templates
from nibt.engine.encode import encode
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.metrics.base import MetricInput
from nibt.metrics.removal import ZeroShotAccuracy
from nibt.metrics.segmentation import LabelIoU, LabelPrecision, MeanIoU, PixelAccuracy, PointIoU
from nibt.models.base import Model
from nibt.results.attribution import Attribution
from tests import tiny, tiny_vision_language
from tests.metrics.known_maps import FIRST, GRID, on

LABELS = ("background", "cat", "red car", "bird")
TEMPLATE = "a photo of a {}."
SIDE = 64


def square_image(seed: int) -> ImageInput:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return ImageInput(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST), f"{seed}")


def labeled_pairs(count: int = 5) -> list[Pair]:
    """Return pairs of noise images with random label maps, a few pixels of which are ignored."""
    draw = np.random.default_rng(0)
    pairs = []
    for seed in range(count):
        label_map = draw.integers(0, len(LABELS), (SIDE, SIDE))
        label_map[:4] = -1
        label = 1 + seed % 3
        pairs.append(Pair(square_image(seed), f"a {LABELS[label]}", (), (), (), LABELS, label, label_map))
    return pairs


def maps_of(model: Model, pairs: list[Pair], captions: list[str], method: str = "maskclip") -> torch.Tensor:
    """Return the map of each pair for each caption, from ``explain``: (caption, pair, row, column)."""
    return torch.stack(
        [torch.stack([nibt.explain(model, pair.image, caption, method).grid for pair in pairs]) for caption in captions]
    )


@pytest.mark.parametrize("background", [0.0, 0.34])
def test_label_iou_equals_a_loop_with_one_confusion_matrix(background: float) -> None:
    model, pairs = tiny.model("clip"), labeled_pairs()
    maps = maps_of(model, pairs, [TEMPLATE.format(label) for label in LABELS[1:]])
    confusion = np.zeros((len(LABELS), len(LABELS)))
    for item, pair in enumerate(pairs):
        scores = F.interpolate(maps[None, :, item], (SIDE, SIDE), mode="bilinear")[0]
        shares = (40 * scores).softmax(0)
        predicted = np.where(shares.amax(0) < background, 0, 1 + scores.argmax(0))
        assert pair.label_map is not None
        for truth, guess in zip(pair.label_map.ravel(), predicted.ravel(), strict=True):
            if truth >= 0:
                confusion[truth, guess] += 1
    both = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - both
    metric = LabelIoU(background=background)
    rows = np.array([row.curve for row in nibt.measure(model, pairs, metric, "maskclip", side="image", batch_size=2)])
    assert rows.sum(0).tolist() == [*both, *union]
    assert metric.pooled(rows) == pytest.approx(np.mean(both / union), abs=1e-12)
    assert (background == 0) == (both[0] == 0), "the background has no map of its own"


def test_names_of_labels_come_from_a_file(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("sky, tree\ncat\nred car\nbird\n")
    model, pairs = tiny.model("clip"), labeled_pairs(2)
    named = ["sky", "tree", *LABELS[1:]]
    maps = maps_of(model, pairs, [TEMPLATE.format(name) for name in named])
    rows = nibt.measure(model, pairs, LabelIoU(names=str(names)), "maskclip", side="image")
    for item, row in enumerate(rows):
        best = F.interpolate(maps[None, :, item], (SIDE, SIDE), mode="bilinear")[0].argmax(0)
        predicted = torch.tensor([0, 0, 1, 2, 3])[best][4:]
        truth = torch.from_numpy(pairs[item].label_map)[4:]  # pyright: ignore
        assert list(row.curve[:4]) == [int(((predicted == c) & (truth == c)).sum()) for c in range(4)]
    names.write_text("sky\ncat,\nred car\nbird\n")
    with pytest.raises(BadInput, match=r"names.txt must have names between its commas"):
        nibt.measure(model, pairs, LabelIoU(names=str(names)), "maskclip", side="image")
    names.write_text("one\ntwo\n")
    with pytest.raises(BadInput, match=r"names.txt must have a line for each of 4 labels \(got 2\)"):
        nibt.measure(model, pairs, LabelIoU(names=str(names)), "maskclip", side="image")


def test_other_labels_are_compared_in_surgery() -> None:
    """The map of a label is that which explains it against all others, with the target softmax."""
    model, pairs = tiny.model("clip"), labeled_pairs(1)
    captions = [TEMPLATE.format(label) for label in LABELS[1:]]
    metric = LabelPrecision(against=True)
    (row,) = nibt.measure(model, pairs, metric, "clip_surgery", side="image")
    expected = torch.tensor([0.0] * len(LABELS))
    for place, caption in enumerate(captions):
        others = captions[:place] + captions[place + 1 :]
        answer = nibt.explain(
            model,
            pairs[0].image,
            caption,
            "clip_surgery",
            "softmax",
            against=[TEMPLATE.format("background"), *others],
        )
        expected[1 + place] = answer.grid.max()
    assert list(row.curve[1:4]) == pytest.approx(expected[1:].tolist(), abs=1e-6)


def test_label_precision_is_that_of_scikit_learn_over_images() -> None:
    model, pairs = tiny.model("clip"), [replace(pair, label_map=None) for pair in labeled_pairs(6)]
    pairs = [replace(pair, objects=(Object("bird", (0, 0, 4, 4)),) * (item % 2)) for item, pair in enumerate(pairs)]
    metric = LabelPrecision(score="image")
    rows = np.array([row.curve for row in nibt.measure(model, pairs, metric, "ones", side="image")])
    labels = encode(model.text, [TEMPLATE.format(label) for label in LABELS])
    images = encode(model.image, [pair.image for pair in pairs])
    scores = (F.normalize(images, dim=-1) @ F.normalize(labels, dim=-1).T).numpy()
    has = np.array([[pair.label == c or (c == 3 and bool(pair.objects)) for c in range(4)] for pair in pairs])
    values = [average_precision_score(has[:, c], scores[:, c]) for c in range(1, 4)]
    assert metric.pooled(rows) == pytest.approx(np.mean(values), abs=1e-6), "no image has the label background"


def test_weighted_numbers_are_those_of_repeated_pairs() -> None:
    """With ties in scores, labels that no pair has, and pairs that a resample lacks."""
    draw = np.random.default_rng(3)
    weights = draw.integers(0, 3, (20, 9))
    scores, has = draw.integers(0, 4, (9, 5)).astype(float), (draw.random((9, 5)) < 0.4).astype(float)
    has[:, 2] = 0
    union = draw.integers(0, 6, (9, 5))
    tables: dict[Any, np.ndarray] = {
        LabelPrecision(): np.hstack([scores, has]),
        LabelIoU(): np.hstack([draw.integers(0, 6, (9, 5)).clip(max=union), union]).astype(float),
        PointIoU(): np.stack([draw.integers(0, 3, 9), draw.integers(0, 3, 9), draw.integers(3, 6, 9)], 1).astype(float),
        MeanIoU(): draw.integers(0, 9, (9, 4)).astype(float),
        PixelAccuracy(): draw.integers(0, 9, (9, 4)).astype(float),
    }
    for metric, rows in tables.items():
        values = metric.weighted(rows, weights)
        repeated = [metric.pooled(np.repeat(rows, often, 0)) for often in weights]
        assert values.tolist() == pytest.approx(repeated, nan_ok=True, abs=1e-12)
    for often, value in zip(weights, LabelPrecision().weighted(np.hstack([scores, has]), weights), strict=True):
        repeated = [np.repeat(part, often, 0) for part in (has, scores)]
        of_label = [
            average_precision_score(truth > 0, values)
            for truth, values in zip(repeated[0].T, repeated[1].T, strict=True)
            if truth.any() and not truth.all()
        ]
        assert value == pytest.approx(np.mean(of_label))


def test_the_ensemble_is_the_mean_of_80_embeddings_of_unit_length() -> None:
    model, pairs = tiny.model("clip"), labeled_pairs(2)
    assert len(openai_templates()) == 80
    assert len(openai_names()) == 1000
    texts = encode(model.text, [template.format("cat") for template in openai_templates()])
    mean = F.normalize(F.normalize(texts, dim=-1).mean(0), dim=-1)
    rows = nibt.measure(model, pairs, LabelPrecision(score="image", template="openai"), "ones", side="image")
    images = F.normalize(encode(model.image, [pair.image for pair in pairs]), dim=-1)
    assert [row.curve[1] for row in rows] == pytest.approx((images @ mean).tolist(), abs=1e-5)


@pytest.mark.parametrize("change", ["remove", "insert"])
@pytest.mark.parametrize("order", ["highest", "lowest"])
def test_zero_shot_accuracy_equals_a_loop_over_changed_images(change: str, order: str) -> None:
    """Pixels become black at the resolution of the image, and the changed image is encoded as any other."""
    model, pairs = tiny.model("clip"), labeled_pairs(4)
    labels = F.normalize(encode(model.text, [TEMPLATE.format(label) for label in LABELS]), dim=-1)
    metric = ZeroShotAccuracy(change=change, order=order, explained="true", top=2, share=0.8, levels=4)
    assert metric.better == ("lower" if (change, order) in (("remove", "highest"), ("insert", "lowest")) else "higher")
    rows = nibt.measure(model, pairs, metric, "gae", side="image")
    for pair, row in zip(pairs, rows, strict=True):
        assert pair.label is not None
        grid = nibt.explain(model, pair.image, TEMPLATE.format(LABELS[pair.label]), "gae").grid
        scores = F.interpolate(grid[None, None], (SIDE, SIDE), mode="bilinear").flatten()
        ranked = torch.argsort(scores, descending=order == "highest", stable=True)
        hits = []
        for share in (0, 0.2, 0.4, 0.6, 0.8):
            pixels = np.array(pair.image.pil_image).reshape(-1, 3)
            chosen = ranked[: int(share * SIDE * SIDE)].numpy()
            if change == "remove":
                pixels[chosen] = 0
            else:
                pixels = np.where(np.isin(np.arange(SIDE * SIDE), chosen)[:, None], pixels, 0).astype(np.uint8)
            image = ImageInput(Image.fromarray(pixels.reshape(SIDE, SIDE, 3)), "")
            cosines = F.normalize(encode(model.image, [image]), dim=-1) @ labels.T
            hits.append(float(pair.label in cosines[0].topk(2).indices))
        assert list(row.curve) == hits
        assert row.value == pytest.approx(np.trapezoid(hits, dx=1 / 4))


def test_the_predicted_label_is_that_of_the_whole_image() -> None:
    model, pairs = tiny.model("clip"), labeled_pairs(3)
    labels = F.normalize(encode(model.text, [TEMPLATE.format(label) for label in LABELS]), dim=-1)
    images = F.normalize(encode(model.image, [pair.image for pair in pairs]), dim=-1)
    predicted = (images @ labels.T).argmax(-1).tolist()
    as_label = [
        replace(pair, caption=TEMPLATE.format(LABELS[label])) for pair, label in zip(pairs, predicted, strict=True)
    ]
    options: dict[str, Any] = {"levels": 3, "fill": "random"}
    rows = nibt.measure(model, pairs, ZeroShotAccuracy(explained="predicted", **options), "gae", side="image")
    same = nibt.measure(model, as_label, ZeroShotAccuracy(**options), "gae", side="image")
    assert [row.curve for row in rows] == [row.curve for row in same]
    again = nibt.measure(model, pairs[::-1], ZeroShotAccuracy(explained="predicted", **options), "gae", side="image")
    assert [row.curve for row in rows] == [row.curve for row in again][::-1], "random colors belong to their image"


def test_pixels_outside_of_the_crop_are_changed_last() -> None:
    """The tiny model crops a wide image at its center."""
    model = tiny.model("clip")
    wide = ImageInput(square_image(1).pil_image.resize((2 * SIDE, SIDE)), "wide")
    pair = Pair(wide, "a cat", labels=LABELS, label=1)
    seen: list[np.ndarray] = []

    def spied(metric_input: MetricInput) -> None:
        metric = ZeroShotAccuracy(share=0.5, levels=1)
        grid = metric_input.attribution[0].grid
        seen.extend(np.array(image) for image in metric._changed(metric_input, 0, grid))

    class Spy(ZeroShotAccuracy):
        def measured(self, metric_input: MetricInput) -> Any:
            spied(metric_input)
            return super().measured(metric_input)

    nibt.measure(model, [pair], {"spy": Spy(levels=1)}, "gae", side="image")
    black = (seen[1] == 0).all(-1)
    assert black[:, SIDE // 2 : -SIDE // 2].all()
    assert black.mean() == pytest.approx(0.5)


def test_point_iou_is_the_mean_over_labels_of_ratios_of_sums() -> None:
    """Two images of one label and one of another, whose points are on and off the object."""
    points = [
        (Point(0, 0, True), Point(7, 7, False), Point(1, 1, True)),
        (Point(7, 7, True), Point(0, 0, False)),
        (Point(1, 1, True), Point(7, 7, True)),
    ]
    truths = tuple(
        GroundTruth(points=p, extent=(8, 8), label=label) for p, label in zip(points, (0, 0, 2), strict=True)
    )
    attribution = Attribution(FIRST.reshape(1, 16).repeat(3, 1), GRID, torch.zeros(3))
    metric_input = replace(on(FIRST), attribution=attribution, truths=truths)
    metric = PointIoU()
    values, rows = metric.measured(metric_input)
    assert rows.tolist() == [[0, 2, 2], [0, 0, 2], [2, 1, 2]]
    assert values.tolist() == [1, 0, 0.5]
    assert metric.pooled(rows.numpy()) == pytest.approx((2 / 4 + 1 / 2) / 2)


def test_centered_maps_are_compared_with_those_of_all_labels() -> None:
    model = tiny.model("clip")
    half = np.zeros((SIDE, SIDE), bool)
    half[:, : SIDE // 2] = True
    pairs = [
        replace(pair, objects=(Object("x", (0, 0, SIDE // 2, SIDE), half, ((0, 1),)),)) for pair in labeled_pairs(3)
    ]
    maps = maps_of(model, pairs, [TEMPLATE.format(label) for label in LABELS], "gae")
    rows = nibt.measure(model, pairs, PixelAccuracy(centered=True), "gae", side="image", batch_size=2)
    for item, (pair, row) in enumerate(zip(pairs, rows, strict=True)):
        assert pair.label is not None
        centered = (maps[pair.label, item] - maps[:, item].mean(0)).clamp_min(0)
        pixels = F.interpolate(centered[None, None], (SIDE, SIDE), mode="bilinear")[0, 0]
        assert row.value == pytest.approx(float(((pixels > pixels.mean()).numpy() == half).mean()), abs=2e-3)
    (plain,) = nibt.measure(model, pairs[:1], PixelAccuracy(), "gae", side="image")
    assert plain.value != rows[0].value


def test_metrics_that_need_a_map_per_label_are_computed_if_they_are_named() -> None:
    rows = nibt.measure(tiny.model("clip"), labeled_pairs(1), None, "random", side="image")
    names = {row.metric for row in rows}
    assert "zero_shot_accuracy" in names
    assert not names & {"label_iou", "label_precision"}


def test_errors_say_what_is_missing() -> None:
    model, pairs = tiny.model("clip"), labeled_pairs(2)
    with pytest.raises(
        BadOption,
        match=r"template, which may be openai, .* \{\} once, for the label, .* \(got 'photo'\)",
    ):
        LabelIoU(template="photo")
    mixed = [pairs[0], replace(pairs[1], labels=("cat", "dog"), label=0, label_map=None)]
    for batch_size in (1, 2):
        with pytest.raises(BadInput, match=r"must have the same labels \(got 2 sets\)"):
            nibt.measure(model, mixed, LabelIoU(), "maskclip", side="image", batch_size=batch_size)
    plain = [Pair(square_image(3), "a cat")]
    for metric in (LabelIoU(), LabelPrecision(), ZeroShotAccuracy(), PointIoU()):
        (row,) = nibt.measure(model, plain, metric, "gae", side="image")
        assert np.isnan(row.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ()}, r"labels must be a tuple of different texts that are not blank \(got \(\)\)"),
        ({"labels": ("cat", "cat")}, "different texts"),
        ({"labels": ("cat", " ")}, "not blank"),
        ({"label": 4}, r"label must be the position of a label, from 0 to 3 \(got 4\)"),
        ({"label": True}, "label must be the position of a label"),
        ({"label_map": np.zeros((SIDE, SIDE))}, r"label_map must be a NumPy array of whole numbers \(got float64\)"),
        ({"label_map": np.zeros((SIDE, 3), int)}, r"label_map must have the shape of the image, \(64, 64\)"),
        ({"label_map": np.full((SIDE, SIDE), 255, np.uint8)}, r"0 to 3, or -1 for ignored pixels \(got 255 to 255\)"),
        ({"label_map": np.full((SIDE, SIDE), -2)}, "or -1 for ignored pixels"),
    ],
)
def test_wrong_labels_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        replace(labeled_pairs(1)[0], **changes)


def test_label_maps_may_have_any_whole_numbers() -> None:
    model, (pair,) = tiny.model("clip"), labeled_pairs(1)
    assert pair.label_map is not None
    label_map = pair.label_map.clip(0)
    rows = [
        nibt.measure(model, [replace(pair, label_map=label_map.astype(kind))], LabelIoU(), "maskclip", side="image")
        for kind in (np.int64, np.uint8, ">i4")
    ]
    assert rows[0] == rows[1] == rows[2]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_pairs_with_and_without_labels_do_not_mix(batch_size: int) -> None:
    model, pairs = tiny.model("clip"), [labeled_pairs(1)[0], Pair(square_image(3), "a cat")]
    rows = nibt.measure(model, pairs, LabelIoU(), "maskclip", side="image", batch_size=batch_size)
    assert np.isnan(rows[1].value)
    assert not np.isnan(rows[0].value)


def test_late_interaction_has_no_vector_of_a_label() -> None:
    with pytest.raises(Unsupported, match="label_iou needs a model with one vector per caption"):
        nibt.measure(tiny_vision_language.model("colpali"), labeled_pairs(1), LabelIoU(), "occlusion", side="image")
