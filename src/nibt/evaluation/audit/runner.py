"""What is asked of the methods over and over, with something changed: the weights, the caption, the image, the
wording, the seed. Each answer is held against the one to the plain pair.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from nibt.data.pair import Pair
from nibt.engine.spec import resolve
from nibt.evaluation.audit.counterfactuals import inner, nonsense, other_captions, other_images, wordings
from nibt.evaluation.audit.examples import example
from nibt.evaluation.audit.intervals import interval
from nibt.evaluation.audit.randomization import cascade
from nibt.evaluation.audit.similarity import spearman, ssim
from nibt.evaluation.audit.thresholds import BOUNDS
from nibt.evaluation.maps import Map, maps
from nibt.methods.base import SIDES, MethodSpec
from nibt.models.base import Model
from nibt.results.audit import Check, Curve, Example
from nibt.types import Modality

SEEDS = 3
_EXAMPLES = 3
Kept = dict[tuple[str, Modality], dict[str, list[Map]]]


class AuditRunner:
    """The plain maps of each method and side, and what is asked beside them.

    The first few of each are kept to be shown.
    """

    def __init__(
        self, model: Model, pairs: Sequence[Pair], methods: Sequence[MethodSpec], seed: int, size: int
    ) -> None:
        self.model, self.pairs, self.methods, self.seed, self.size = model, pairs, methods, seed, size
        self.notes: list[str] = []
        self.kept: Kept = {}
        self.plain = {
            (str(asked), side): maps(model, pairs, asked, side, seed, size) for asked in methods for side in SIDES
        }
        for asked in methods:
            for side in SIDES:
                self._keep(str(asked), side, "the pair itself", self.plain[str(asked), side])
        short = sum(one.scores.size < 3 for one in self.plain[str(methods[0]), "text"])
        if short:
            self.notes.append(
                f"{short} of {len(pairs)} captions have fewer than three words: ranks of words are not taken of them"
            )

    @property
    def facts(self) -> dict[str, Any]:
        """What is written down of the model and the packages."""
        return resolve(self.model, self.methods[0], seed=self.seed).provenance

    @property
    def units(self) -> list[int]:
        """How many patches each image has."""
        return [one.scores.size for one in self.plain[str(self.methods[0]), "image"]]

    def other_side(self) -> Iterator[Check]:
        """Another caption and made-up words for the image; another image for the caption."""
        asked_of: list[tuple[str, Modality, str, list[Pair]]] = [
            ("mismatch_image", "image", "another caption", other_captions(self.pairs)),
            ("nonsense", "image", "made-up words", nonsense(self.pairs, self.seed)),
            ("mismatch_text", "text", "another image", other_images(self.pairs)),
        ]
        for asked in self.methods:
            for name, side, shown, pairs in asked_of:
                found = self._maps(pairs, asked, side)
                self._keep(str(asked), side, shown, found)
                yield from self._check(name, asked, side, self._alike(asked, side, found))

    def wording(self, most: int) -> Iterator[Check]:
        """The mean, over templates, of how alike the maps are; of captions their own words only."""
        for asked in self.methods:
            for side in SIDES:
                alike = []
                for template, pairs in wordings(self.pairs)[:most]:
                    found: Sequence[Map | None] = self._maps(pairs, asked, side)
                    if side == "text":
                        plain = self.plain[str(asked), side]
                        found = [inner(template, one, own) for one, own in zip(found, plain, strict=True) if one]
                    alike.append(self._alike(asked, side, found))
                yield from self._check("wording", asked, side, np.mean(alike, axis=0))

    def seeds(self) -> Iterator[Check]:
        """1 less the rank correlation of the maps of two seeds, over all of them; a method that does not draw is asked
        twice.
        """
        for asked in self.methods:
            for side in SIDES:
                seeds = range(1, SEEDS if asked.is_random else 2)
                others = [self._maps(self.pairs, asked, side, self.seed + step * asked.is_random) for step in seeds]
                runs = [self.plain[str(asked), side], *others]
                spread = [
                    [1 - _rank(one, other) for one, other in zip(*two, strict=True)] for two in combinations(runs, 2)
                ]
                yield from self._check("seed", asked, side, np.mean(spread, axis=0))

    def weights(self, most: int, on_stage: Callable[[str], None]) -> tuple[list[Check], list[Curve]]:
        """The curves of randomisation from the head down, and what is left at their ends."""
        checks, curves = [], []
        for side in SIDES:
            ways = [(spearman, "spearman", "weights")] + ([(ssim, "ssim", "weights_ssim")] if side == "image" else [])
            first: dict[str, list[Map]] = {}
            points: dict[tuple[str, str], list[list[float]]] = {}
            stages = []
            for stage, found in cascade(self.model, self.pairs, self.methods, side, self.seed, most, self.size):
                on_stage(f"the weights of the {side} tower: random down to {stage}")
                first = first or found
                stages.append(stage)
                for method, own in found.items():
                    self._keep_stage(method, side, stage, own)
                    for alike, measure, _ in ways:
                        points.setdefault((method, measure), []).append(
                            [alike(one.scores, other.scores) for one, other in zip(own, first[method], strict=True)]
                        )
            for asked in self.methods:
                for _, measure, name in ways:
                    values = points[str(asked), measure]
                    curves += _curve(str(asked), side, measure, stages, values, self.seed)
                    checks += self._check(name, asked, side, values[-1])
        return checks, curves

    def examples(self) -> Iterator[Example]:
        """The first pairs with what was kept of them."""
        for asked in self.methods:
            for place in range(min(_EXAMPLES, len(self.pairs))):
                kept = [{name: found[place] for name, found in self.kept[str(asked), side].items()} for side in SIDES]
                yield example(str(asked), self.pairs[place], kept[0], kept[1])

    def _maps(self, pairs: Sequence[Pair], asked: MethodSpec, side: Modality, seed: int | None = None) -> list[Map]:
        return maps(self.model, pairs, asked, side, self.seed if seed is None else seed, self.size)

    def _alike(self, asked: MethodSpec, side: Modality, found: Sequence[Map | None]) -> list[float]:
        plain = self.plain[str(asked), side]
        return [float("nan") if other is None else _rank(one, other) for one, other in zip(plain, found, strict=True)]

    def _check(
        self, name: str, asked: MethodSpec, side: Modality, values: Sequence[float] | np.ndarray
    ) -> Iterator[Check]:
        mean = interval(values, self.seed)
        if mean:
            yield BOUNDS[name].check(name, str(asked), side, mean)
        else:
            self.notes.append(f"{name} was not measured on the {side} side of {asked}: maps have too few units")

    def _keep(self, method: str, side: Modality, name: str, found: Sequence[Map]) -> None:
        self.kept.setdefault((method, side), {})[name] = list(found[:_EXAMPLES])

    def _keep_stage(self, method: str, side: Modality, stage: str, found: Sequence[Map]) -> None:
        if stage in ("head", "stem"):
            self._keep(method, side, {"head": "random head", "stem": "random tower"}[stage], found)


def _rank(one: Map, other: Map) -> float:
    return spearman(one.scores, other.scores)


def _curve(
    method: str, side: str, measure: str, stages: Sequence[str], values: Sequence[Sequence[float]], seed: int
) -> Iterator[Curve]:
    means = [interval(value, seed) for value in values]
    known = [mean for mean in means if mean]
    if len(known) == len(means):
        lows, highs = tuple(mean.low for mean in known), tuple(mean.high for mean in known)
        yield Curve(method, side, measure, tuple(stages), tuple(mean.mean for mean in known), lows, highs)
