"""What metrics that change inputs share: removal of units by decreasing score, and coalitions of both sides."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.perturbation import HIDES, embeddings_with_words, masker
from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.metrics.base import AreaMetric, Metric, MetricInput, RegionsInput
from nibt.options import Levels, OneOf, Seed
from nibt.results.regions import Regions
from nibt.types import PerExample, PerUnit


@dataclass(frozen=True)
class PerturbationMetric(Metric):
    """Base class of metrics that remove parts of the input.

    Args:
        hide: What replaces parts of an image: ``mean``, ``blur`` or ``noise``.
        seed: The seed of random draws.
    """

    hide: Annotated[str, OneOf(HIDES)] = field(default="mean", kw_only=True)
    seed: Seed = field(default=0, kw_only=True)

    def embedder(self, metric_input: MetricInput) -> Callable[[PerUnit], Tensor]:
        """Return the embeddings of a side as a function of the units that are kept."""
        side = replace(metric_input.side, score=lambda embeddings: embeddings)
        return masker(side, metric_input.attribution.units, hide=self.hide, seed=self.seed)

    def end(self, metric_input: MetricInput, embed: Callable[[PerUnit], Tensor], is_full: bool) -> Tensor:
        """Return the embeddings of all units, which the trace has, or of no units, which all maps share."""
        if is_full:
            return metric_input.side.trace.embedding

        keep = torch.zeros_like(metric_input.attribution.scores, dtype=torch.float32)
        return metric_input.once_for_all_methods(("end", self.hide, self.seed), partial(embed, keep))


@dataclass(frozen=True)
class CurveMetric(AreaMetric, PerturbationMetric):
    """Base class of the areas under curves of removal and insertion.

    Args:
        levels: The number of steps from none to all of the units, of equal size.
    """

    inserted: ClassVar[bool]

    levels: Levels = 10

    def curve(self, metric_input: MetricInput) -> Float[Tensor, "batch level"]:
        """Compute the scores at each share of the units that is removed or inserted, from none to all."""
        order, counts = ranks(metric_input)
        shares = torch.linspace(0, 1, self.levels + 1, dtype=torch.float32)
        kept = [(order < (share * counts).round()[:, None]) == self.inserted for share in shares]
        embed = self.embedder(metric_input)
        first, last = (self.end(metric_input, embed, is_full) for is_full in (not self.inserted, self.inserted))
        embeddings = [first, *(embed(keep.float()) for keep in kept[1:-1]), last]
        return torch.stack([metric_input.side.score(level[None])[0] for level in embeddings]).float().T


def ranks(metric_input: MetricInput) -> tuple[PerUnit, PerExample]:
    """Compute the rank of each unit in the order of removal, and the number of units of each example."""
    scores = metric_input.attribution.scores
    units = metric_input.attribution.units
    if isinstance(units, Grid):
        counts = torch.full((len(scores),), float(units.count), dtype=torch.float32)
    else:
        explained = units.explained.to(scores.device)
        scores = scores.masked_fill(~explained, -torch.inf)
        counts = explained.sum(-1).float().cpu()

    order = scores.argsort(dim=-1, descending=True, stable=True)
    return order.argsort(dim=-1).float(), counts.to(scores.device)


def decisive_counts(
    ranks: PerUnit,
    counts: PerExample,
    decides: Callable[[Bool[Tensor, "*mask unit"]], Bool[Tensor, "*mask"]],
) -> PerExample:
    """Find by bisection how many of the first units decide."""
    # the first high units are enough, and the first low ones are not
    low = torch.zeros_like(counts)
    high = counts
    while ((high - low) > 1).any():
        middle = ((low + high) / 2).floor()
        is_enough = decides(ranks < middle[:, None]) & (middle > low)
        low = torch.where(is_enough, low, torch.maximum(low, middle))
        high = torch.where(is_enough, middle, high)

    return high


def on_patches(metric_input: RegionsInput) -> Float[Tensor, "word patch"]:
    """Return the table on the grid of the model: the sums over its patches."""
    regions = metric_input.regions
    grid = metric_input.image.units
    assert isinstance(grid, Grid)
    cells = F.adaptive_avg_pool2d(regions.table, (grid.rows, grid.columns))
    return cells.flatten(1) * (regions.grid.count / grid.count)


def embeddings_of_patches(image: Side, kept: Float[Tensor, "coalition unit"]) -> Float[Tensor, "coalition dim"]:
    """Compute the unit embeddings of an image with some of its patches; the others have the mean color."""
    device = image.tower.example.device
    return masker(image.embedded(), image.units)(kept[:, None].to(device))[:, 0].float().cpu()


def embeddings_of_words(
    text: Side, regions: Regions, kept: Float[Tensor, "coalition word"]
) -> Float[Tensor, "coalition dim"]:
    """Compute the unit embeddings of a caption with some of the words of its regions; the others are padding."""
    return embeddings_with_words(text, regions.words, kept).float().cpu()
