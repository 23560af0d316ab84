"""The checks of the audit of a generator, computed from what was measured of each question.

``docs/explanation/generators_shortcuts.md`` has the reasons of the thresholds.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from nibt.data.ground_truth import PixelMask, seen_mask
from nibt.data.pair import Pair
from nibt.evaluation.audit.checks import Bound, CheckValues, known_count
from nibt.evaluation.audit.evidence import (
    LEAST_IMAGES,
    at_border,
    bounds_at_border,
    bounds_inside,
    corner_cells,
    covered_area,
    fixed_place,
    in_corners,
    inside,
    positive_shares,
)
from nibt.evaluation.cells import cells_with
from nibt.evaluation.maps import Map
from nibt.results.check import Check

COARSE = 8
"""The most rows and columns of the cells that are exchanged."""
EXCHANGED = 1 / 16
"""The share of these cells that is exchanged, at most: never more than half of those beside the mask."""

ANSWER_BOUNDS = {
    "changes": Bound(1, "higher", 0.3, 0.1, "share of images of other questions with which the answer changes"),
    "inside": Bound(2, "higher", 0.5, 0.4, "positive score on what the question is about (uniform map: 0)", -1.0),
    "border": Bound(2, "lower", 0.75, 1.0, "positive score at the border, relative to a uniform map", most=16 / 7),
    "corners": Bound(2, "lower", 2.0, 4.0, "share of the score in the corners, relative to a uniform map", most=16.0),
    "fixed_place": Bound(2, "lower", 1.4, 2.0, "same places in images, relative to mirrored places", most=4.0),
    "needed_beside": Bound(
        3, "lower", 0.25, 0.5, "answers changed by what is marked beside the objects, minus by other cells", -1.0
    ),
    "needed_place": Bound(
        3, "lower", 0.25, 0.5, "answers changed by the common place of the maps, minus by other cells", -1.0
    ),
    "sums": Bound(4, "higher", 0.9, 0.5, "answers whose scores add up, up to a tenth of the change"),
}
"""The thresholds of the checks of an audit of a generator, by their names."""

UNKNOWN = "without masks or boxes of what the questions are about, objects at the same place have the same value"


@dataclass(frozen=True, eq=False)
class AnswerMap:
    """The map of an answer, and what else an explanation says of it.

    Attributes:
        image: The sum of the maps of the words that were seen; None if no word was.
        shares: The share of each source in the absolute scores of all words; empty if sources were left out.
        adds_up: Whether the scores of all words add up; None if those of the method never do.
    """

    image: Map | None
    shares: dict[str, float]
    adds_up: bool | None


@dataclass(frozen=True, eq=False)
class Places:
    """The cells of a question that are exchanged, rows x columns each.

    Attributes:
        suspicious: The cells with the highest scores.
        random: As many other cells, which were drawn at random.
    """

    suspicious: np.ndarray
    random: np.ndarray


def masks_of(pairs: Sequence[Pair], maps: Sequence[AnswerMap]) -> list[PixelMask | None]:
    """Return what each question is about in the region of its map; None without a map, or if nothing of it is there."""
    masks: list[PixelMask | None] = []
    for pair, answer in zip(pairs, maps, strict=True):
        region = None if answer.image is None else answer.image.region
        mask = None if region is None or not pair.objects else seen_mask(pair, list(pair.objects), region)
        masks.append(mask if mask is not None and bool(mask.any()) else None)
    return masks


def places_beside(maps: Sequence[AnswerMap], masks: Sequence[PixelMask | None], seed: int) -> list[Places | None]:
    """Return the cells with the highest scores beside the masks; None without a map, a mask, or cells beside it."""
    places: list[Places | None] = []
    for number, (answer, mask) in enumerate(zip(maps, masks, strict=True)):
        if answer.image is None or mask is None:
            places.append(None)
            continue

        grid = coarse(positive_shares(answer.image.scores))
        places.append(_places(grid, ~cells_with(mask, grid.shape), seed, number))
    return places


def common_places(maps: Sequence[AnswerMap], masks: Sequence[PixelMask | None], seed: int) -> list[Places | None]:
    """Return the cells with the highest mean over the maps of all other questions, beside the mask if it is known."""
    grids = [
        None
        if answer.image is None or not (answer.image.scores > 0).any()
        else coarse(positive_shares(answer.image.scores))
        for answer in maps
    ]
    places: list[Places | None] = []
    for number, (grid, mask) in enumerate(zip(grids, masks, strict=True)):
        others = [
            other
            for place, other in enumerate(grids)
            if grid is not None and place != number and other is not None and other.shape == grid.shape
        ]
        if grid is None or len(others) < LEAST_IMAGES:
            places.append(None)
            continue

        is_free = np.ones(grid.shape, bool) if mask is None else ~cells_with(mask, grid.shape)
        places.append(_places(np.mean(others, axis=0), is_free, seed, number))
    return places


def coarse(grid: np.ndarray) -> np.ndarray:
    """Return a map with at most 8 rows and columns, by means of cells."""
    shape = tuple(min(side, COARSE) for side in grid.shape)
    return F.adaptive_avg_pool2d(torch.from_numpy(grid)[None].double(), shape)[0].numpy()


def _places(grid: np.ndarray, is_free: np.ndarray, seed: int, number: int) -> Places | None:
    """Return the free cells with the highest positive scores, and as many others; None if there are too few."""
    count = min(max(1, round(EXCHANGED * grid.size)), int(is_free.sum()) // 2)
    order = np.argsort(-grid, axis=None, kind="stable")
    order = [cell for cell in order.tolist() if is_free.flat[cell]]
    chosen = [cell for cell in order[:count] if grid.flat[cell] > 0]
    rest = order[len(chosen) :]
    if not chosen or len(rest) < len(chosen):
        return None

    drawn = np.random.default_rng((seed, number)).choice(rest, len(chosen), replace=False)
    cells = []
    for selected in (chosen, drawn):
        exchanged = np.zeros(grid.shape, bool)
        exchanged.flat[list(selected)] = True
        cells.append(exchanged)
    return Places(*cells)


def change_check(changes: Sequence[float]) -> Check:
    """Return the check of the model: whether the answers change with the images of other questions."""
    check = CheckValues("changes", "", "", np.asarray(changes, float)).check(ANSWER_BOUNDS)
    assert check is not None, "there are several questions"
    return check


def map_checks(
    method: str,
    maps: Sequence[AnswerMap],
    masks: Sequence[PixelMask | None],
    prompts: Sequence[str],
    needed_beside: Sequence[float],
    needed_place: Sequence[float],
) -> Iterator[Check]:
    """Yield the checks of the maps of a method, with why a value that fails may have another cause.

    Args:
        method: The method.
        maps: The map of each answer.
        masks: What each question is about, in the region of its map.
        prompts: The prompt of each question.
        needed_beside: Whether each answer changes by what is marked beside the mask, minus whether it does by random
            cells; NaN without an exchange.
        needed_place: The same for the common place of the maps.
    """
    beside = _check("needed_beside", method, needed_beside)
    place = _check("needed_place", method, needed_place)
    has_masks = any(mask is not None for mask in masks)
    for name, check in _evidence_checks(method, maps, masks, prompts):
        if check.reaches_failing:
            check = replace(check, unclear=_other_cause(beside if name == "inside" else place, has_masks))
        yield check

    if beside is not None:
        yield beside
    if place is not None:
        yield replace(place, unclear=UNKNOWN) if place.reaches_failing and not has_masks else place

    sums = [math.nan if answer.adds_up is None else float(answer.adds_up) for answer in maps]
    check = _check("sums", method, sums)
    if check is not None:
        yield check


def _check(name: str, method: str, values: Sequence[float]) -> Check | None:
    return CheckValues(name, method, "image", np.asarray(values, float)).check(ANSWER_BOUNDS)


def _other_cause(needed: Check | None, has_masks: bool) -> str:
    """Return why a place of scores may have another cause than a shortcut; empty if an exchange rules it out."""
    if not has_masks:
        return UNKNOWN
    if needed is None or needed.verdict == "no verdict":
        return "too few answers were exchanged to tell whether it is needed"
    if needed.reaches_failing:
        return ""
    return (
        f"exchanging it changes too few answers to confirm it ({needed.value:.2f} more than other cells; from "
        f"{needed.fails:g} on, it would be confirmed)"
    )


def _evidence_checks(
    method: str, maps: Sequence[AnswerMap], masks: Sequence[PixelMask | None], prompts: Sequence[str]
) -> Iterator[tuple[str, Check]]:
    """Yield the checks of where the scores lie, with their names."""
    items = [number for number, answer in enumerate(maps) if answer.image is not None]
    scores = [image.scores for answer in maps if (image := answer.image) is not None]
    if len(items) < 2:
        return

    grids = [positive_shares(one) for one in scores]
    areas = [covered_area(masks[item], grid) for item, grid in zip(items, grids, strict=True)]
    asked = [prompts[item] for item in items]
    labels = [prompt if asked.count(prompt) >= LEAST_IMAGES else "" for prompt in asked]
    places, place = fixed_place(grids, labels)
    values = {
        "inside": ([inside(grid, area) for grid, area in zip(grids, areas, strict=True)], bounds_inside(areas), None),
        "border": ([at_border(grid) for grid in grids], bounds_at_border(grids), None),
        "corners": (
            [in_corners(one) for one in scores],
            (0.0, max(1 / float(corner_cells(one.shape).mean()) for one in scores)),
            None,
        ),
        "fixed_place": (places, (0.0, 4.0), place),
    }
    for name, (numbers, (least, most), mean) in values.items():
        if known_count(numbers) < 2:
            continue
        measured = CheckValues(name, method, "image", np.asarray(numbers, float), least=least, most=most, mean=mean)
        check = measured.check(ANSWER_BOUNDS)
        if check is not None:
            yield name, check
