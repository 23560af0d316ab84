"""Tests of pixel accuracy, mean IoU and AP of both classes: the loop of Chefer et al., written by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score

from nibt.data.ground_truth import GroundTruth
from nibt.metrics.base import MetricInput
from nibt.metrics.segmentation import MeanIoU, PixelAccuracy
from nibt.results.attribution import Attribution
from tests.metrics.known_maps import FIRST, GRID, LAST, QUARTER, of, on

COUNT = 12


def drawn_maps() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return random maps, one of them flat, and masks of different sizes."""
    generator = torch.Generator().manual_seed(5)
    maps = torch.randn(COUNT, 4, 4, generator=generator)
    maps[3] = 0.5
    sizes = [(12 + 2 * number, 16) for number in range(COUNT)]
    return maps, [torch.rand(size, generator=generator) < 0.3 for size in sizes]


def inputs_of(maps: torch.Tensor, masks: list[torch.Tensor]) -> MetricInput:
    attribution = Attribution(maps.flatten(1), GRID, torch.zeros(len(maps)))
    return replace(on(FIRST), attribution=attribution, truths=tuple(GroundTruth(mask) for mask in masks))


def published_loop(maps: torch.Tensor, masks: list[torch.Tensor]) -> tuple[float, float, float]:
    """Return pixel accuracy, mean IoU and mean AP as the authors' program sums them up."""
    correct = labeled = 0
    intersection, union, precisions = np.zeros(2), np.zeros(2), []
    for scores, mask in zip(maps.clamp_min(0), masks, strict=True):
        pixels = F.interpolate(scores[None, None], tuple(mask.shape), mode="bilinear")[0, 0]
        span = pixels.max() - pixels.min()
        pixels = (pixels - pixels.min()) / span if span else torch.zeros_like(pixels)
        predicted, target = (pixels > pixels.mean()).long().numpy(), mask.long().numpy()
        correct += (predicted == target).sum()
        labeled += target.size
        for number in (0, 1):
            intersection[number] += ((predicted == number) & (target == number)).sum()
            union[number] += ((predicted == number) | (target == number)).sum()
        one_hot = np.stack([target == 0, target == 1]).ravel()
        share = pixels.double().round(decimals=5)  # else the rounding of float32 orders equal scores
        precisions.append(average_precision_score(one_hot, torch.stack([(1 - share).round(decimals=5), share]).ravel()))
    return correct / labeled, float((intersection / union).mean()), float(np.mean(precisions))


def test_numbers_of_a_data_set_equal_the_published_loop() -> None:
    maps, masks = drawn_maps()
    metric_input = inputs_of(maps, masks)
    accuracy, iou, precision = published_loop(maps, masks)
    for metric, expected in ((PixelAccuracy(), accuracy), (MeanIoU(), iou)):
        values, rows = metric.measured(metric_input)
        assert metric.pooled(rows.numpy()) == pytest.approx(expected, abs=1e-12)
        alone = [metric.pooled(row.numpy()[None]) for row in rows]
        assert values.tolist() == pytest.approx(alone)
        assert np.mean(alone) != pytest.approx(expected, abs=1e-3), "a mean over images is another number"
    both = [of("average_precision", one_input(metric_input, item), both_classes=True) for item in range(COUNT)]
    assert np.mean(both) == pytest.approx(precision, abs=1e-5)


def one_input(metric_input: MetricInput, item: int) -> MetricInput:
    attribution = metric_input.attribution
    alone = Attribution(attribution.scores[item : item + 1], GRID, torch.zeros(1))
    return replace(metric_input, attribution=alone, truths=metric_input.truths[item : item + 1])


def test_known_maps() -> None:
    assert of("pixel_accuracy", on(LAST)) < of("pixel_accuracy", on(torch.zeros(4, 4))) == pytest.approx(0.75)
    assert of("mean_iou", on(torch.zeros(4, 4))) == pytest.approx(0.375), "all is background: 0 and 0.75"
    assert of("pixel_accuracy", on(FIRST), threshold=0.5) == of("mean_iou", on(FIRST), threshold=0.5) == 1
    assert of("pixel_accuracy", on(-FIRST)) == pytest.approx(0.75), "negative scores are no evidence for the object"
    full = torch.ones_like(QUARTER)
    assert of("mean_iou", on(torch.zeros(4, 4), ~full)) == 1, "the object neither occurs nor is predicted"
    for name in ("pixel_accuracy", "mean_iou"):
        assert np.isnan(of(name, on(FIRST, None)))


def test_score_contrast_of_known_maps() -> None:
    nearest = torch.zeros(4, 4)
    nearest[:2, :2] = 5
    assert 0.6 < of("score_contrast", on(nearest)) < 1
    assert of("score_contrast", on(-nearest)) == pytest.approx(-of("score_contrast", on(nearest)), abs=1e-6)
    assert of("score_contrast", on(torch.ones(4, 4))) == 0
    assert np.isnan(of("score_contrast", on(nearest, torch.ones_like(QUARTER))))


def test_precision_of_both_classes_does_not_depend_on_rounding() -> None:
    """A plateau of the highest scores is as far from 1 as zeros are from 0, up to rounding."""
    plateau = torch.tensor([[0.0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    values = [of("average_precision", on(plateau * factor), both_classes=True) for factor in (1.0, 1 + 2e-7, 3.3, 1e-3)]
    assert np.ptp(values) < 1e-6
