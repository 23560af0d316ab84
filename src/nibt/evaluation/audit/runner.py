"""Questions 1 to 4: how maps change with the weights, the caption, the image, the wording, and the seed."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np

from nibt.data.ground_truth import GroundTruth
from nibt.data.pair import Pair
from nibt.engine.batches import batch_indices
from nibt.engine.encode import most_together
from nibt.engine.spec import Request, resolve
from nibt.evaluation.audit.checks import CheckValues, worst_first
from nibt.evaluation.audit.evidence import Evidence, corner_cells, in_corners, text_masks, truths_of
from nibt.evaluation.audit.exchange import Exchange, exchange_beside_objects, exchange_of_words
from nibt.evaluation.audit.randomization import cascade
from nibt.evaluation.donors import donors
from nibt.evaluation.finished import NOTHING_FINISHED, FinishedWork
from nibt.evaluation.maps import Map, maps, spearman, ssim
from nibt.evaluation.parts.groups import unused_areas
from nibt.evaluation.shared import TRACES, KeptEmbeddings, SharedWork
from nibt.evaluation.statistics import interval
from nibt.methods.base import SIDES
from nibt.models.base import Model
from nibt.registry import MethodSpec, find
from nibt.report.image.layout import uri
from nibt.results.audit import Check, Example, RandomizationCurve
from nibt.results.audit_questions import QUESTION_OF_EVIDENCE, QUESTIONS
from nibt.targets.base import fill_template
from nibt.types import Modality

_ONSETS = "bl br cl dr fl gl gr kr pl sk sn sp st tr vl zw".split()
_VOWELS = "a e i o u".split()
_CODAS = "b ck ft lp mb nt rk rv sp x".split()


def other_captions(pairs: Sequence[Pair]) -> list[Pair]:
    """Return each image with the caption of a following pair that, if possible, names none of its objects."""
    later = donors(
        pairs,
        lambda pair: pair.caption,
        lambda pair, other: bool(_depicted(pair) & _named(other)),
        f"all {len(pairs)} captions are the same: an audit needs at least two different captions",
    )
    return [Pair(pair.image, pairs[place].caption) for pair, place in zip(pairs, later, strict=True)]


def other_images(pairs: Sequence[Pair]) -> list[Pair]:
    """Return each caption with the image of a following pair that, if possible, shows none of its objects."""
    places = image_donors(pairs)
    return [Pair(pairs[place].image, pair.caption) for pair, place in zip(pairs, places, strict=True)]


def image_donors(pairs: Sequence[Pair]) -> list[int]:
    """Return for each pair the position of the next one with another image that, if possible, lacks its objects."""
    return donors(
        pairs,
        lambda pair: pair.image.pil_image.tobytes(),
        lambda pair, other: bool(_named(pair) & _depicted(other)),
        f"all {len(pairs)} images are the same: an audit needs at least two different images",
    )


def nonsense_captions(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """Return each image with as many made-up words as its caption has."""
    draws = np.random.default_rng(seed)

    def word() -> str:
        parts = [draws.choice(_ONSETS), draws.choice(_VOWELS), draws.choice(_CODAS)]
        return "".join(map(str, parts + parts[1:] if draws.random() < 0.5 else parts))

    return [Pair(pair.image, " ".join(word() for _ in pair.caption.split())) for pair in pairs]


def wordings(pairs: Sequence[Pair]) -> list[tuple[str, list[Pair]]]:
    """Return each template of the target ``ensemble``, except ``{}``, with the pairs that are reworded by it."""
    templates = [template for template in find("targets", "ensemble")().templates if template != "{}"]

    def worded(pair: Pair, template: str) -> Pair:
        return replace(pair, caption=fill_template(template, pair.caption), objects=(), absent=())

    return [(template, [worded(pair, template) for pair in pairs]) for template in templates]


def caption_words(template: str, reworded: Map, plain: Map) -> Map | None:
    """Return the scores of the caption's words in a reworded caption."""
    skipped = len(template.split("{}")[0].split())
    end = skipped + len(plain.words)
    if reworded.words[skipped:end] != plain.words:
        return None
    return Map(reworded.scores[skipped:end], plain.words)


def _depicted(pair: Pair) -> set[str]:
    return {object_.name for object_ in pair.objects}


def _named(pair: Pair) -> set[str]:
    return {object_.name for object_ in pair.objects if object_.spans}


