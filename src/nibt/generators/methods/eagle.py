"""EAGLE: regions of an image that are added one by one, by what they do alone and by what is lost without them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.data.units import Segments, Units
from nibt.errors import BadOption
from nibt.generators.answers import AnswerProbability, AnswerTower
from nibt.methods._units import SegmentMethod, coalition_masks, share_equally
from nibt.options import Range
from nibt.results.attribution import Attribution
from nibt.types import UnitValues


@dataclass(frozen=True)
class EAGLE(SegmentMethod, name="eagle"):
    r"""EAGLE (Chen et al., CVPR 2026, arXiv 2509.22496), for answers of generators.

    $$F(R) = p(\text{image with only } R) + 1 - p(\text{image without } R)$$

    $p$ is the probability of the word given the answer before it: the mean over its tokens. The image is divided into
    superpixels. In each step, the superpixel is added to $R$ that makes $F$ largest, so the first ones are those that
    are sufficient and necessary. The score of the $k$-th one decreases from 1 to 0 with the changes of $F$:

    $$\text{score}_k = \frac{\sum_{j > k} |F_j - F_{j - 1}|}{\sum_{j > 1} |F_j - F_{j - 1}|}$$

    The words of the prompt and the earlier words of the answer are ranked in the same way, which the publication does
    not do. A removed superpixel has the mean color; in the program of Chen et al., it is black. nibt explains each word
    of an answer by itself; their program can also explain the mean over all tokens of a sentence.

    ``AnswerWord.reliance`` has, for each source, the area under $p$ while its parts are added, above its least value.
    Compare that of the image with those of the prompt and of the earlier words: a word that the model guesses from them
    relies little on the image.

    Shows:
        In which order superpixels raise the probability of the word most, added one by one.

    Use it when:
        You want few, connected regions that a word rests on, or look for the region that corrects a hallucination.

    Avoid it when:
        You need a fast method, signs, or sums: the scores are an order, and 64 superpixels take 4,160 forward passes
        for each word. With fewer (``segments=16``), there are 272.

    Args:
        segments: The intended number of superpixels.
        units: The units of the image, ``segments`` (superpixels), ``segments:FILE``, ``refined:NUMBER`` or ``words``
            (cells).
    """

    paper = "Chen et al., CVPR 2026, arXiv 2509.22496"
    category = "perturbation"
    cost = "units * (units + 1)"
    needs = ("answer",)
    signed = False
    variants: ClassVar = {"default": {"image": {}, "text": {}}}

    units: str = field(default="segments", kw_only=True)
    segments: Annotated[int, Range(2, 10_000)] = field(default=64, kw_only=True)

    def attribute(self, side: Side) -> Attribution:
        if getattr(side.score, "others", None) is not None:
            raise BadOption("eagle explains the probability of a word, not a difference: leave against out")

        units = self.units_of(side)
        orders = self._orders(side, units)
        scores = self._columns(side, units, orders)
        reliance = scores.new_tensor([order.reliance(_sizes(units, item)) for item, order in enumerate(orders)])
        none = scores.new_zeros(len(scores))
        if isinstance(units, Segments):
            return Attribution(_on_cells(scores, units), units.grid, none, reliance=reliance)
        return Attribution(scores, units, none, reliance=reliance)

    def scores(self, side: Side, units: Units | Segments) -> UnitValues:
        """Compute the scores of a batch: for segments, the score of each of their pixels."""
        return self._columns(side, units, self._orders(side, units))

    def _orders(self, side: Side, units: Units | Segments) -> "list[GreedyOrder]":
        """Return the order of the units of each word of a batch."""
        orders = []
        for item, players in enumerate(self.players(units, len(side.inputs))):
            word = _of_word(side, item)
            orders.append(greedy_order(word, units[item] if isinstance(units, Segments) else word.units, players))

        return orders

    def _columns(self, side: Side, units: Units | Segments, orders: "Sequence[GreedyOrder]") -> UnitValues:
        """Return the columns of the scores of a batch."""
        columns = [
            share_equally(torch.from_numpy(order.scores()), players, units.count)
            for order, players in zip(orders, self.players(units, len(side.inputs)), strict=True)
        ]
        return torch.stack(columns).to(side.tower.example.device)


@dataclass(frozen=True)
class GreedyOrder:
    """The units in the order in which they were added.

    Attributes:
        units: The number of each unit.
        inserted: The probability of the word with the units up to each one, and no others.
        deleted: The probability of the word without them; the last one is that of no unit.
    """

    units: tuple[int, ...]
    inserted: tuple[float, ...]
    deleted: tuple[float, ...]

    def scores(self) -> Float[np.ndarray, " unit"]:
        """Return the score of each unit, from 1 for the first to 0 for the last; zeros if no unit changes anything."""
        scores = np.zeros(len(self.units), np.float32)
        if len(self.units) < 2:
            return scores

        before = 1 - self.inserted[-1] + self.deleted[-1]  # of no unit
        goals = np.array(self.inserted) + 1 - np.array(self.deleted)
        changes = np.abs(np.diff(goals, prepend=before))
        after = changes[::-1].cumsum()[::-1] - changes
        if after[0] > 0:
            scores[list(self.units)] = after / after[0]
        return scores

    def reliance(self, sizes: Float[np.ndarray, " unit"] | None) -> float:
        """Return the area under the probability while units are added, above its least value.

        Args:
            sizes: The share of each unit, by its number; None means equal ones.
        """
        if not self.units:
            return 0.0

        shares = np.full(len(self.units), 1 / len(self.units)) if sizes is None else sizes[list(self.units)]
        added = np.concatenate([[0.0], shares.cumsum()])
        probabilities = np.array([self.deleted[-1], *self.inserted])
        return float(np.clip(np.trapezoid(probabilities, added) - probabilities.min(), 0, 1))


def greedy_order(side: Side, units: Units | Segments, players: Sequence[tuple[int, ...]]) -> GreedyOrder:
    """Add the units of one item one by one, each time the one that makes the goal largest.

    Args:
        side: The side of one item, whose score is a probability.
        units: What masks are of.
        players: The columns of the masks of each unit.
    """
    score = masker(side, units)
    left = list(range(len(players)))
    shown = np.zeros(len(players), bool)
    order: list[int] = []
    inserted: list[float] = []
    deleted: list[float] = []
    while left:
        larger = np.tile(shown, (len(left), 1))
        larger[range(len(left)), left] = True
        keep = coalition_masks([np.concatenate([larger, ~larger])], [players], units.count)
        values = score(keep.to(side.tower.example.device))[:, 0].cpu().double().numpy()

        with_units, without_units = np.split(values, 2)
        best = int((with_units + 1 - without_units).argmax())
        inserted.append(float(with_units[best]))
        deleted.append(float(without_units[best]))
        order.append(left.pop(best))
        shown[order[-1]] = True

    return GreedyOrder(tuple(order), tuple(inserted), tuple(deleted))


def _of_word(side: Side, item: int) -> Side:
    """Return the side of one word, whose score is its probability."""
    tower = side.tower
    assert isinstance(tower, AnswerTower)
    return replace(side.take([item]), score=AnswerProbability(tower, side.inputs.extra["targets"][[item]]))


def _sizes(units: Units | Segments, item: int) -> Float[np.ndarray, " unit"] | None:
    """Return the share of the image that each segment has; None for other units, which count equally."""
    if not isinstance(units, Segments):
        return None
    counts = torch.bincount(units.labels[item].flatten().cpu(), minlength=units.counts[item])
    return (counts / counts.sum()).double().numpy()


def _on_cells(scores: UnitValues, units: Segments) -> Float[Tensor, "batch cell"]:
    """Return the mean over the pixels of each cell, whose score is that of their segment."""
    labels = units.labels.flatten(1).to(scores.device)
    sizes = torch.zeros_like(scores).scatter_add(1, labels, torch.ones_like(labels, dtype=scores.dtype))
    return units.on_grid(scores * sizes) * (units.grid.count / labels.shape[1])
