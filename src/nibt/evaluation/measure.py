"""How good the maps of a method are, on pairs whose truth is known or by what the model itself does."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nibt.core.side import Side
from nibt.data.ground_truth import ground_truth
from nibt.data.images import ImageInput
from nibt.data.pair import Pair, require_image_text
from nibt.engine.batches import batch_indices, sides
from nibt.engine.spec import Contrast, ExplanationSpec, baseline_by_side, encode, resolve
from nibt.errors import BadInput, BadOption
from nibt.methods.base import Method
from nibt.metrics.base import Metric, MetricInput
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.registry import available, find
from nibt.results.attribution import Attribution
from nibt.results.measurement import Measurement
from nibt.targets.base import Target, TargetContext
from nibt.torch_modes import plain_torch
from nibt.types import Embedding, Modality, PerExample

_Any = TypeVar("_Any")


@plain_torch()
def measure(
    model: Model | str | Path | nn.Module,
    pairs: Sequence[Pair],
    metrics: Sequence[str | Metric] | None = None,
    method: str = "nib",
    target: str = "cosine",
    *,
    measured: str = "explained",
    only: Modality | None = None,
    variant: str = "default",
    against: str | Sequence[str] = (),
    templates: Sequence[str] = (),
    batch_size: int = 16,
    seed: int | None = None,
    on_explained: Callable[[Modality, Sequence[int], float], None] = lambda side, items, seconds: None,
    **options: Any,
) -> list[Measurement]:
    """Explain pairs with a method and measure the answers: one row for each pair, side and metric.

    ``metrics`` are names or metrics with their options, all of them without it; each is taken on the sides on which
    it has a meaning, or on one (``only``). Metrics that hold a map against the truth need pairs that bring it
    (``Pair.objects``), and are NaN elsewhere. All else is as in ``explain``.

    ``measured`` is the score that drop, increase, deletion, insertion and infidelity look at: the explained one, or
    any target, whatever the maps explain. A target that compares does so with ``against`` or, without, with all other
    captions of the call; on the text side with all other pictures of the call.

    ``on_explained`` is told, batch by batch, how many seconds the explanation of these pairs took on a side: its share
    of the forward passes through both towers, and the method; not the metrics.

    Raises:
        BadInput: there are no pairs, one is not of a picture and a caption, or there is nothing to compare with.
        BadOption: the measured target cannot compare with what there is.
        UnknownName: no metric, method, target, variant or option has that name.

    """
    if not pairs:
        raise BadInput("there is nothing to measure: give at least one pair")
    model = load_model(model)
    pairs = [require_image_text(pair, "measure") for pair in pairs]
    named = [
        (_name(metric), find("metrics", metric)() if isinstance(metric, str) else metric)
        for metric in (available("metrics") if metrics is None else metrics)
    ]
    other = None if measured == "explained" else _target(measured)
    own = () if other and other.others != "none" and find("targets", target).others == "none" else against
    options = baseline_by_side(options, ("image", "text") if only is None else (only,))
    question = resolve(model, method, target, variant, Contrast.read(own, (), templates), None, seed, options)
    scores = other and _Measured.of(model, measured, other, pairs, Contrast.read(against, (), ()).against, only)
    rows: list[Measurement] = []
    for indices in batch_indices(question, pairs, batch_size):
        rows += _batch(question, named, scores, indices, [pairs[index] for index in indices], only, on_explained)
    return sorted(rows, key=lambda row: row.item)


def _name(metric: str | Metric) -> str:
    return metric if isinstance(metric, str) else type(metric).__module__.rsplit(".", 1)[-1]


def _target(name: str) -> Target:
    """A target that may be measured: any whose captions stand for themselves."""
    target: Target = find("targets", name)()
    if type(target).wordings is not Target.wordings:
        raise BadOption(
            f"the target {name} rewords captions, so it can be explained, not measured beside another: "
            "measured must be cosine, logit, softmax, difference or centred"
        )
    return target


@dataclass(frozen=True)
class _Measured:
    """A score beside the explained one, and what each pair of the call is compared with: embeddings of the other
    side's kind, each with a key, and the key of each pair's own, which is left out.
    """

    model: Model
    target: Target
    others: dict[Modality, tuple[list[Any], Embedding]]
    own: dict[Modality, list[Any]]

    @classmethod
    def of(
        cls,
        model: Model,
        name: str,
        target: Target,
        pairs: Sequence[Pair],
        against: tuple[str, ...],
        only: Modality | None,
    ) -> "_Measured":
        """Everything to compare with is encoded here, once, so that it depends on the call alone."""
        if target.others == "none":
            return cls(model, target, {}, {})
        captions, pictures = [pair.caption for pair in pairs], [pair.picture for pair in pairs]
        of_pictures = [_key(picture) for picture in pictures]
        others: dict[Modality, tuple[list[Any], Embedding]] = {}
        own: dict[Modality, list[Any]] = {"image": [None] * len(pairs) if against else captions, "text": of_pictures}
        if only != "text":
            texts = list(against or dict.fromkeys(captions))
            others["image"] = texts, encode(model.text, texts)
        if only != "image":
            once = dict(zip(of_pictures, pictures, strict=True))
            others["text"] = list(once), encode(model.image, list(once.values()))
        for side, (keys, _) in others.items():
            fewest = min(len(keys) - (key in keys) for key in own[side])
            most = max(len(keys) - (key in keys) for key in own[side])
            kind = "captions" if side == "image" else "pictures"
            if not fewest:
                raise BadInput(
                    f"{name} on the {side} side compares with other {kind}, and the call has none: give "
                    "captions in against, more pairs, or only='image'"
                )
            if target.others == "one" and most > 1:
                raise BadOption(
                    f"{name} compares with one other, and the {side} side has {most} {kind}: give one in "
                    "against with only='image', or measure softmax"
                )
        return cls(model, target, others, own)

    def score(self, side: Modality, indices: Sequence[int], there: Embedding) -> Callable[[Embedding], PerExample]:
        """The score of a batch, of these pairs: each is compared with others of its own."""
        settings = [TargetContext(self.model.scale, self.model.bias, self._others(side, index)) for index in indices]

        def score(here: Embedding) -> PerExample:
            found = [self.target(here[..., place, :], there[place], one) for place, one in enumerate(settings)]
            return torch.stack(found, -1)

        return score

    def _others(self, side: Modality, index: int) -> Tensor | None:
        if side not in self.others:
            return None
        keys, embeddings = self.others[side]
        return embeddings[[place for place, key in enumerate(keys) if key != self.own[side][index]]]


def _key(picture: ImageInput) -> tuple[Any, ...]:
    """The same for pictures of the same pixels."""
    return picture.image.size, picture.image.mode, hash(picture.image.tobytes())


def _batch(
    question: ExplanationSpec,
    metrics: Sequence[tuple[str, Metric]],
    measured: _Measured | None,
    indices: list[int],
    pairs: list[Pair],
    only: Modality | None,
    on_explained: Callable[[Modality, Sequence[int], float], None],
) -> Iterator[Measurement]:
    both, encoding = _timed(lambda: sides(question, pairs))
    regions, words = both[0].inputs.regions, both[1].inputs.words
    assert words is not None
    truths = tuple(ground_truth(pair, regions[place], words[place]) for place, pair in enumerate(pairs))
    for modality, side, there in zip(question.places, both, reversed(both), strict=True):
        asked = [(name, one) for name, one in metrics if modality in one.sides and only in (None, modality)]
        if not asked:
            continue
        method = question.methods[modality]
        seen = (
            side if measured is None else replace(side, score=measured.score(modality, indices, there.trace.embedding))
        )
        answer, seconds = _timed(partial(method, side))
        on_explained(modality, indices, seconds + encoding / (2 if only is None else 1))
        trial = MetricInput(seen, answer, truths, partial(_again, method, side))
        for name, metric in asked:
            values, curves = metric.measured(trial)
            drawn = [()] * len(indices) if curves is None else map(tuple, curves.tolist())
            for index, value, curve in zip(indices, values.tolist(), drawn, strict=True):
                yield Measurement(index, modality, name, value, curve)


def _timed(work: Callable[[], _Any]) -> tuple[_Any, float]:
    """What the work gives, and the seconds until it is all there: an accelerator works on after it was asked."""
    started = time.perf_counter()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return found, time.perf_counter() - started


def _again(method: Method, explained: Side, side: Side) -> Attribution:
    """The method's answer for another side, of the score that was explained."""
    return method(replace(side, score=explained.score))