class QuestionTimes:
    """The time that each question takes, one after the other."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(QUESTIONS, 0.0)
        self._question: int | None = None
        self._began = 0.0

    def begin(self, question: int) -> None:
        """Begin with the work for a question, which ends that for another one."""
        self.end()
        self._question = question
        self._began = time.perf_counter()

    def end(self) -> None:
        """End the work for the current question."""
        if self._question is not None:
            self.seconds[self._question] += time.perf_counter() - self._began
        self._question = None


SEEDS = 3
_EXAMPLES = 3  # pairs
FINDS = 10  # pairs of a check
_THUMBNAIL = 192  # pixels
Kept = dict[tuple[str, Modality], dict[str, list[Map]]]


class AuditRunner:
    """The checks of questions 1 to 4, which compare the maps of pairs with those of changed pairs or weights."""

    def __init__(
        self,
        model: Model,
        pairs: Sequence[Pair],
        methods: Sequence[MethodSpec],
        seed: int,
        batch_size: int,
        finished: FinishedWork = NOTHING_FINISHED,
    ) -> None:
        self.model = model
        self.pairs = pairs
        self.methods = methods
        self.seed = seed
        self.batch_size = most_together(model.image, [pair.image for pair in pairs], batch_size)
        self.finished = finished
        self.times = QuestionTimes()
        self.times.begin(QUESTION_OF_EVIDENCE)  # which has the maps of the pairs themselves
        self.kept_embeddings = KeptEmbeddings(model)
        self.kept_embeddings.of("image", [pair.image for pair in pairs])
        self.kept_embeddings.of("text", [pair.caption for pair in pairs])
        self.cache = SharedWork(model, self.kept_embeddings, TRACES)
        self.batches = list(batch_indices(resolve(model, Request(methods[0], seed=seed)), pairs, self.batch_size))
        self.notes = unused_areas(pairs)
        self.kept: Kept = {}
        self.explained: list[tuple[MethodSpec, Modality]] = [(method, side) for method in methods for side in SIDES]
        self.unchanged = {
            (str(method), side): self._maps("the pair itself", pairs, method, side) for method, side in self.explained
        }
        images = self.unchanged[str(methods[0]), "image"]
        truths = truths_of(model, pairs, images)
        text = text_masks(pairs, images)
        self.exchanges = self._exchanges(images, truths)
        self.evidence = {
            str(method): Evidence.of(
                model, pairs, self.unchanged[str(method), "image"], self.unchanged[str(method), "text"], truths, text
            )
            for method in methods
        }
        self.notes += next(iter(self.evidence.values())).notes
        self.shown = {method: evidence.worst("inside")[:_EXAMPLES] for method, evidence in self.evidence.items()}
        self.reworded: dict[tuple[str, Modality], np.ndarray] = {}
        """The mean similarity of each pair's map to those for other wordings."""
        for method, side in self.explained:
            self._keep(str(method), side, "the pair itself", self.unchanged[str(method), side])
        short = sum(text_map.scores.size < 3 for text_map in self.unchanged[str(methods[0]), "text"])
        if short:
            self.notes.append(
                f"{short} of {len(pairs)} captions have fewer than three words, too few for a rank correlation"
            )

        self.times.end()

    def checked(self, measured: Iterable[CheckValues]) -> Iterator[Check]:
        """Yield the checks of values; a note names those without a check."""
        for values in measured:
            check = values.check()
            if check is not None:
                yield check
            else:
                self.notes.append(
                    f"{values.name} was not measured on the {values.side} side of {values.method}: fewer than two maps "
                    "have enough units"
                )

    def evidence_checks(self) -> Iterator[Check]:
        """Yield the checks of question 9, of each method and of the model."""
        for method, evidence in self.evidence.items():
            yield from evidence.checks(method, self.exchanges)
        for side, exchange in self.exchanges.items():
            check = exchange.check_values(side).check()
            if check is not None:
                yield check

    def values_of(self, check: Check) -> np.ndarray:
        """Return the values of the pairs of a check of question 9."""
        if not check.method:
            return self.exchanges["image" if check.side == "image" else "text"].values()
        return self.evidence[check.method].values[check.name]

    def other_side(self) -> Iterator[CheckValues]:
        """Yield the similarity to the maps of another caption, made-up words, and another image."""
        changes: list[tuple[str, Modality, str, list[Pair]]] = [
            ("mismatch_image", "image", "another caption", other_captions(self.pairs)),
            ("nonsense", "image", "made-up words", nonsense_captions(self.pairs, self.seed)),
            ("mismatch_text", "text", "another image", other_images(self.pairs)),
        ]
        if self.model.is_classifier:  # whose texts are names of classes only
            changes = [change for change in changes if change[0] != "nonsense"]
        for method in self.methods:
            for name, side, change, pairs in changes:
                changed = self._maps(change, pairs, method, side)
                self._keep(str(method), side, change, changed)
                yield _values(name, method, side, self._similarities(method, side, changed))

    def wording(self, most_templates: int) -> Iterator[CheckValues]:
        """Yield the similarity to the maps of reworded captions, on the caption's own words."""
        if self.model.is_classifier:
            return

        for method, side in self.explained:
            similarities = []
            for template, pairs in wordings(self.pairs)[:most_templates]:
                changed: Sequence[Map | None] = self._maps(template, pairs, method, side)
                if side == "text":
                    plain = self.unchanged[str(method), side]
                    changed = [caption_words(template, *two) for two in zip(changed, plain, strict=True) if two[0]]
                similarities.append(self._similarities(method, side, changed))

            self.reworded[str(method), side] = np.mean(similarities, axis=0)
            yield _values("wording", method, side, self.reworded[str(method), side])

    def corners(self, method: MethodSpec) -> CheckValues:
        """Return the share of the score in the corners of each map of an image."""
        grids = [image_map.scores for image_map in self.unchanged[str(method), "image"]]
        return CheckValues(
            name="corners",
            method=str(method),
            side="image",
            values=np.array([in_corners(grid) for grid in grids]),
            most=max(1 / float(corner_cells(grid.shape).mean()) for grid in grids),
        )

    def seeds(self) -> Iterator[CheckValues]:
        """Yield 1 minus the correlation between seeds; deterministic methods are run twice, without shared traces."""
        shared = SharedWork(self.model, self.kept_embeddings, 0)
        for method, side in self.explained:
            steps = range(1, SEEDS if method.is_random else 2)
            others = [
                self._maps(f"run {step}", self.pairs, method, side, self.seed + step * method.is_random, shared)
                for step in steps
            ]
            runs = [self.unchanged[str(method), side], *others]
            spread = [
                [1 - _similarity(first, second) for first, second in zip(*two, strict=True)]
                for two in combinations(runs, 2)
            ]
            yield _values("seed", method, side, np.mean(spread, axis=0))

    def weights(
        self, most_groups: int, on_stage: Callable[[str], None]
    ) -> tuple[list[CheckValues], list[RandomizationCurve]]:
        """Return the similarity to the maps of the fully random tower, and the curves over the stages."""
        measured = []
        curves = []
        for side in SIDES:
            if side == "text" and self.model.is_classifier:  # whose text tower has no weights
                continue

            stages = self._randomized(side, most_groups, on_stage)
            measures = [("weights", "spearman", spearman)]
            if side == "image":
                measures.append(("weights_ssim", "ssim", ssim))

            for method in self.methods:
                for name, measure, similarity in measures:
                    by_stage = _similarities_to_first([maps_of[str(method)] for maps_of in stages.values()], similarity)
                    means = [interval(values, (-1.0, 1.0)) for values in by_stage]
                    if all(mean.has_ends for mean in means):
                        centers, lows, highs = zip(*means, strict=True)
                        curves.append(
                            RandomizationCurve(str(method), side, measure, tuple(stages), centers, lows, highs)
                        )
                    measured.append(_values(name, method, side, by_stage[-1]))

        return measured, curves

    def _randomized(
        self, side: Modality, most_groups: int, on_stage: Callable[[str], None]
    ) -> dict[str, dict[str, list[Map]]]:
        """Return the maps of each method, by the stages of randomization, of which the first is the model itself."""
        cascaded = cascade(
            self.model,
            self.pairs,
            self.methods,
            side,
            self.seed,
            most_groups,
            self.batch_size,
            {str(method): self.unchanged[str(method), side] for method in self.methods},
            self.finished,
            self.cache,
        )
        shown = {"head": "random head", "stem": "random tower"}
        stages = {}
        for stage, by_method in cascaded:
            on_stage(f"the weights of the {side} tower: random down to {stage}")
            stages[stage] = by_method
            if stage in shown:
                for method, stage_maps in by_method.items():
                    self._keep(method, side, shown[stage], stage_maps)

        return stages

    def examples(self) -> Iterator[Example]:
        """Yield pairs with their maps, as examples for the page: those with the least evidence on the objects first."""
        for method in self.methods:
            for place, index in enumerate(self.shown[str(method)]):
                image_maps, text_maps = (
                    {name: kept[place] for name, kept in self.kept[str(method), side].items()} for side in SIDES
                )
                yield example(str(method), self.pairs[index], image_maps, text_maps)

    def finds(self, checks: Iterable[Check]) -> Iterator[Example]:
        """Yield up to ten pairs for each check of question 9 that has a verdict and does not pass, the worst first."""
        for check in checks:
            if check.question != QUESTION_OF_EVIDENCE or check.verdict in ("pass", "no verdict"):
                continue

            method = check.method or str(self.methods[0])
            values = self.values_of(check)
            for index in worst_first(values, check.better)[:FINDS]:
                if not np.isfinite(values[index]):
                    continue

                images, texts = ({"evidence": self.unchanged[method, side][index]} for side in SIDES)
                find = example(method, self.pairs[index], images, texts)
                yield replace(find, check=check.name, value=float(values[index]))

    def _exchanges(self, images: Sequence[Map], truths: Sequence[GroundTruth]) -> dict[Modality, Exchange]:
        """Return the exchange of each side, which is kept among the finished work."""
        computed: dict[Modality, Callable[[], Exchange]] = {
            "image": lambda: exchange_beside_objects(
                self.model, self.pairs, image_donors(self.pairs), images, truths, self.kept_embeddings
            ),
            "text": lambda: exchange_of_words(self.model, self.pairs, self.kept_embeddings),
        }
        return {
            side: Exchange(*self.finished.numbers(f"exchange {side}", lambda exchange=exchange: exchange().losses))
            for side, exchange in computed.items()
        }

    def _maps(
        self,
        name: str,
        pairs: Sequence[Pair],
        method: MethodSpec,
        side: Modality,
        seed: int | None = None,
        cache: SharedWork | None = None,
    ) -> list[Map]:
        """Return the maps of pairs, which have a name among the finished work.

        The images of pairs with other captions stay in the same batches, for which the traces are kept.
        """
        seed = self.seed if seed is None else seed
        batches = self.batches if side == "image" else None
        compute = partial(maps, self.model, pairs, method, side, seed, self.batch_size, cache or self.cache, batches)
        return self.finished.maps(f"{method} {side} {name}", compute)

    def _similarities(self, method: MethodSpec, side: Modality, changed: Sequence[Map | None]) -> list[float]:
        unchanged = self.unchanged[str(method), side]
        return [
            float("nan") if after is None else _similarity(before, after)
            for before, after in zip(unchanged, changed, strict=True)
        ]

    def _keep(self, method: str, side: Modality, name: str, changed: Sequence[Map]) -> None:
        self.kept.setdefault((method, side), {})[name] = [changed[index] for index in self.shown[method]]


