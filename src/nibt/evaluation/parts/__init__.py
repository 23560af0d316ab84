"""Parts of evidence: what a model looks at over a data set, whether that decides, and by how much.

``evidence`` finds the cells that carry the positive scores, ``clusters`` groups them, ``effects`` exchanges them
between images, ``names`` compares them with texts, and ``gallery`` draws them.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from nibt.data.ground_truth import covered_share, seen_mask
from nibt.data.images import ImageInput, Region
from nibt.data.objects import Object
from nibt.data.pair import Pair, as_list, image_text_pairs, pairs_hash, read_caption
from nibt.engine.spec import resolve
from nibt.errors import BadInput, BadOption
from nibt.evaluation.maps import maps
from nibt.evaluation.parts.clusters import clustered, squared_distances
from nibt.evaluation.parts.effects import effects, losses, random_cells, share
from nibt.evaluation.parts.evidence import Cells, cell_states, evidence_cells
from nibt.evaluation.parts.gallery import gallery
from nibt.evaluation.parts.names import directions, everyday_nouns, name_of
from nibt.methods.base import Method
from nibt.models._loading import ModelSource, load_model
from nibt.models.base import Model
from nibt.options import BatchSize, Range, Seed, check_mapping, parsed
from nibt.progress import OnProgress, Progress, reporter
from nibt.registry import MethodSpec
from nibt.results.base import require_result
from nibt.results.parts import LabelOfPart, Part, Parts, UsedShare
from nibt.torch_modes import plain_torch

PartCount = Annotated[int, Range(1, 100)]
COUNT = 12
"""The default number of clusters."""
DEPTH = 2 / 3
"""The default layer, as a share of the depth of the tower."""
_COVERED = 0.05  # a cell shows an object if it covers more than this share of it
_MOST_IMAGES = 200  # of a part whose effect is measured
_MOST_LABELS = 5
_INSIDE = 0.9  # the share of a part's cells within its reach
_STEPS = ("maps", "states", "clusters", "texts")


@dataclass(frozen=True, eq=False)
class Group:
    """The cells of one part.

    Attributes:
        chosen: The positions of its cells among all cells.
        center: The mean of their standardized states.
        reach: The distance from the center within which 90 % of them are.
        stability: The share of draws of half of the images in which the part is found.
        on_objects: Whether the cells show named objects; None if this is unknown.
    """

    chosen: np.ndarray
    center: np.ndarray
    reach: float
    stability: float
    on_objects: bool | None


@plain_torch()
def parts(
    model: ModelSource,
    pairs: Sequence[Pair | tuple[Any, ...]],
    method: str | MethodSpec | Method = "nib:fast",
    *,
    layer: int | None = None,
    count: int = COUNT,
    texts: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int = 16,
    data: Mapping[str, Any] | None = None,
    on_progress: OnProgress | None = None,
) -> Parts:
    """Find what is alike among the places that carry the positive scores of many images, and whether it decides.

    The cells that hold 60 % of the positive score of each image are clustered by their hidden states. The cells of each
    cluster, a part, are then completed, and exchanged for those of an image with another caption. This shows how far
    the part is needed and sufficient. A part that is needed and beside the named objects is a shortcut. Without masks
    or boxes of the objects, there is no verdict: look at the gallery.

    With masks or boxes, cells beside the objects are clustered apart from those on them. No list of suspects is needed,
    but a part must be somewhere: a tint of the whole image, or the size of an object, cannot be found.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        pairs: Pairs of an image and its right caption, or tuples of both, perhaps with a mask of the object.
        method: A method with maps of the image side, with its variant and options.
        layer: The layer of the image tower whose hidden states describe cells; None means two thirds of its depth.
        count: The number of clusters. A larger one splits parts, a smaller one mixes them.
        texts: The texts that parts are named by, such as nouns; an empty list for no names. None means the everyday
            nouns that the model knows.
        seed: The seed of all random draws.
        batch_size: The largest number of pairs that go through the model together.
        data: The origin of the pairs, which is saved with the result.
        on_progress: Called when a step begins.

    Returns:
        The parts: shortcuts first, then those with the largest shares of the score.

    Raises:
        BadInput: All images or all captions are the same, no image has a positive score, or the model cuts the images
            to several grids.
        BadOption: An option has an invalid value, or the layer has another grid than the maps.
        UnknownName: No method, variant or option has that name.

    Examples:
        >>> from nibt.datasets.scenes import Scenes
        >>> parts("scenes", list(Scenes(count=1)))
        Traceback (most recent call last):
        nibt.errors.BadInput: parts needs at least two different images (got 1 pair): cells are exchanged between them
    """
    started, report = time.perf_counter(), reporter(on_progress)
    check_mapping("data", data)
    seed, batch_size = parsed("seed", seed, Seed), parsed("batch_size", batch_size, BatchSize)
    count, layer = parsed("count", count, PartCount), parsed("layer", layer, int | None)
    pairs = image_text_pairs(pairs, "parts")
    donors_of(pairs)  # an error before anything is computed
    named_by = None if texts is None else [read_caption(text, "text") for text in as_list(texts)]
    model = load_model(model).renewed()
    layer = model.image.relative(DEPTH) if layer is None else layer
    model.image.check_layer(layer)
    spec = MethodSpec.of(method)
    provenance = resolve(model, spec, seed=seed).provenance
    steps = len(_STEPS) + count

    report(Progress(0, steps, "maps"))
    image_maps = maps(model, pairs, spec, "image", seed, batch_size)
    report(Progress(1, steps, "hidden states"))
    cells = evidence_cells(model, [pair.image for pair in pairs], image_maps, layer, batch_size)
    objects = object_cells(pairs, cells.regions, cells.shape)
    report(Progress(2, steps, "clusters"))
    groups = grouped(cells, objects, count, seed)
    report(Progress(3, steps, "texts"))
    named_by = everyday_nouns(model) if named_by is None else named_by

    def measuring(number: int) -> None:
        report(Progress(len(_STEPS) + number, steps, f"effect of part {number + 1}"))

    found = [part for part, _ in measured(model, pairs, cells, layer, objects, groups, named_by, seed, measuring)]
    return Parts(
        model=provenance["model"],
        data={**(data or {}), "pairs": len(pairs), "pairs_hash": pairs_hash(pairs)},
        method=str(spec),
        layer=layer,
        grid=cells.shape,
        seed=seed,
        count=count,
        seconds=time.perf_counter() - started,
        versions=provenance["versions"],
        kept=float(cells.weights.sum()) / len(np.unique(cells.images)),
        means=_float32(cells.means),
        deviations=_float32(cells.deviations),
        parts=tuple(found),
        notes=tuple(_notes(pairs, cells, found)),
    )


@plain_torch()
def used_share(
    model: ModelSource,
    pairs: Sequence[Pair | tuple[Any, ...]],
    parts: Parts,
    numbers: int | Sequence[int] | None = None,
    *,
    found_by: ModelSource | None = None,
    batch_size: int = 16,
) -> UsedShare:
    """Compute the share of the similarity that parts decide, by exchanging their cells between images.

    In each image, the parts are completed: all cells that are nearer to a part's center than 90 % of its own cells, and
    to no other center, are exchanged, also those without a score. Cells that show a named object stay, where masks or
    boxes are known. The share is what images lose by that, relative to the sum of that and what they lose if all other
    cells are exchanged.

    To compare two models, such as one before and one after mending, exchange the same cells for both: the parts of the
    first one, which is then ``found_by``.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        pairs: Pairs of an image and its right caption, or tuples of both; also others than those the parts are from.
        parts: The parts.
        numbers: The numbers of the parts whose cells are exchanged together; None means all shortcuts.
        found_by: The model whose parts these are; None means ``model``.
        batch_size: The largest number of images that go through the model together.

    Returns:
        The share with its 95 % interval over images.

    Raises:
        BadInput: The parts are of another model, all images or all captions are the same, a part is an object, no image
            has the parts, or the model does not prefer the captions of the images.
        BadOption: There is no part with that number, or no part is a shortcut.
    """
    require_result(parts, "used_share", Parts)
    pairs, batch_size = image_text_pairs(pairs, "used_share"), parsed("batch_size", batch_size, BatchSize)
    chosen = _chosen(parts, numbers)
    donors = donors_of(pairs, "used_share")
    model = load_model(model).renewed()
    finder = model if found_by is None else load_model(found_by).renewed()
    _check_fingerprint(parts, finder)

    space = Space(
        parts.layer,
        parts.grid,
        parts.means.numpy(),
        parts.deviations.numpy(),
        torch.stack([part.center for part in parts.parts]).numpy(),
        np.array([part.reach for part in parts.parts]),
    )
    places = [part.number - 1 for part in chosen]
    grids: dict[int, np.ndarray] = {}
    regions: dict[int, Region] = {}
    for item, numbers_of_cells, region in located(finder, [pair.image for pair in pairs], space, batch_size):
        is_part = np.isin(numbers_of_cells, places) & ~shown_objects(pairs[item], region, parts.grid)
        regions[item] = region
        if is_part.any():
            grids[item] = is_part
    if not grids:
        raise BadInput(
            f"none of the {len(pairs)} images has {_named(chosen)}: give images like those that the parts are from"
        )
    lost = losses(model, pairs, donors, [regions[item] for item in range(len(pairs))], dict(sorted(grids.items())))
    value = share(lost.by_cells, lost.by_cells + lost.by_rest)
    if not value.has_ends:
        raise BadInput(
            f"the share of {_named(chosen)} is unknown from {len(grids)} of {len(pairs)} images: it needs at least two "
            "images that have them, of which the model prefers the captions to those of other images"
        )
    cells = float(np.mean([grid.mean() for grid in grids.values()]))
    return UsedShare(*value, count=len(grids), pairs=len(pairs), cells=cells)


@dataclass(frozen=True, eq=False)
class Space:
    """Where parts are among the hidden states of a layer.

    Attributes:
        layer: The layer.
        shape: The rows and columns of its cells.
        means: The mean of each channel.
        deviations: The standard deviation of each channel.
        centers: The center of each part, (part, dim).
        reaches: The distance from the center within which its cells are.
    """

    layer: int
    shape: tuple[int, int]
    means: np.ndarray
    deviations: np.ndarray
    centers: np.ndarray
    reaches: np.ndarray


def located(
    model: Model, images: Sequence[ImageInput], space: Space, batch_size: int
) -> Iterator[tuple[int, np.ndarray, Region]]:
    """Yield the position of each image, in any order, with the part of each of its cells, and what cells cover.

    A cell belongs to the part with the nearest center, or to none (-1) if 90 % of the part's own cells are nearer.
    """
    for item, states, region in cell_states(model, images, space.layer, space.shape, batch_size):
        distances = np.sqrt(squared_distances((states - space.means) / space.deviations, space.centers))
        nearest = distances.argmin(1)
        numbers = np.where(distances.min(1) <= space.reaches[nearest], nearest, -1)
        yield item, numbers.reshape(space.shape), region


def donors_of(pairs: Sequence[Pair], caller: str = "parts") -> list[int]:
    """Return for each pair the position of the next one with another image and another label.

    Pairs without a label have their caption as one.
    """
    digests = [pair.image.digest for pair in pairs]
    if len(set(digests)) < 2:
        noun = "pair" if len(pairs) == 1 else "pairs"
        raise BadInput(
            f"{caller} needs at least two different images (got {len(pairs)} {noun}): cells are exchanged between them"
        )
    labels = [_label(pair) for pair in pairs]
    if len(set(labels)) < 2:
        raise BadInput(
            f"{caller} needs images with at least two different labels or captions (got only {labels[0]!r:.60}): an "
            "exchange with an image of the same label shows nothing"
        )
    donors = []
    for item in range(len(pairs)):
        following = [*range(item + 1, len(pairs)), *range(item)]
        others = (place for place in following if labels[place] != labels[item] and digests[place] != digests[item])
        donors.append(next(others, following[0]))
    return donors


def object_cells(pairs: Sequence[Pair], regions: Sequence[Region], shape: tuple[int, int]) -> list[np.ndarray] | None:
    """Return whether each cell of each image shows a named object; None if no masks or boxes are known."""
    if not any(_named_areas(pair) for pair in pairs):
        return None
    return [shown_objects(pair, region, shape) for pair, region in zip(pairs, regions, strict=True)]


def shown_objects(pair: Pair, region: Region, shape: tuple[int, int]) -> np.ndarray:
    """Return whether each cell of an image shows an object that the caption names."""
    return covered_share(seen_mask(pair, _named_areas(pair), region), shape).numpy() > _COVERED


def _named_areas(pair: Pair) -> list[Object]:
    """Return the objects with a mask or a box that the caption names."""
    return [obj for obj in pair.objects if obj.spans and (obj.mask is not None or obj.box is not None)]


def _label(pair: Pair) -> str:
    return pair.caption if pair.label is None else pair.labels[pair.label]


def grouped(cells: Cells, objects: Sequence[np.ndarray] | None, count: int, seed: int) -> list[Group]:
    """Cluster cells by their states: with masks, those beside the objects apart from those on them.

    The number of clusters is divided by the scores of both kinds.
    """
    is_object = (
        None
        if objects is None
        else np.array([objects[item].flat[place] for item, place in zip(cells.images, cells.places, strict=True)])
    )
    kinds = [np.ones(len(cells.images), bool)] if is_object is None else [~is_object, is_object]
    kinds = [kind for kind in kinds if kind.any()]
    counts = [count]
    if len(kinds) == 2:
        beside = float(cells.weights[kinds[0]].sum() / cells.weights.sum())
        first = min(max(1, round(count * beside)), max(1, count - 1))
        counts = [first, max(1, count - first)]

    groups = []
    for kind, number in zip(kinds, counts, strict=True):
        places = np.flatnonzero(kind)
        found = clustered(cells.points[places], cells.weights[places], cells.images[places], number, seed)
        for cluster, (center, stability) in enumerate(zip(found.centers, found.stability, strict=True)):
            chosen = places[found.members == cluster]
            if len(chosen):
                distances = np.sqrt(squared_distances(cells.points[chosen], center[None])[:, 0])
                reach = float(np.quantile(distances, _INSIDE))
                on_objects = None if is_object is None else bool(is_object[chosen[0]])
                groups.append(Group(chosen, center, reach, float(stability), on_objects))
    return groups


def measured(
    model: Model,
    pairs: Sequence[Pair],
    cells: Cells,
    layer: int,
    objects: Sequence[np.ndarray] | None,
    groups: Sequence[Group],
    texts: Sequence[str],
    seed: int,
    on_part: Callable[[int], None],
) -> list[tuple[Part, Group]]:
    """Return the parts with their effects and names, shortcuts first, then by their shares.

    Args:
        model: The model.
        pairs: The pairs.
        cells: The cells that carry their scores.
        layer: The layer of their states.
        objects: Whether each cell of each image shows a named object; None if this is unknown.
        groups: The cells of each part.
        texts: What parts are named by.
        seed: The seed of all random draws.
        on_part: Called with the number of parts that are done.
    """
    donors = donors_of(pairs)
    vectors = directions(model, texts) if len(texts) > 1 and model.item_ndim == 1 else None
    space = Space(
        layer,
        cells.shape,
        cells.means,
        cells.deviations,
        np.stack([group.center for group in groups]),
        np.array([group.reach for group in groups]),
    )
    whole = {item: numbers for item, numbers, _ in located(model, [pair.image for pair in pairs], space, 16)}
    found: list[tuple[Part, Group]] = []
    for number, group in enumerate(groups):
        on_part(number)
        draws = np.random.default_rng((seed, number))
        own = {item: of_image > 0 for item, of_image in cells.of_images(group.chosen).items()}
        completed = {item: grid | (whole[item] == number) for item, grid in own.items()}
        if objects is not None and not group.on_objects:
            completed = {item: grid & ~objects[item] for item, grid in completed.items()}
        part, changes = part_of(model, pairs, donors, cells, group, completed, draws)
        name, nearest = ("", ()) if vectors is None or changes is None else name_of(changes, texts, vectors)
        found.append((replace(part, name=name, nearest=nearest), group))
    found.sort(key=lambda row: (row[0].verdict != "shortcut", -row[0].share))
    return [(replace(part, number=number), group) for number, (part, group) in enumerate(found, 1)]


def part_of(
    model: Model,
    pairs: Sequence[Pair],
    donors: Sequence[int],
    cells: Cells,
    group: Group,
    completed: Mapping[int, np.ndarray],
    draws: np.random.Generator,
) -> tuple[Part, np.ndarray | None]:
    """Return a part without a number and a name, and what its cells add to the embeddings of images.

    Its effect is that of the ``completed`` part of each image, also on cells without a score.
    """
    weights = cells.weights[group.chosen]
    scores = cells.of_images(group.chosen)
    grids = {item: of_image > 0 for item, of_image in scores.items()}
    shares = {item: float(of_image.sum()) for item, of_image in scores.items()}

    drawn = sorted(draws.permutation(list(grids))[:_MOST_IMAGES].tolist())
    exchanged = {item: completed[item] for item in drawn}
    of_part = losses(model, pairs, donors, cells.regions, exchanged)
    of_random = losses(model, pairs, donors, cells.regions, random_cells(exchanged, draws))
    needed, sufficient = effects(of_part, of_random)

    part = Part(
        number=1,
        share=float(weights.sum() / cells.weights.sum()),
        images=len(grids),
        size=float(np.mean([grid.mean() for grid in completed.values()])),
        stability=group.stability,
        on_objects=None if group.on_objects is None else float(group.on_objects),
        place=_float32(np.mean([*grids.values()], axis=0)),
        needed=needed,
        sufficient=sufficient,
        name="",
        nearest=(),
        labels=_labels(pairs, shares),
        gallery=gallery(pairs, grids, shares, cells.regions, draws),
        center=_float32(group.center),
        reach=group.reach,
    )
    return part, of_part.changes


def _labels(pairs: Sequence[Pair], shares: Mapping[int, float]) -> tuple[LabelOfPart, ...]:
    """Return the labels with the largest shares of a part."""
    by_label: dict[str, list[float]] = {}
    for item, of_image in shares.items():
        pair = pairs[item]
        if pair.label is not None:
            by_label.setdefault(pair.labels[pair.label], []).append(of_image)
    total = sum(shares.values())
    rows = [LabelOfPart(label, sum(values) / total, len(values)) for label, values in by_label.items()]
    return tuple(sorted(rows, key=lambda row: (-row.share, row.label))[:_MOST_LABELS])


def _notes(pairs: Sequence[Pair], cells: Cells, found: Sequence[Part]) -> Iterator[str]:
    """Yield warnings about the data and the parts."""
    if found[0].on_objects is None:
        yield "no masks or boxes of named objects are known, so no part has a verdict: look at the gallery"
    silent = len(pairs) - len(np.unique(cells.images))
    if silent:
        yield f"{silent} of {len(pairs)} images have no positive score, and are in no part"
    unstable = sum(not part.is_stable for part in found)
    if unstable:
        yield (
            f"{unstable} of {len(found)} parts are not stable: fewer than half of the draws of half of the images have "
            "a matching part"
        )
    unknown = sum(part.needed is None for part in found)
    if unknown:
        yield f"the effect of {unknown} of {len(found)} parts is unknown, since too few images have and prefer them"


def _chosen(parts: Parts, numbers: int | Sequence[int] | None) -> list[Part]:
    """Return the parts whose cells are exchanged."""
    if numbers is None:
        if not parts.shortcuts:
            raise BadOption("no part is a shortcut: give the numbers of the parts to exchange")
        return list(parts.shortcuts)

    chosen = [parts.part(number) for number in dict.fromkeys(as_list(numbers))]
    if not chosen:
        raise BadOption("numbers must have at least one part (got none)")
    for part in chosen:
        if part.verdict == "object":
            raise BadInput(
                f"part {part.number} is a named object ({part.on_objects:.0%} of its score is on masks or boxes), "
                "which the model should use: exchange parts beside the objects"
            )
    return chosen


def _check_fingerprint(parts: Parts, model: Model) -> None:
    weights = parts.model["weights_hash"]
    if model.weights_hash != weights:
        raise BadInput(
            f"the parts are of a model with the weights {weights}, layer {parts.layer} ({model.id} has "
            f"{model.weights_hash}): give the model of the parts as found_by, or find the parts of this model"
        )


def _named(chosen: Sequence[Part]) -> str:
    numbers = ", ".join(str(part.number) for part in chosen)
    return f"part {numbers}" if len(chosen) == 1 else f"the parts {numbers}"


def _float32(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
