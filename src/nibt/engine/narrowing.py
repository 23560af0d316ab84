"""Narrowing curves: the score of pairs against lambda, and against the information that passes."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.quadrature import chunks
from nibt.core.side import Side
from nibt.data.images import ImageSource
from nibt.data.pair import Caption, image_text_pairs, make_pairs
from nibt.data.units import Grid
from nibt.engine.batches import PreparedBatch, batch_indices, trace_sides
from nibt.engine.spec import resolve
from nibt.errors import BadOption
from nibt.methods._noise import information
from nibt.methods.base import SIDES, MethodSpec
from nibt.methods.nib import NIB
from nibt.models._loading import ModelSource, load_model
from nibt.models._trace import Cut
from nibt.options import Points, parsed
from nibt.progress import OnProgress, Progress, no_progress
from nibt.results.narrowing import CurvePair, NarrowingCurve, SideCurve
from nibt.torch_modes import plain_torch

_WITHOUT_GRAPH = 4  # batch-size multiplier when no graph is kept
_BATCH = 8
Curve = Float[Tensor, "batch position"]


@plain_torch()
def narrowing_curve(
    model: ModelSource,
    image: ImageSource | Sequence[ImageSource],
    caption: str | Caption | Sequence[str | Caption],
    *,
    side: str | None = None,
    points: int = 21,
    target: str = "cosine",
    variant: str = "default",
    on_progress: OnProgress = no_progress,
    **options: Any,
) -> NarrowingCurve:
    """Compute the score while a hidden state is narrowed to a baseline, and the information that is left.

    The hidden state h of a layer is replaced by z(l) = l h + (1 - l) e, for l from 0 to 1. By default, e has the mean
    of NIB's baseline and the standard deviation of the features, as in an information bottleneck; the score is its
    mean over ``samples`` draws of e. The information is the divergence of z given h from e, in nats, summed over the
    channels of a patch or token: 0 at l = 0, without limit at l = 1. Without noise (``noise="none"``), it has no limit
    for any l above 0.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        image: An image, or a list of images; lists are paired as in ``explain``.
        caption: A caption, or a list of captions.
        side: The side that is narrowed: "image" or "text". None narrows each of the two sides, one at a time.
        points: The number of values of l, evenly spaced from 0 to 1.
        target: The name of the target, one that compares with no other captions or images.
        variant: A variant of NIB.
        on_progress: Called after each batch with the number of pairs that are done.
        **options: Options of NIB: ``layer``, ``baseline``, ``noise``, ``deviation``, ``samples``, ``seed``.

    Returns:
        The curves of all pairs, and their means.

    Raises:
        BadInput: An image or a caption cannot be read, lists differ in length, or a pair is not an image with a
            caption.
        UnknownName: No target, variant or option has that name.
        BadOption: An option has an invalid value, or there are several views.

    Examples:
        >>> curve = narrowing_curve("scenes", "sample:scene", "a cat", points=3, noise="none")
        >>> curve.positions, len(curve.sides["image"].mean_scores)
        ((0.0, 0.5, 1.0), 3)

    """
    if side not in (None, *SIDES):
        raise BadOption(f"side must be image or text (got {side!r}): leave it out for both")
    points = parsed("points", points, Points)
    views = next((value for name, value in options.items() if name.endswith("views") and value not in (None, 1)), 1)
    if views != 1:
        raise BadOption(f"views must be 1 for a narrowing curve (got {views}): leave views out")
    if any(name.endswith("amounts") and value not in (None, "method") for name, value in options.items()):
        raise BadOption("amounts must be method for a narrowing curve (got removal): leave amounts out")
    read, _ = make_pairs(image, caption)
    pairs = image_text_pairs(read, "narrowing_curve")
    spec = resolve(
        load_model(model), MethodSpec("nib", variant, {"noise": "features", **options, "image_views": 1}), target
    )
    positions = tuple(number / (points - 1) for number in range(points))
    rows: dict[str, list[tuple[Any, Any]]] = {name: [((), ())] * len(pairs) for name in SIDES if side in (None, name)}
    done = 0
    for indices in batch_indices(spec, pairs, _BATCH):
        sides = trace_sides(spec, PreparedBatch.of(spec, [pairs[index] for index in indices]))
        for name, traced_side in zip(SIDES, sides, strict=True):
            if name in rows:
                scores, nats = side_curve(traced_side, cast(NIB, spec.methods[name]), positions)
                for index, *curves in zip(indices, scores.tolist(), nats.tolist(), strict=True):
                    rows[name][index] = (
                        tuple(curves[0]),
                        tuple(None if value == float("inf") else value for value in curves[1]),
                    )
        done += len(indices)
        on_progress(Progress(done, len(pairs)))
    return NarrowingCurve(
        positions,
        {name: SideCurve(*map(tuple, zip(*of_side, strict=True))) for name, of_side in rows.items()},
        tuple(CurvePair(pair.image.source, pair.image.digest, pair.caption) for pair in pairs),
        target,
        spec.record["method"],
        **spec.provenance,
        warnings=spec.warnings,
    )


def side_curve(side: Side, method: NIB, positions: Sequence[float]) -> tuple[Curve, Curve]:
    """Compute the scores of a batch at positions on the path of NIB, and the information in nats per unit.

    Both are means over the layers; the scores are means over the samples of noise.
    """
    with torch.no_grad():
        parts = [_layer_curve(side, method, layer, positions) for layer in method.layer]
    scores, nats = (torch.stack(values).mean(0) for values in zip(*parts, strict=True))
    return scores, nats


def _layer_curve(side: Side, method: NIB, layer: int, positions: Sequence[float]) -> tuple[Curve, Curve]:
    cut = side.cut(layer)
    hidden, starts = cut.hidden, method.starts(side, layer, cut.hidden)
    along = hidden.new_tensor(positions)
    scores = torch.zeros(len(positions), len(hidden), device=hidden.device, dtype=torch.float32)
    for start in starts:
        for chunk in chunks(len(positions), hidden, _WITHOUT_GRAPH):
            states = start + along[chunk, None, None, None] * (hidden - start)
            scores[chunk] += side.score(cut.rest(states)).float() / len(starts)
    return scores.T, _information(side, method, layer, cut, positions)


def _information(side: Side, method: NIB, layer: int, cut: Cut, positions: Sequence[float]) -> Curve:
    """Compute the information per unit at each position; infinite where nothing limits it."""
    hidden, units = cut.hidden.cpu().double(), cut.units  # mps has no float64
    along = torch.tensor(positions, dtype=torch.double, device="cpu")
    if not method.noisy:
        return torch.full_like(along, torch.inf).masked_fill(along <= 0, 0.0).expand(len(hidden), -1)
    difference = hidden - side.baseline(method.baseline, layer, cut.hidden).cpu().double()
    standard = difference / method.spread(side, cut.hidden).cpu().double()
    columns = []
    for position in along:
        kept = units.keep(information(position * standard, 2 * (1 - position).log()).sum(-1))
        count = kept.new_full((len(kept),), units.count) if isinstance(units, Grid) else units.explained.sum(-1)
        columns.append(kept.sum(-1) / count.to(kept))
    return torch.stack(columns, -1)