def example(method: str, pair: Pair, images: Mapping[str, Map], texts: Mapping[str, Map]) -> Example:
    """Build an example from a pair: a thumbnail of its image with its maps."""
    first, (width, height), small = next(iter(images.values())).region, pair.image.size, pair.image.pil_image.copy()
    assert first is not None
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return Example(
        method,
        pair.caption,
        uri(small),
        (first.left / width, first.top / height, first.width / width, first.height / height),
        {name: image_map.scores.tolist() for name, image_map in images.items()},
        {name: list(zip(text_map.words, text_map.scores.tolist(), strict=True)) for name, text_map in texts.items()},
    )


def _values(name: str, method: MethodSpec, side: Modality, values: Sequence[float] | np.ndarray) -> CheckValues:
    return CheckValues(name, str(method), side, np.asarray(values, float))


def _similarities_to_first(
    stages: Sequence[Sequence[Map]], similarity: Callable[[np.ndarray, np.ndarray], float]
) -> list[list[float]]:
    """Return the similarity of the map of each pair to that of the first stage, for each stage."""
    return [
        [similarity(changed.scores, original.scores) for changed, original in zip(maps_of, stages[0], strict=True)]
        for maps_of in stages
    ]


def _similarity(first: Map, second: Map) -> float:
    return spearman(first.scores, second.scores)
