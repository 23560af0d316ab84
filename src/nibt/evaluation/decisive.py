"""The decisive region: a small part of a map that keeps what the model decides, or whose removal changes it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.perturbation import HIDES, generator, masker
from nibt.core.side import Side
from nibt.data.images import ImageInput
from nibt.data.units import Grid
from nibt.engine.encode import encode
from nibt.errors import BadOption
from nibt.evaluation.explained import explained_image
from nibt.evaluation.statistics import least_share
from nibt.metrics._perturbation import decisive_counts
from nibt.models._loading import ModelSource, load_model
from nibt.models.base import Model
from nibt.options import OneOf, OpenShare, parsed
from nibt.report.ranked import ranked_noun
from nibt.results.decisive import REGIONS, Decision, DecisiveRegion
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
_PARTS = 8
"""The largest number of parts of increasing size whose probability is measured."""
_LEAST_DRAWS = 100
"""The least number of draws of noise from which a probability is measured."""
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
    probability: float | None = None,
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

        probability: The probability with which the part decides if the hidden cells are filled with random noise. Cells
            with the next largest scores are added to the part that was found, until a lower bound of this probability,
            from new draws, is at least so large (Clopper and Pearson, 1934). The bound, which the result has, is too
            high in at most 5 % of cases. It needs ``hide="noise"``, which is then the default, and 100 forward passes
            or more for each of up to eight parts.

    Returns:
        The explanation with ``decisive``, which pictures show as an outline, or with a warning if the image adds
        nothing.

    Raises:
        BadInput: The explanation is of another model or compares two images or two captions, or its image is missing.
        BadOption: ``region``, ``hide`` or ``probability`` has another value, or the model takes patches and cannot
            ``blur``.
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
    least = parsed("probability", probability, OpenShare | None)
    default = _HIDE[region] if least is None else "noise"
    filling: Any = parsed("hide", default if hide is None else hide, Annotated[str, OneOf(HIDES)])
    if least is not None and filling != "noise":
        raise BadOption(f"hide must be noise with a probability, since {filling} is not random (got {hide!r})")

    model = load_model(model)
    image = explained_image(explanation, model, "decisive_region")

    compared = _compared(explanation, model)
    hidden = _HiddenCells.prepare(model, image, explanation, compared, filling)
    ends = hidden.of_ends()
    decision = _decision(explanation, compared, hidden, ends)
    nothing, everything = _limits(hidden.margins(decision, ends))
    if everything <= nothing:
        remedy = "; explain it without the comparison to see what keeps the similarity" if compared.names else ""
        warning = f"no region is decisive: the image adds nothing to the {decision}{remedy}"
        return replace(explanation, **note_fields([*explanation.notes, warning]))

    limit = 0.0 if decision == "first" else (nothing + everything) / 2
    search = _Search(hidden, region, decision, limit)
    scores = explanation.grid.flatten().cpu().double()
    in_random_order = torch.from_numpy(generator(_SEED).random(len(scores)))
    ranks = torch.stack([scores, in_random_order]).argsort(dim=-1, descending=True, stable=True).argsort(dim=-1).float()
    count, at_random = search.counts(ranks)

    part = search.without_groups(ranks[0], count)
    notes: tuple[str, ...] = ()
    if part.sum() <= _MOST_SINGLE:
        part = search.without_single_cells(part)
    else:
        notes = (f"the decisive part has {int(part.sum())} cells, too many to test each: its share is an upper bound",)

    bound = None
    drawn = 0
    if least is not None:
        part, bound, drawn = search.likely(part, ranks[0], least)
        if bound < least:
            notes += (f"the part decides with a probability of at least {bound:.2g}, below the requested {least:g}",)

    instead = ""
    if decision == "first" and region == "change":
        without = torch.stack([hidden.similarities(~part[None], draw)[0, 1:] for draw in hidden.draws])
        instead = compared.names[int(without.mean(0).argmax())]

    decisive = DecisiveRegion(
        region=region,
        decision=decision,
        cells=part.view(explanation.grid.shape),
        random=at_random / len(scores),
        instead=instead,
        hide=filling,
        probability=bound,
        draws=drawn,
    )
    return replace(explanation, decisive=decisive, warnings=(*explanation.warnings, *notes))


@dataclass(frozen=True)
class _Compared:
    """What is compared with the caption or the image of an explanation.

    Attributes:
        names: Captions, or names of images. The one that the target ``difference`` compares with comes first.
        captions: The captions among them.
        cosines: The similarities of the images among them with the caption.
    """

    names: Sequence[str] = ()
    captions: Sequence[str] = ()
    cosines: Sequence[float] = ()


def _compared(explanation: Explanation, model: Model) -> _Compared:
    """Return what is compared with the caption or the image: by the ranking, or by the target."""
    target = explanation.target
    captions = target["options"].get("against", []) if target["name"] in ("difference", "softmax") else []
    if captions:  # among which the caption itself counts once
        own = model.text.tokens(explanation.caption).ids
        captions = [caption for caption in captions if model.text.tokens(caption).ids != own]

    images = target["options"].get("against_images", []) if target["name"] == "difference" else []

    ranked = [candidate.label for candidate in explanation.ranking[1:]]
    if ranked and ranked_noun(explanation) == "image":
        return _Compared(names=ranked, cosines=[candidate.cosine for candidate in explanation.ranking[1:]])
    if ranked and explanation.ranking[0].label == explanation.caption and ranked[0] in target["options"]["against"]:
        return _Compared(names=ranked, captions=ranked)
    if images and not captions:
        return _Compared(names=images, cosines=[explanation.similarity - target["value"]])
    return _Compared(names=captions, captions=captions)


@dataclass(frozen=True)
class _HiddenCells:
    """An image with some of its cells hidden, and the captions and images that are compared with it.

    Attributes:
        model: The model.
        fillings: For each draw of what replaces hidden cells, the embeddings of the image as a function of masks.
        texts: The embeddings of the explained caption and of those that are compared with it.
        cosines: The similarities of the images that are compared with it, which do not depend on hidden cells.
        cells: The number of cells.
        side: The side of the image.
        grid: The cells.
    """

    model: Model
    fillings: Sequence[Callable[[Float[Tensor, "mask batch cell"]], Tensor]]
    texts: Float[Tensor, "caption dim"]
    cosines: Float[Tensor, " image"]
    cells: int
    side: Side
    grid: Grid

    @classmethod
    def prepare(
        cls, model: Model, image: ImageInput, explanation: Explanation, compared: _Compared, filling: str
    ) -> "_HiddenCells":
        tower = model.image
        side = Side(model, tower.trace(tower.prepare([image]), tower.depth), lambda embeddings: embeddings)
        grid = Grid(*explanation.grid.shape)
        draws = _DRAWS if filling == "noise" else 1
        fillings = [masker(side, grid, hide=filling, seed=draw) for draw in range(draws)]

        texts = encode(model.text, [explanation.caption, *compared.captions]).float()
        cosines = torch.tensor(compared.cosines, dtype=torch.float32, device=texts.device)
        return cls(model, fillings, texts, cosines, cells=explanation.grid.numel(), side=side, grid=grid)

    @property
    def draws(self) -> range:
        """The draws of what replaces hidden cells."""
        return range(len(self.fillings))

    def similarities(self, shown: Cells, draw: int = 0) -> Float[Tensor, "mask candidate"]:
        """Return the similarities of what is shown with all captions, and those of other images with the caption."""
        masks = shown.float()[:, None].to(self.model.image.example.device)
        known = draw < len(self.fillings)
        fill = self.fillings[draw] if known else masker(self.side, self.grid, hide="noise", seed=draw)
        images = fill(masks)[:, 0].float()
        with_captions = self.model.similarity.to_each(images, self.texts)
        return torch.cat([with_captions, self.cosines.expand(len(shown), -1)], 1).cpu()

    def of_ends(self) -> Float[Tensor, "draw end candidate"]:
        """Return the similarities of no cell and of all cells."""
        nothing_and_all = torch.tensor([[False], [True]]).expand(2, self.cells)
        return torch.stack([self.similarities(nothing_and_all, draw) for draw in self.draws])

    def margins(
        self, decision: Decision, similarities: Float[Tensor, "*example candidate"]
    ) -> Float[Tensor, "*example"]:
        """Return the numbers that a decision compares with its limit."""
        explained = similarities[..., 0]
        if decision == "first":
            return explained - similarities[..., 1:].amax(-1)
        if decision == "difference":
            return explained - similarities[..., 1]
        if decision == "probability":
            return (self.model.scale * similarities).softmax(-1)[..., 0]
        return explained


def _decision(
    explanation: Explanation, compared: _Compared, image: _HiddenCells, ends: Float[Tensor, "draw end candidate"]
) -> Decision:
    """Return what the model decides: ``first`` if the image decides the rank, or what the image adds to."""
    if not compared.names:
        return "similarity"

    nothing, everything = _limits(image.margins("first", ends))
    if nothing <= 0 < everything:
        return "first"
    return "probability" if explanation.target["name"] == "softmax" else "difference"


def _limits(margins: Float[Tensor, "draw end"]) -> tuple[float, float]:
    """Return the margins of no cell and of all cells, of all draws the largest."""
    nothing, everything = margins.amax(0).tolist()
    return nothing, everything


@dataclass(frozen=True)
class _Search:
    """The search for a small part of an image that decides: its margin is above a limit, or without it is not."""

    image: _HiddenCells
    region: str
    decision: Decision
    limit: float

    def margins(self, parts: Cells, draw: int = 0) -> Float[Tensor, " mask"]:
        """Return the margins of parts, or of the image without them."""
        shown = parts if self.region == "keep" else ~parts
        return self.image.margins(self.decision, self.image.similarities(shown, draw))

    def decides(self, parts: Cells) -> Bool[Tensor, " mask"]:
        """Return whether each part decides with every draw; draws end with the first that fails."""
        left = torch.arange(len(parts))
        for draw in self.image.draws:
            if not len(left):
                break
            is_above = self.margins(parts[left], draw) > self.limit
            left = left[is_above == (self.region == "keep")]

        enough = torch.zeros(len(parts), dtype=torch.bool)
        enough[left] = True
        return enough

    def needed(self, parts: Cells) -> Float[Tensor, " mask"]:
        """Return numbers that are larger, the more that the parts lack is needed."""
        values = self.margins(parts)
        return -values if self.region == "keep" else values

    def counts(self, ranks: Float[Tensor, "order cell"]) -> list[int]:
        """Return how many of the first cells of each order decide."""
        all_cells = torch.full((len(ranks),), float(ranks.shape[1]), dtype=torch.float32)
        return [int(count) for count in decisive_counts(ranks, all_cells, self.decides)]

    def without_groups(self, ranks: Float[Tensor, " cell"], count: int) -> Part:
        """Return the first cells, without groups of them that can be left out."""
        part = ranks < count
        groups = part & ((ranks * _GROUPS / count).floor() == torch.arange(_GROUPS)[:, None])
        part, _ = self.shortened(part, groups)
        return part

    def without_single_cells(self, part: Part) -> Part:
        """Return the part without cells that can be left out, until it needs each of its cells."""
        checked = torch.zeros_like(part)
        while not torch.equal(part, checked):
            checked = part
            single = torch.eye(len(part), dtype=torch.bool)[part]
            while len(single):
                part, single = self.shortened(part, single)

        return part

    def likely(self, part: Part, ranks: Float[Tensor, " cell"], least: float) -> tuple[Part, float, int]:
        """Add the cells with the next largest scores to a part, until it decides with a probability.

        Returns:
            The part, a lower bound of the probability, and the number of draws. Each part has draws of its own, and
            the bounds of all parts together are too high in at most 5 % of cases.
        """
        sizes = np.unique(np.geomspace(max(1, int(part.sum())), len(part), _PARTS).round().astype(int))
        level = 0.05 / len(sizes)
        draws = max(_LEAST_DRAWS, math.ceil(2 * math.log(level) / math.log(least)))
        order = torch.where(part, ranks - len(part), ranks).argsort()  # first the part, then by decreasing score
        first = _DRAWS
        bound = 0.0
        larger = part
        for size in sizes.tolist():
            larger = torch.zeros_like(part)
            larger[order[:size]] = True
            margins = torch.cat([self.margins(larger[None], first + draw) for draw in range(draws)])
            hits = int(((margins > self.limit) == (self.region == "keep")).sum())
            bound = least_share(hits, draws, level)
            first += draws
            if bound >= least:
                break

        return larger, bound, draws

    def shortened(self, part: Part, groups: Cells) -> tuple[Part, Bool[Tensor, "left cell"]]:
        """Leave out of a part as many groups of its cells as can be left out together, the least needed first.

        Returns:
            The part, and the groups that can be left out alone, but not together with those that were.
        """
        spare = groups[self.decides(part & ~groups)]
        if not len(spare):
            return part, spare

        spare = spare[self.needed(part & ~spare).argsort(stable=True)]
        # the first low groups can be left out together, and not the first high ones
        low = 1
        high = len(spare) + 1
        while high - low > 1:
            middle = (low + high) // 2
            if self.decides((part & ~spare[:middle].any(0))[None]):
                low = middle
            else:
                high = middle

        return part & ~spare[:low].any(0), spare[low:]
