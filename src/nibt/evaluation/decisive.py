"""The decisive region: a small part of a map that keeps what the model decides, or whose removal changes it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.perturbation import HIDES, generator, masker
from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.engine.encode import encode
from nibt.evaluation.explained import explained_image
from nibt.metrics._perturbation import decisive_counts
from nibt.models._loading import ModelSource, load_model
from nibt.options import OneOf, parsed
from nibt.report.ranked import ranked_noun
from nibt.results.decisive import REGIONS, DecisiveRegion
from nibt.results.explanation import Explanation
from nibt.results.notes import note_fields
from nibt.torch_modes import plain_torch

Region = Annotated[str, OneOf(REGIONS)]
_SEED = 0
_HIDE = {"keep": "noise", "change": "mean"}
"""The defaults, from a study (docs/guides/contrast.md): parts that are enough on gray are seldom enough in a scene."""
_GROUPS = 8
"""The number of groups of the cells of the part that are left out first, before single cells are."""
_DRAWS = 5
"""The number of draws of noise with each of which a part decides: with one, few parts decide with another draw."""
_MOST_SINGLE = 64
"""The largest number of cells of a part that are tested one by one, since each takes forward passes."""
Part = Bool[Tensor, " cell"]
Cells = Bool[Tensor, "mask cell"]


@plain_torch()
def decisive_region(
    model: ModelSource,
    explanation: Explanation,
    region: Literal["keep", "change"] = "keep",
    *,
    hide: Literal["mean", "blur", "noise"] | None = None,
) -> Explanation:
    """Find a small part of a map that keeps the decision of the model, or whose removal changes it.

    Cells are taken by decreasing score, and their number is found by bisection. For ``keep``, all other cells are
    hidden; for ``change``, the part is hidden. Then cells that are not needed are left out, first groups of them, then
    single ones, until the part needs each of its cells: without any one of them, it does not decide. There may be a
    smaller part of other cells. If more than 64 cells are left after the groups, single ones are not tested, and a
    warning says that the share is an upper bound. A random order of all cells, of which none is left out, is the
    control. Parts are tested with five draws of noise, and decide with each of them.

    The decision depends on what the explained caption or image is compared with. If the target is ``difference`` or
    ``softmax``, or the explanation has a ranking, the decision is that the explained caption or image ranks first. In
    some cases, the rank does not decide. Instead, the part keeps more than half of what the image adds (``keep``), or
    its removal leaves at most half of it (``change``). If there are no other captions or images to compare with, this
    is what the image adds to the similarity. If there are, but the explained one does not rank first, or also ranks
    first when all cells are hidden, it is what the image adds to the difference from the other one (with the target
    ``softmax``, to the probability).

    The search needs about 2 log2(n) + 20 forward passes of the image, where n is the number of cells, and about 2 per
    cell of the part that it finds first. With noise, it needs up to five times as many.

    Args:
        model: The model of the explanation, or what ``load_model`` takes.
        explanation: An explanation of an image with a caption, by any method.
        region: ``keep`` or ``change``.
        hide: What replaces hidden cells: the ``mean`` color, a ``blur`` of the image, or ``noise``. None means
            ``noise`` for ``keep`` and ``mean`` for ``change``, which were the best in a test in which scenes are drawn
            again. Compare two values: a part that is found with only one of them may be an artifact of the replacement.

    Returns:
        The explanation with ``decisive``, which pictures show as an outline, or with a warning if the image adds
        nothing.

    Raises:
        BadInput: The explanation is of another model or compares two images or two captions, or its image is missing.
        BadOption: ``region`` or ``hide`` has another value, or the model takes patches and cannot ``blur``.
        CannotLoad: The model cannot be loaded.

    Source:
        The idea of minimal sufficient inputs: Carter et al., AISTATS 2019, arXiv 1810.03805

    Examples:
        >>> import nibt
        >>> explanation = nibt.explain("scenes", "sample:scene", "a cat")
        >>> decisive = nibt.decisive_region("scenes", explanation).decisive
        >>> decisive.share < decisive.random
        True
    """
    parsed("region", region, Region)
    filling: Any = parsed("hide", _HIDE[region] if hide is None else hide, Annotated[str, OneOf(HIDES)])
    model = load_model(model)
    image = explained_image(explanation, model, "decisive_region")
    grid, tower = explanation.grid, model.image
    side = Side(model, tower.trace(tower.prepare([image]), tower.depth), lambda embeddings: embeddings)
    draws = _DRAWS if filling == "noise" else 1
    fillings = [masker(side, Grid(*grid.shape), hide=filling, seed=draw) for draw in range(draws)]
    names, others, fixed = _candidates(explanation)
    texts = encode(model.text, [explanation.caption, *others]).float()
    beside = torch.tensor(fixed, dtype=torch.float32, device=texts.device)

    def similarities(kept: Cells, draw: int = 0) -> Float[Tensor, "mask candidate"]:
        """Return the similarities of what is kept with all captions, and those of other images with the caption."""
        parts = fillings[draw](kept.float()[:, None].to(tower.example.device))[:, 0].float()
        return torch.cat([model.similarity.to_each(parts, texts), beside.expand(len(kept), -1)], 1).cpu()

    subject = "similarity" if not names else "probability" if explanation.target["name"] == "softmax" else "difference"
    margins = {
        "first": lambda values: values[..., 0] - values[..., 1:].amax(-1),
        "difference": lambda values: values[..., 0] - values[..., 1],
        "probability": lambda values: (model.scale * values).softmax(-1)[..., 0],
        "similarity": lambda values: values[..., 0],
    }
    nothing_and_all = torch.tensor([[False], [True]]).expand(2, grid.numel())
    ends = torch.stack([similarities(nothing_and_all, draw) for draw in range(draws)])

    def of_ends(decision: str) -> tuple[float, float]:
        """Return the margins of no cell, the largest of all draws, and of all cells."""
        nothing, everything = margins[decision](ends).amax(0).tolist()
        return nothing, everything

    is_first = bool(names) and of_ends("first")[0] <= 0 < of_ends("first")[1]
    decision = "first" if is_first else subject
    nothing, everything = of_ends(decision)
    if everything <= nothing:
        remedy = "; explain it without the comparison to see what keeps the similarity" if names else ""
        warning = f"no region is decisive: the image adds nothing to the {subject}{remedy}"
        return replace(explanation, **note_fields([*explanation.notes, warning]))

    margin, limit = margins[decision], 0.0 if is_first else (nothing + everything) / 2
    shown = (lambda parts: parts) if region == "keep" else torch.logical_not

    def decides(parts: Cells) -> Bool[Tensor, " mask"]:
        """Return whether each part decides with every draw; draws end with the first that fails."""
        enough = torch.ones(len(parts), dtype=torch.bool)
        for draw in range(draws):
            left = enough.nonzero().flatten()
            if len(left):
                values = margin(similarities(shown(parts[left]), draw))
                enough[left] = (values > limit) == (region == "keep")
        return enough

    def bisected(orders: Float[Tensor, "order cell"]) -> tuple[Float[Tensor, "order cell"], list[int]]:
        """Return the rank of each cell in each order, and how many of the first cells are enough."""
        ranks = orders.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1).float()
        counts = torch.full((len(orders),), float(orders.shape[1]), dtype=torch.float32)
        counts = decisive_counts(ranks, counts, region, lambda kept: decides(shown(kept)) == (region == "keep"))
        return ranks, [int(count) for count in counts]

    scores = grid.flatten().cpu().double()
    orders = torch.stack([scores, torch.from_numpy(generator(_SEED).random(len(scores)))])
    ranks, (count, at_random) = bisected(orders)

    def needed(parts: Cells) -> Float[Tensor, " mask"]:
        """Return numbers that are larger, the more that the parts lack is needed."""
        values = margin(similarities(shown(parts)))
        return -values if region == "keep" else values

    part = ranks[0] < count
    groups = part & ((ranks[0] * _GROUPS / count).floor() == torch.arange(_GROUPS)[:, None])
    part, _ = _shortened(part, groups, decides, needed)
    notes = ()
    cells = part
    if part.sum() <= _MOST_SINGLE:
        cells = _pruned(part, decides, needed)
    else:
        notes = (f"the decisive part has {int(part.sum())} cells, too many to test each: its share is an upper bound",)

    instead = ""
    if is_first and region == "change":
        without = torch.stack([similarities(~cells[None], draw)[0, 1:] for draw in range(draws)])
        instead = names[int(without.mean(0).argmax())]
    decisive = DecisiveRegion(region, decision, cells.view(grid.shape), at_random / len(scores), instead, filling)
    return replace(explanation, decisive=decisive, warnings=(*explanation.warnings, *notes))


def _pruned(
    part: Part, decides: Callable[[Cells], Bool[Tensor, " mask"]], needed: Callable[[Cells], Float[Tensor, " mask"]]
) -> Part:
    """Return the part without cells that can be left out, until it needs each of its cells."""
    checked = torch.zeros_like(part)
    while not torch.equal(part, checked):
        checked = part
        single = torch.eye(len(part), dtype=torch.bool)[part]
        while len(single):
            part, single = _shortened(part, single, decides, needed)
    return part


def _shortened(
    part: Part,
    groups: Cells,
    decides: Callable[[Cells], Bool[Tensor, " mask"]],
    needed: Callable[[Cells], Float[Tensor, " mask"]],
) -> tuple[Part, Bool[Tensor, "left cell"]]:
    """Leave out of a part as many groups of its cells as can be left out together, those that are needed least first.

    Returns:
        The part, and the groups that can be left out alone, but not together with those that were.
    """
    spare = groups[decides(part & ~groups)]
    if not len(spare):
        return part, spare

    spare = spare[needed(part & ~spare).argsort(stable=True)]
    low, high = 1, len(spare) + 1  # the first low groups can be left out together, and not the first high ones
    while high - low > 1:
        middle = (low + high) // 2
        is_enough = bool(decides((part & ~spare[:middle].any(0))[None]))
        low, high = (middle, high) if is_enough else (low, middle)
    return part & ~spare[:low].any(0), spare[low:]


def _candidates(explanation: Explanation) -> tuple[list[str], list[str], list[float]]:
    """Return what is compared with the caption or the image: names, and of them captions, or similarities of images.

    The one that the target ``difference`` compares with comes first.
    """
    target, ranked = explanation.target, [each.label for each in explanation.ranking[1:]]
    if ranked and ranked_noun(explanation) == "image":
        return ranked, [], [other.cosine for other in explanation.ranking[1:]]
    if ranked and explanation.ranking[0].label == explanation.caption and ranked[0] in target["options"]["against"]:
        return ranked, ranked, []
    captions = target["options"].get("against", []) if target["name"] in ("difference", "softmax") else []
    images = target["options"].get("against_images", [])
    if captions or not images or target["name"] != "difference":
        return list(captions), list(captions), []
    return list(images), [], [explanation.similarity - target["value"]]
