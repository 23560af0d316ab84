"""What moved between two models, such as before and after fine-tuning: differences pair by pair, with a paired test."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from nibt.data.images import Region
from nibt.engine.encode import similarities
from nibt.errors import BadInput
from nibt.evaluation.audit.checks import BOUNDS
from nibt.evaluation.audit.evidence import SIDE_OF
from nibt.evaluation.audit.exchange import NAMES
from nibt.evaluation.audit.runner import FINDS, AuditRunner, example
from nibt.evaluation.maps import Map, spearman
from nibt.evaluation.statistics import gaffke, holm, paired_test, student, within
from nibt.methods.base import SIDES
from nibt.models.base import Model
from nibt.results.audit import ALPHA, Example, ModelDifference
from nibt.results.pixels import over_image
from nibt.types import Modality

_CELLS = 32  # of the longer side of an image, for maps whose own cells differ


def check_against(model: Model, against: Model) -> None:
    """Check that two models are not the same one."""
    folders = [each.folder and each.folder.resolve() for each in (model, against)]
    same_folder = folders[0] is not None and folders[0] == folders[1]
    if model.record() == {**against.record(), **({"id": model.id} if same_folder else {})}:
        raise BadInput(
            f"against must be another model than the audited one (got {against.id!r} twice, with the same weights): "
            "give, for example, the model before fine-tuning"
        )


def compared(runners: Sequence[AuditRunner]) -> tuple[list[ModelDifference], list[Example]]:
    """Return the differences of two models, and the pairs whose image maps moved most."""
    rows = [*_moved_scores(runners)]
    examples: list[Example] = []
    for spec, side in runners[0].explained:
        method = str(spec)
        correlations = _correlations(runners, method, side)
        rows.append(_moved_maps(runners, method, side, correlations))
        rows += _moved_evidence(runners, method, side)
        if side == "image":
            examples += _most_moved(runners, method, correlations)

    defined = [row for row in rows if row is not None]
    corrected = holm([row.p_holm for row in defined])
    return [replace(row, p_holm=p) for row, p in zip(defined, corrected, strict=True)], examples


def _moved_scores(runners: Sequence[AuditRunner]) -> Iterator[ModelDifference | None]:
    """Yield the differences of what does not depend on a method: the similarity, and the exchanges."""
    of_models = [
        similarities(
            runner.model,
            runner.kept_embeddings.of("image", [pair.image for pair in runner.pairs]),
            runner.kept_embeddings.of("text", [pair.caption for pair in runner.pairs]),
        )
        for runner in runners
    ]
    is_cosine = all(runner.model.similarity.name == "cosine" for runner in runners)
    reach = 2.0 if is_cosine else math.inf
    yield _difference(
        "similarity", method="", side="", values=of_models, about="similarity of image and caption", reach=reach
    )

    for side, name in NAMES.items():
        exchanged = [runner.exchanges[side].values() for runner in runners]
        yield _difference(
            name,
            method="",
            side=side,
            values=exchanged,
            about=BOUNDS[name].about,
            reach=BOUNDS[name].most - BOUNDS[name].least,
        )


def _moved_evidence(runners: Sequence[AuditRunner], method: str, side: Modality) -> Iterator[ModelDifference | None]:
    """Yield the differences of where the positive scores of the maps of a side lie."""
    for check, checked_side in SIDE_OF.items():
        if checked_side == side:
            values = [runner.evidence[method].values[check] for runner in runners]
            bound = BOUNDS[check]
            yield _difference(
                check, method, side=side, values=values, about=bound.about, reach=bound.most - bound.least
            )


def _most_moved(runners: Sequence[AuditRunner], method: str, correlations: np.ndarray) -> list[Example]:
    """Return the pairs whose image maps moved most."""
    order = [index for index in np.argsort(correlations, kind="stable").tolist() if correlations[index] < 1]
    return [_example(runners, method, index, float(correlations[index])) for index in order[:FINDS]]


def too_few(differences: Sequence[ModelDifference]) -> list[str]:
    """Return a note if the pairs are too few for the test to find anything: each sign of n pairs has 2 ** -n."""
    needed = math.ceil(math.log2(2 * len(differences) / ALPHA))
    count = max((row.count for row in differences), default=needed)
    return [f"{count} pairs are too few to show that the model moved: at least {needed} are needed"] * (count < needed)


def _difference(
    name: str,
    method: str,
    side: str,
    values: Sequence[np.ndarray],
    about: str,
    reach: float,
    p: float | None = None,
) -> ModelDifference | None:
    """Return the mean difference of both values of pairs, with p before its correction; None with fewer than two.

    ``reach`` is the largest possible difference of a pair.
    """
    first, second = values
    differences = first - second
    is_known = ~np.isnan(differences)
    if is_known.sum() < 2:
        return None

    mean = student(differences)
    if not mean.has_ends:  # all are equal
        mean = gaffke(differences, (-reach, reach))
    if not mean.has_ends:
        return None

    mean = within(mean, (-reach, reach))
    count = int(is_known.sum())
    if count < len(differences):
        about = f"{about}, of {count} of {len(differences)} pairs"
    return ModelDifference(
        name=name,
        method=method,
        side=side,
        value=float(first[is_known].mean()),
        against=float(second[is_known].mean()),
        difference=mean.mean,
        low=mean.low,
        high=mean.high,
        count=count,
        p_holm=paired_test(first, second) if p is None else p,
        about=about,
    )


def _moved_maps(
    runners: Sequence[AuditRunner], method: str, side: Modality, correlations: np.ndarray
) -> ModelDifference | None:
    """Return how far maps are from equal ones; they moved if other wordings of a caption move those of a model less.

    Any change of a model changes its maps a little, so a test against equal maps would always find one.
    """
    wordings = np.mean([runner.reworded[method, side] for runner in runners], axis=0)
    is_less_similar = np.nansum(correlations - wordings) < 0
    p = paired_test(correlations, wordings) if is_less_similar else 1.0
    known = wordings[~np.isnan(wordings)]
    of_wordings = f"{known.mean():.2f}" if len(known) else "unknown"
    about = f"similarity of the maps of both models (for other wordings: {of_wordings})"
    row = _difference(
        "maps", method, side=side, values=[correlations, np.ones(len(correlations))], about=about, reach=2.0, p=p
    )
    return row and replace(row, high=min(row.high, 0.0))


def _correlations(runners: Sequence[AuditRunner], method: str, side: Modality) -> np.ndarray:
    """Return the correlation of the maps of each pair; NaN if tokenizers split its words in two ways."""
    values = np.full(len(runners[0].pairs), math.nan)
    for index, pair in enumerate(runners[0].pairs):
        first, second = (runner.unchanged[method, side][index] for runner in runners)
        if first.words == second.words:
            cells = same_cells(first, second, pair.image.size)
            seen = np.isfinite(cells[0] + cells[1])
            values[index] = spearman(cells[0][seen], cells[1][seen])

    return values


def same_cells(first: Map, second: Map, size: tuple[int, int]) -> list[np.ndarray]:
    """Return two maps of an image on the same cells: their own or, if these differ, those of a small copy of the image.

    There, cells outside the view of a model are NaN.
    """
    if first.region == second.region and first.scores.shape == second.scores.shape:
        return [first.scores, second.scores]

    width, height = size
    longer = max(size)
    small = (max(1, round(_CELLS * width / longer)), max(1, round(_CELLS * height / longer)))
    over = partial(over_image, full=size, size=small, outside=math.nan)
    return [over(torch.from_numpy(each.scores), each.region) for each in (first, second)]  # pyright: ignore


def _example(runners: Sequence[AuditRunner], method: str, index: int, value: float) -> Example:
    """Return a pair with the maps of both models."""
    pair = runners[0].pairs[index]
    images, texts = ([runner.unchanged[method, side][index] for runner in runners] for side in SIDES)
    if images[0].region != images[1].region:
        whole = Region(0, 0, *pair.image.size)
        images = [
            Map(np.nan_to_num(cells), region=whole) for cells in same_cells(images[0], images[1], pair.image.size)
        ]

    named = [{"model": first, "against": second} for first, second in (images, texts)]
    return replace(example(method, pair, named[0], named[1]), check="maps", value=value)
