"""The decisive region: a small part of a map that keeps what the model decides, or whose removal changes it."""

from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.perturbation import HIDES, generator, masker
from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.engine.encode import encode
from nibt.errors import BadInput
from nibt.metrics._perturbation import decisive_counts
from nibt.models._loading import ModelSource, load_model
from nibt.options import OneOf, parsed
from nibt.report.image.parts import present
from nibt.report.request import ranked_noun
from nibt.results.base import require_result
from nibt.results.decisive import REGIONS, DecisiveRegion
from nibt.results.explanation import Explanation
from nibt.results.notes import note_fields
from nibt.torch_modes import plain_torch

Region = Annotated[str, OneOf(REGIONS)]
_SEED = 0
_HIDE = {"keep": "noise", "change": "mean"}
"""The defaults, from a study (docs/guides/contrast.md): parts that are enough on gray are seldom enough in a scene."""
_GROUPS = 8
"""The number of groups of the cells of the part, of which those that are needed least are left out."""


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
    hidden; for ``change``, the part is hidden. Then the cells of the part are divided into eight groups, the groups are
    sorted by the decrease that their removal causes, and the number is found again. A random order of all cells is the
    control.

    The decision depends on what the explained caption or image is compared with. If the target is ``difference`` or
    ``softmax``, or the explanation has a ranking, the decision is that the explained caption or image ranks first. In
    some cases, the rank does not decide. Instead, the part keeps more than half of what the image adds (``keep``), or
    its removal leaves at most half of it (``change``). If there are no other captions or images to compare with, this
    is what the image adds to the similarity. If there are, but the explained one does not rank first, or also ranks
    first when all cells are hidden, it is what the image adds to the difference from the other one (with the target
    ``softmax``, to the probability).

    This needs at most 3 log2(n) + 10 forward passes of the image, where n is the number of cells.

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
    require_result(explanation, "decisive_region", Explanation)
    if explanation.is_comparison:
        raise BadInput("decisive_region takes explanations of an image with a caption (got a comparison)")
    theirs, ours = ({**record, "id": None, "device": None} for record in (explanation.model, model.record()))
    if theirs != ours:
        names = (name for name in (*ours, *theirs) if theirs.get(name, ...) != ours.get(name, ...))
        raise BadInput(
            f"the explanation is of {explanation.model['id']} with another {next(names)} than the model: give that "
            "model, loaded with the same options, or explain the image again"
        )
    image, grid, tower = present(explanation.image.input, explanation.source), explanation.grid, model.image
    side = Side(model, tower.trace(tower.prepare([image]), tower.depth), lambda embeddings: embeddings)
    embed, (names, others, fixed) = masker(side, Grid(*grid.shape), hide=filling), _candidates(explanation)
    texts = encode(model.text, [explanation.caption, *others]).float()
    beside = torch.tensor(fixed, dtype=torch.float32, device=texts.device)

    def similarities(kept: Bool[Tensor, "mask cell"]) -> Float[Tensor, "mask candidate"]:
        """Return the similarities of what is kept with all captions, and those of other images with the caption."""
        parts = embed(kept.float()[:, None].to(tower.example.device))[:, 0].float()
        return torch.cat([model.similarity.to_each(parts, texts), beside.expand(len(kept), -1)], 1).cpu()

    subject = "similarity" if not names else "probability" if explanation.target["name"] == "softmax" else "difference"
    margins = {
        "first": lambda values: values[:, 0] - values[:, 1:].amax(1),
        "difference": lambda values: values[:, 0] - values[:, 1],
        "probability": lambda values: (model.scale * values).softmax(1)[:, 0],
        "similarity": lambda values: values[:, 0],
    }
    ends = similarities(torch.tensor([[False], [True]]).expand(2, grid.numel()))
    is_first = bool(names) and (margins["first"](ends) > 0).tolist() == [False, True]
    decision = "first" if is_first else subject
    margin, limit = margins[decision], 0.0 if is_first else margins[decision](ends).mean()
    nothing, everything = margin(ends).tolist()
    if everything <= nothing:
        remedy = "; explain it without the comparison to see what keeps the similarity" if names else ""
        warning = f"no region is decisive: the image adds nothing to the {subject}{remedy}"
        return replace(explanation, **note_fields([*explanation.notes, warning]))

    def bisected(orders: Float[Tensor, "order cell"], most: int) -> tuple[Float[Tensor, "order cell"], list[int]]:
        """Return the rank of each cell in each order, and how many of the first ``most`` are enough."""
        ranks = orders.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1).float()
        counts = torch.full((len(orders),), float(most), dtype=torch.float32)
        counts = decisive_counts(ranks, counts, region, lambda kept: margin(similarities(kept)) > limit)
        return ranks, [int(count) for count in counts]

    scores = grid.flatten().cpu().double()
    orders = torch.stack([scores, torch.from_numpy(generator(_SEED).random(len(scores)))])
    ranks, (count, at_random) = bisected(orders, len(scores))
    part, group = ranks[0] < count, (ranks[0] * _GROUPS / count).floor()
    smaller = part & (group != torch.arange(_GROUPS)[:, None])  # the part without each of its groups
    needed = margin(similarities(smaller if region == "keep" else ~smaller))
    needed = needed.argsort(descending=region == "keep").argsort()  # the larger, the more a group is needed
    again = torch.where(part, needed[group.long().clamp_max(_GROUPS - 1)], -1).double()
    ranks, (count,) = bisected((again - ranks[0] / len(scores))[None], count)
    cells = ranks[0] < count
    instead = names[int(similarities(~cells[None])[0, 1:].argmax())] if is_first and region == "change" else ""
    decisive = DecisiveRegion(region, decision, cells.view(grid.shape), at_random / len(scores), instead, filling)
    return replace(explanation, decisive=decisive)


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
