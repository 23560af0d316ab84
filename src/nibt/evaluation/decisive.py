"""The decisive region: a small part of a map that keeps what the model decides, or whose removal changes it.

For an answer that the model does not write, it is a small part whose removal lets the model write it.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.hidden_cells import DRAWS, Cells, HiddenCells
from nibt.core.perturbation import HIDES, generator
from nibt.errors import BadOption
from nibt.evaluation.statistics import least_share
from nibt.metrics._perturbation import decisive_counts
from nibt.options import OneOf, OpenShare, parsed
from nibt.registry import find, kinds
from nibt.results.base import ResultWithMaps, require_result
from nibt.results.decisive import CORRECT, REGIONS, Decision, DecisiveRegion
from nibt.results.notes import note_fields
from nibt.torch_modes import plain_torch

AnyResult = TypeVar("AnyResult", bound=ResultWithMaps)
Region = Annotated[str, OneOf((*REGIONS, CORRECT))]
_SEED = 0
_HIDE = {"keep": "noise", "change": "mean", "correct": "mean"}
"""The defaults, from a study (docs/guides/contrast.md): parts that are enough on gray are seldom enough in a scene."""
_GROUPS = 8
"""The number of groups of the cells of the part that are left out first, before single cells are."""
_PARTS = 8
"""The largest number of parts of increasing size whose probability is measured."""
_LEAST_DRAWS = 100
"""The least number of draws of noise from which a probability is measured."""
_SIZES = 64
"""The largest number of sizes of a part that are tried to correct an answer, as many as EAGLE has regions."""
_MOST_SINGLE = 64
"""The largest number of cells of a part that are tested one by one, since each takes forward passes."""
Part = Bool[Tensor, " cell"]


@plain_torch()
def decisive_region(
    model: Any,
    explanation: AnyResult,
    region: Literal["keep", "change", "correct"] = "keep",
    *,
    word: int | str | None = None,
    hide: Literal["mean", "blur", "noise"] | None = None,
    probability: float | None = None,
) -> AnyResult:
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

    For an answer, the decision is that the part keeps more than half of what the image adds to the log-probability of a
    word, or of the whole answer. If the words are compared with another one (``against``), it is that the first token
    of the word is more probable than that of the other one or, where this does not depend on the image, what the image
    adds to the difference.

    For an answer that the model does not write, such as the right one where it hallucinates, ``correct`` finds a small
    part whose removal lets the model write it. The cells with the lowest scores are taken first, since they speak
    against the answer that is explained. Up to 64 sizes are tried, the smallest first, and then cells that are not
    needed are left out. It is decided by the logits: each token of the answer, up to ``word``, must be the most
    probable one.

    The search needs about 2 log2(n) + 20 forward passes of the image, where n is the number of cells, and about 2 per
    cell of the part that it finds first. With noise, it needs up to five times as many. A model behind a server takes
    as many changed images; its limits hold, and its finished requests are reused.

    Args:
        model: The model of the explanation, or what ``load_model`` or, for an answer, ``load_generator`` takes.
        explanation: An explanation of an image with a caption, or of an answer about one or several images, by any
            method.
        region: ``keep`` or ``change``, or ``correct`` for an answer that the model does not write.
        word: The word of the answer that is decided, by its position from 0, or by its text, if that occurs once. None
            means the whole answer: the sum of the log-probabilities of its words. With ``against``, one word must be
            named, unless the answer has only one. For ``correct``, the answer is written up to this word.
        hide: What replaces hidden cells: the ``mean`` color, a ``blur`` of the image, or ``noise``. None means
            ``noise`` for ``keep`` and ``mean`` for the others, which were the best in a test in which scenes are drawn
            again. Compare two values: a part that is found with only one of them may be an artifact of the replacement.

        probability: The probability with which the part decides if the hidden cells are filled with random noise. Cells
            with the next largest scores are added to the part that was found, until a lower bound of this probability,
            from new draws, is at least so large (Clopper and Pearson, 1934). The bound, which the result has, is too
            high in at most 5 % of cases. It needs ``hide="noise"``, which is then the default, and 100 forward passes
            or more for each of up to eight parts.

    Returns:
        The explanation with ``decisive``, which pictures show as an outline, or with a warning if the image adds
        nothing, or if no part corrects the answer.

    Raises:
        BadInput: The explanation is of another model, compares two images or two captions, or is of a video, its image
            is missing, or the model writes another answer now.
        BadOption: ``region``, ``hide`` or ``probability`` has another value, ``word`` is set for a caption, or the
            model takes patches and cannot ``blur``.
        UnknownName: The answer has no such word.
        CannotLoad: The model cannot be loaded.
        ServerFailed: A server cannot be reached, or would be asked more than its limit.

    Source:
        The idea of minimal sufficient inputs: Carter et al., AISTATS 2019, arXiv 1810.03805; that of the smallest
        region that corrects an answer: Chen et al., CVPR 2026, arXiv 2509.22496

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

    kind = getattr(explanation, "kind", None)
    known = kinds("decisions")
    able = [find("decisions", name) for name in ([kind] if kind in known else known)]
    require_result(explanation, "decisive_region", *(decisions.of for decisions in able))
    with able[0].opened(model, explanation, word, filling, writes=region == CORRECT) as hidden:
        if region == CORRECT:
            decisive, notes = _correcting(hidden, least)
        else:
            decisive, notes = _decisive(hidden, region, least)

    result: Any = explanation
    return replace(result, decisive=decisive, **note_fields([*explanation.notes, *notes]))


def _decisive(hidden: HiddenCells, region: Any, least: float | None) -> tuple[DecisiveRegion | None, list[str]]:
    """Return the part of an image that decides, and what is to be said about it; None if the image adds nothing."""
    draws = len(hidden.draws) + (0 if least is None else _LEAST_DRAWS)
    hidden.check_limit(draws + math.ceil(2 * math.log2(hidden.cells)))
    ends = hidden.of_ends()
    decision = _decision(hidden, ends)
    nothing, everything = _limits(hidden.margins(decision, ends))
    if everything <= nothing:
        remedy = "; explain it without the comparison to see what keeps the similarity" if hidden.names else ""
        name = decision.replace("_", "-")
        return None, [f"no region is decisive: the image adds nothing to the {name}{remedy}"]

    limit = 0.0 if decision == "first" else (nothing + everything) / 2
    search = _Search(hidden, region, decision, limit)
    scores = hidden.scores.flatten().cpu().double()
    in_random_order = torch.from_numpy(generator(_SEED).random(len(scores)))
    ranks = torch.stack([scores, in_random_order]).argsort(dim=-1, descending=True, stable=True).argsort(dim=-1).float()
    count, at_random = search.counts(ranks)

    part, bound, drawn, notes = search.small(ranks[0], count, least)
    instead = ""
    if decision == "first" and region == "change":
        without = torch.stack([hidden.shown(~part[None], draw)[0, 1:] for draw in hidden.draws])
        instead = hidden.names[int(without.mean(0).argmax())]

    decisive = DecisiveRegion(
        region=region,
        decision=decision,
        cells=part.view(hidden.scores.shape),
        random=at_random / len(scores),
        instead=instead,
        hide=hidden.hide,
        probability=bound,
        draws=drawn,
        word=hidden.word,
    )
    return decisive, notes


def _correcting(hidden: HiddenCells, least: float | None) -> tuple[DecisiveRegion | None, list[str]]:
    """Return the part without which the model writes an answer, and what is to be said about it; None without one."""
    _, everything = hidden.margins("written", hidden.of_ends()).amin(0).tolist()
    if everything > 0:
        return None, [
            f"no region corrects the answer: the model writes \u201c{hidden.text}\u201d with the whole image; explain "
            "the answer that it should write"
        ]

    search = _Search(hidden, CORRECT, "written", 0.0)
    scores = hidden.scores.flatten().cpu().double()
    in_random_order = torch.from_numpy(generator(_SEED).random(len(scores)))
    ranks = torch.stack([scores, in_random_order]).argsort(dim=-1, stable=True).argsort(dim=-1).float()
    count = search.first_size(ranks[0])
    if count is None:
        return None, [
            f"no region corrects the answer: the model does not write \u201c{hidden.text}\u201d without any of the "
            "parts with the lowest scores"
        ]

    at_random = search.first_size(ranks[1])
    part, bound, drawn, notes = search.small(ranks[0], count, least)
    decisive = DecisiveRegion(
        region=CORRECT,
        decision="written",
        cells=part.view(hidden.scores.shape),
        random=1.0 if at_random is None else at_random / len(scores),
        instead=hidden.text,
        hide=hidden.hide,
        probability=bound,
        draws=drawn,
        word=hidden.word,
    )
    return decisive, notes


def _decision(hidden: HiddenCells, ends: Float[Tensor, "draw end candidate"]) -> Decision:
    """Return what the model decides: ``first`` if the image decides the rank, or what the image adds to."""
    if hidden.names:
        nothing, everything = _limits(hidden.margins("first", ends))
        if nothing <= 0 < everything:
            return "first"

    return hidden.amount


def _limits(margins: Float[Tensor, "draw end"]) -> tuple[float, float]:
    """Return the margins of no cell and of all cells, of all draws the largest."""
    nothing, everything = margins.amax(0).tolist()
    return nothing, everything


@dataclass(frozen=True)
class _Search:
    """The search for a small part of an image that decides.

    Its margin is above a limit (``keep``), without it, it is not (``change``), or without it, it is (``correct``).
    """

    image: HiddenCells
    region: str
    decision: Decision
    limit: float

    @property
    def reaches(self) -> bool:
        """Whether a part decides if the margin is above the limit."""
        return self.region != "change"

    def margins(self, parts: Cells, draw: int = 0) -> Float[Tensor, " mask"]:
        """Return the margins of parts, or of the image without them."""
        shown = parts if self.region == "keep" else ~parts
        return self.image.margins(self.decision, self.image.shown(shown, draw))

    def decides(self, parts: Cells) -> Bool[Tensor, " mask"]:
        """Return whether each part decides with every draw; draws end with the first that fails."""
        left = torch.arange(len(parts))
        for draw in self.image.draws:
            if not len(left):
                break
            is_above = self.margins(parts[left], draw) > self.limit
            left = left[is_above == self.reaches]

        enough = torch.zeros(len(parts), dtype=torch.bool)
        enough[left] = True
        return enough

    def needed(self, parts: Cells) -> Float[Tensor, " mask"]:
        """Return numbers that are larger, the more that the parts lack is needed."""
        values = self.margins(parts)
        return -values if self.reaches else values

    def counts(self, ranks: Float[Tensor, "order cell"]) -> list[int]:
        """Return how many of the first cells of each order decide."""
        all_cells = torch.full((len(ranks),), float(ranks.shape[1]), dtype=torch.float32)
        return [int(count) for count in decisive_counts(ranks, all_cells, self.decides)]

    def first_size(self, ranks: Float[Tensor, " cell"]) -> int | None:
        """Return how many of the first cells of an order decide, of sizes that are tried from the smallest on."""
        sizes = np.unique(np.linspace(0, len(ranks), _SIZES + 2).round().astype(int))[1:-1]
        for size in sizes.tolist():
            if self.decides((ranks < size)[None])[0]:
                return size
        return None

    def small(
        self, ranks: Float[Tensor, " cell"], count: int, least: float | None
    ) -> tuple[Part, float | None, int, list[str]]:
        """Leave out of the first cells those that are not needed.

        Returns:
            The part, a lower bound of its probability, the number of draws of noise, and what is to be said about it.
        """
        part = self.without_groups(ranks, count)
        notes = []
        if part.sum() <= _MOST_SINGLE:
            part = self.without_single_cells(part)
        else:
            notes = [
                f"the decisive part has {int(part.sum())} cells, too many to test each: its share is an upper bound"
            ]

        bound = None
        drawn = 0
        if least is not None:
            part, bound, drawn = self.likely(part, ranks, least)
            if bound < least:
                notes.append(
                    f"the part decides with a probability of at least {bound:.2g}, below the requested {least:g}"
                )

        return part, bound, drawn, notes

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
        first = DRAWS
        bound = 0.0
        larger = part
        for size in sizes.tolist():
            larger = torch.zeros_like(part)
            larger[order[:size]] = True
            margins = torch.cat([self.margins(larger[None], first + draw) for draw in range(draws)])
            hits = int(((margins > self.limit) == self.reaches).sum())
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
