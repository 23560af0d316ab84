"""Parts of captions: which words a model looks at over a data set, whether that decides, and by how much."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nibt.data.pair import Pair
from nibt.errors import BadInput
from nibt.evaluation.finished import FinishedWork, finished_work
from nibt.evaluation.maps import Map
from nibt.evaluation.parts.asked import asked_parts, on_steps
from nibt.evaluation.parts.clusters import nearest_within
from nibt.evaluation.parts.effects import effects
from nibt.evaluation.parts.evidence import Cells, largest_places, positive_shares
from nibt.evaluation.parts.groups import Group, grouped
from nibt.evaluation.parts.notes import shared_notes
from nibt.evaluation.parts.word_effects import CaptionWords, Exchanged, exchanges, losses_of_words, words_of
from nibt.methods.base import Method
from nibt.models._loading import ModelSource
from nibt.models.base import Model
from nibt.progress import OnProgress, reporter
from nibt.registry import MethodSpec
from nibt.results.explanation import Explanation
from nibt.results.parts import rank
from nibt.results.word_parts import CaptionOfPart, WordOfPart, WordPart, WordParts
from nibt.torch_modes import plain_torch

_STEPS = ("scores", "hidden states", "clusters")
_MOST_CLUSTERS = 4
"""The default number of clusters of many captions: with more, words that stand for each other are in several parts, so
that no other caption has others of the part to exchange them for."""
_MOST_WORDS = 8
_MOST_EXAMPLES = 8
_MOST_CAPTIONS = 200  # of a part whose effect is measured


@plain_torch()
def word_parts(
    model: ModelSource,
    pairs: Sequence[Pair | tuple[Any, ...]],
    method: str | MethodSpec | Method = "nib:fast",
    *,
    layer: int | None = None,
    count: int | None = None,
    explanations: Sequence[Explanation] | None = None,
    seed: int = 0,
    batch_size: int = 16,
    folder: str | Path | None = None,
    data: Mapping[str, Any] | None = None,
    on_progress: OnProgress | None = None,
) -> WordParts:
    """Find what is alike among the words that carry the positive scores of many captions, and whether it decides.

    The words that hold 60 % of the positive score of each caption are clustered by their hidden states. The words of
    each cluster, a part, are then completed, and exchanged for those of a caption with another label. This shows how
    far the part is needed and sufficient. A part that is needed and beside the words that name objects is a shortcut.
    If it is not known which words name objects, there is no verdict.

    If these words are known, words beside them are clustered apart. A run of words of the part is exchanged for the
    run of the other caption, and left out if that has none. The other caption is the next one with other words of the
    part or, if there is none, the next one without the part.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        pairs: Pairs of an image and its right caption, or tuples of both, perhaps with the objects that words name.
        method: A method with scores of the text side, with its variant and options.
        layer: The layer of the text tower whose hidden states describe words; None means two thirds of its depth.
        count: The number of clusters; if the words that name objects are known, at least one of these and one beside
            them. None means one per 10 pairs, but at least 2 and at most 4.
        explanations: Explanations of the pairs in their order, such as those of a job (``Job.explained_pairs``), whose
            scores are used in place of those of ``method``. None means that the scores are computed.
        seed: The seed of all random draws.
        batch_size: The largest number of pairs that go through the model together.
        folder: A folder that keeps finished work. If a call was stopped, the same call with this folder goes on. Delete
            the folder when you do not need it any more.
        data: The origin of the pairs, which is saved with the result.
        on_progress: Called when a step begins.

    Returns:
        The parts: shortcuts first, then those with the largest shares of the score.

    Raises:
        BadInput: All images or all captions are the same, no word has a positive score, or the explanations are of
            other pairs, of another model or of another target than the cosine.
        BadOption: An option has an invalid value.
        UnknownName: No method, variant or option has that name.

    Examples:
        >>> import nibt
        >>> from nibt.datasets.scenes import Scenes
        >>> parts = nibt.word_parts("scenes", list(Scenes(count=8)), count=2)
        >>> round(sum(part.share for part in parts.parts), 6)
        1.0
    """
    started = time.perf_counter()
    report = reporter(on_progress)
    asked = asked_parts(
        WordParts.kind,
        "text",
        model,
        pairs,
        method,
        layer=layer,
        count=count,
        most=_MOST_CLUSTERS,
        explanations=explanations,
        seed=seed,
        batch_size=batch_size,
        data=data,
    )
    on_step = on_steps(report, len(_STEPS) + asked.count)

    with finished_work(folder, {**asked.request, "versions": asked.versions}) as finished:
        on_step(_STEPS[0])
        maps = asked.maps(finished)

        on_step(_STEPS[1])
        words = words_of(asked.model, asked.pairs, asked.layer, asked.batch_size)
        cells = _evidence(maps, words)

        on_step(_STEPS[2])
        groups = grouped(cells, _named(words, cells.shape[1]), asked.count, asked.seed)
        numbers = _numbers(words, cells, groups)
        parts = []
        for number, group in enumerate(groups):
            on_step(f"effect of part {number + 1}")
            is_part = [_completed(of_caption, numbers[item] == number, group) for item, of_caption in enumerate(words)]
            draws = np.random.default_rng((asked.seed, number))
            parts.append(_part(asked.model, asked.pairs, words, cells, group, is_part, draws, finished))

    parts.sort(key=lambda part: rank(part.verdict, part.share))
    numbered = tuple(replace(part, number=number) for number, part in enumerate(parts, 1))
    return WordParts(
        model=asked.model.record(),
        data=asked.data,
        method=asked.method_name,
        layer=asked.layer,
        seed=asked.seed,
        count=asked.count,
        seconds=time.perf_counter() - started,
        versions=asked.versions,
        kept=float(cells.weights.sum()) / len(np.unique(cells.images)),
        parts=numbered,
        notes=tuple(_notes(words, cells, numbered)),
    )


def _evidence(maps: Sequence[Map], words: Sequence[CaptionWords]) -> Cells:
    """Return the words that hold 60 % of the positive score of each caption, as cells of one row."""
    shares = [positive_shares(of_caption.scores) for of_caption in maps]
    kept = [largest_places(share) for share in shares]
    if not any(map(len, kept)):
        raise BadInput(
            f"no word has a positive score (got {len(maps)} captions), so nothing speaks for the images: check that "
            "each caption is that of its image, or use a signed method such as nib:fast"
        )

    return Cells(
        images=np.repeat(np.arange(len(maps)), [len(places) for places in kept]),
        places=np.concatenate(kept),
        weights=np.concatenate([share[places] for share, places in zip(shares, kept, strict=True)]),
        states=np.concatenate([of_caption.states[places] for of_caption, places in zip(words, kept, strict=True)]),
        shape=(1, max(len(of_caption.spans) for of_caption in words)),
        regions=(),
    )


def _named(words: Sequence[CaptionWords], most: int) -> list[np.ndarray | None] | None:
    """Return whether each word of each caption names an object, with as many entries as the longest caption has."""
    if all(of_caption.named is None for of_caption in words):
        return None
    return [
        None if of_caption.named is None else np.pad(of_caption.named, (0, most - len(of_caption.named)))
        for of_caption in words
    ]


def _numbers(words: Sequence[CaptionWords], cells: Cells, groups: Sequence[Group]) -> list[np.ndarray]:
    """Return the part of each word of each caption, or -1 for none."""
    centers = np.stack([group.center for group in groups])
    reaches = np.array([group.reach for group in groups])
    return [
        nearest_within((of_caption.states - cells.means) / cells.deviations, centers, reaches) for of_caption in words
    ]


def _completed(words: CaptionWords, is_near: np.ndarray, group: Group) -> np.ndarray:
    """Return whether each word belongs to a part; one beside the names of objects has none of these."""
    if words.named is None or group.on_objects:
        return is_near
    return is_near & ~words.named


def _part(
    model: Model,
    pairs: Sequence[Pair],
    words: Sequence[CaptionWords],
    cells: Cells,
    group: Group,
    is_part: Sequence[np.ndarray],
    draws: np.random.Generator,
    finished: FinishedWork,
) -> WordPart:
    """Return a part without a number.

    Args:
        model: The model.
        pairs: The pairs.
        words: The words of each caption.
        cells: The words that carry the scores.
        group: Those of the part.
        is_part: Whether each word of each caption belongs to the completed part.
        draws: The random draws of this part.
        finished: The work that is kept.
    """
    scores = {item: of_caption[0] for item, of_caption in cells.of_images(group.chosen).items()}
    chosen = list(is_part)
    for item, of_caption in scores.items():
        chosen[item] = is_part[item] | (of_caption[: len(is_part[item])] > 0)

    drawn = sorted(draws.permutation(list(scores))[:_MOST_CAPTIONS].tolist())
    exchanged = exchanges(pairs, words, chosen, drawn, draws)
    needed, sufficient = effects(*losses_of_words(model, pairs, exchanged, finished))

    weights = cells.weights[group.chosen]
    return WordPart(
        number=1,
        share=float(weights.sum() / cells.weights.sum()),
        captions=len(scores),
        words=_words(pairs, words, scores),
        stability=group.stability,
        on_names=None if group.on_objects is None else float(group.on_objects),
        needed=needed,
        sufficient=sufficient,
        examples=_examples(pairs, words, chosen, scores, exchanged),
    )


def _words(
    pairs: Sequence[Pair], words: Sequence[CaptionWords], scores: Mapping[int, np.ndarray]
) -> tuple[WordOfPart, ...]:
    """Return the words of a part with the largest shares of its score."""
    by_word: dict[str, list[float]] = {}
    for item, of_caption in scores.items():
        for place in np.flatnonzero(of_caption).tolist():
            by_word.setdefault(words[item].texts[place].lower(), []).append(float(of_caption[place]))

    total = sum(map(sum, by_word.values()))
    rows = [WordOfPart(word, sum(values) / total, len(values)) for word, values in by_word.items()]
    return tuple(sorted(rows, key=lambda row: (-row.share, row.word))[:_MOST_WORDS])


def _examples(
    pairs: Sequence[Pair],
    words: Sequence[CaptionWords],
    chosen: Sequence[np.ndarray],
    scores: Mapping[int, np.ndarray],
    exchanged: Mapping[int, Exchanged],
) -> tuple[CaptionOfPart, ...]:
    """Return the captions in which the part has the largest shares."""
    shares = {item: float(of_caption.sum()) for item, of_caption in scores.items()}
    by_share = sorted((item for item in shares if item in exchanged), key=lambda item: (-shares[item], item))
    return tuple(
        CaptionOfPart(
            pair=item,
            caption=pairs[item].caption,
            spans=tuple(span for span, is_in in zip(words[item].spans, chosen[item], strict=True) if span and is_in),
            share=shares[item],
            exchanged=exchanged[item].of_part,
            other=exchanged[item].of_all,
        )
        for item in by_share[:_MOST_EXAMPLES]
    )


def _notes(words: Sequence[CaptionWords], cells: Cells, parts: Sequence[WordPart]) -> Iterator[str]:
    """Yield warnings about the data and the parts."""
    unknown = sum(of_caption.named is None for of_caption in words)
    if unknown:
        yield (
            f"in {unknown} of {len(words)} captions, the words that name objects are not known, so their parts have no "
            "verdict: look at their words"
        )

    silent = len(words) - len(np.unique(cells.images))
    yield from shared_notes(parts, silent, len(words), "captions")
