"""Checks of the map of one image: other weights, another caption, removal of its top region, the places of its nouns.

They use what the audit uses, on one pair: a map that fails should not be trusted, and a map that passes may be wrong.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from nibt.core.perturbation import masker
from nibt.data.images import ImageSource, sample_captions
from nibt.data.pair import Caption, Pair
from nibt.data.units import Grid
from nibt.engine.batches import trace_sides
from nibt.engine.encode import encode
from nibt.engine.explain import explain
from nibt.engine.spec import Request, resolve
from nibt.evaluation.audit.checks import BOUNDS
from nibt.evaluation.audit.randomization import randomized
from nibt.evaluation.maps import maps, spearman, without_mean_states
from nibt.evaluation.vocabulary import WORDING
from nibt.methods.base import Method
from nibt.models._labels import ClassNamesTower
from nibt.models._loading import ModelSource, load_model
from nibt.models.base import Model
from nibt.preprocessing.captions import FUNCTION_WORDS, NOUNS
from nibt.registry import MethodSpec
from nibt.results.check import Check
from nibt.results.explanation import Explanation
from nibt.results.notes import CHECKS_ARE_NO_MATCH, NO_MATCH, NO_REACTION, NOISE, WEAK_MATCH, Note, note_fields
from nibt.torch_modes import plain_torch

_SEED = 0
_SHARE = 0.1
_REGIONS = 16
_TOGETHER = 4  # masks; more hardly save time
_OF_PHOTOS = ("photo", "picture", "image", "photograph")
_NOT_A_MATCH = "it does not show that the image has what the caption names, which the model does not find here"
_LIMITS = {
    NO_MATCH: _NOT_A_MATCH,
    WEAK_MATCH: _NOT_A_MATCH,
    NOISE: "noise that depends on the model and on the caption passes, too, so this map still shows nothing",
    NO_REACTION: "noise that depends on the model and on the caption passes, too, so this map still shows nothing",
}
"""What passing checks do not show of a pair, by the code of its gravest note."""
_CHANGES = {"pass": "is different", "warn": "is similar", "fail": "is almost the same"}

_ENOUGH = {"pass": "as expected", "warn": "at least 90 % are expected", "fail": "no more than by chance"}


@plain_torch()
def check(
    model: ModelSource,
    image: ImageSource | Sequence[ImageSource],
    caption: str | Caption | Sequence[str | Caption],
    method: str | MethodSpec | Method = "nib",
    *,
    variant: str | None = None,
    batch_size: int = 8,
    seed: int | None = None,
    **options: Any,
) -> Explanation | list[Explanation]:
    """Explain images with captions, and test each map of an image with three or four checks.

    A map must differ from the map of a copy of the model whose weights are shuffled. It must also differ from the map
    for an unrelated caption: the caption of a sample image that is least similar to the image. Removal of the top tenth
    of the map must lower the similarity more than removal of a region of the same shape elsewhere. If the caption has
    an everyday noun and another content word, the map must also be positive where the map of each everyday noun alone
    is highest.

    The checks need about two further explanations, one for each noun, 17 forward passes and a copy of the model. The
    model itself is not changed. Use ``audit`` to test a model.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        image: An image or a list of images, as in ``explain``.
        caption: A caption or a list of captions.
        method: The method, as in ``explain``.
        variant: A variant of the method; None means that of its text, or ``default``.
        batch_size: The largest number of pairs that go through the model together.
        seed: A seed for methods that draw at random.
        **options: Options of the method. The target is the cosine.

    Returns:
        What ``explain`` returns; each explanation has its three or four ``checks``.

    Raises:
        NibtError: As ``explain``.

    Examples:
        >>> explanation = check("scenes", "sample:scene", "a cat")
        >>> [(check.name, check.verdict) for check in explanation.checks]
        [('weights', 'pass'), ('mismatch_image', 'pass'), ('top_region', 'pass')]
    """
    model = load_model(model)
    model.image.check_states("--check (nibt.check), which compares the map with that of random weights,")
    spec = MethodSpec.of(method, variant, options, seed)
    explained = explain(model, image, caption, spec, batch_size=batch_size, seed=seed)
    if isinstance(explained, Explanation):
        return with_checks(model, explained, spec, seed)
    return [with_checks(model, explanation, spec, seed) for explanation in explained]


@plain_torch()
def with_checks(model: Model, explanation: Explanation, method: MethodSpec, seed: int | None = None) -> Explanation:
    """Return a new explanation of the cosine with its checks."""
    assert explanation.image.input is not None, "a new explanation has its image"
    pair = Pair(explanation.image.input, explanation.caption)
    computed = explanation.grid.double().numpy()
    adapted = without_mean_states(model, method, "image")  # mean states are not valid for random weights
    before = computed if adapted == method else maps(model, [pair], method=adapted, side="image", seed=seed)[0].scores
    random = maps(randomized(model, pair, _SEED), [pair], method=adapted, side="image", seed=seed)[0].scores
    nouns = [] if model.is_classifier else _nouns(pair.caption)  # the name of a class is one unit
    unrelated = _unrelated(model, pair, nouns)
    changed = maps(model, [Pair(pair.image, unrelated)], method=method, side="image", seed=seed)[0].scores
    checks = (
        _similarity("weights", "with random weights, the map", method=method, computed=before, changed=random),
        _similarity("mismatch_image", f"for “{unrelated}”, the map", method=method, computed=computed, changed=changed),
        _region(model, pair, method=method, seed=seed, computed=computed),
        *_noun_places(model, pair, nouns=nouns, method=method, seed=seed, computed=computed),
    )
    return replace(explanation, checks=checks, **note_fields(_with_limit(explanation.notes, checks)))


def _unrelated(model: Model, pair: Pair, nouns: Sequence[str]) -> str:
    """Return the caption of a sample without these nouns, or the class of a classifier, that fits an image least."""
    image = encode(model.image, [pair.image]).float()
    if isinstance(model.text, ClassNamesTower):
        logits = image.flatten()
        logits[model.text.number(pair.caption)] = torch.inf
        return model.text.text_of(int(logits.argmin()))

    captions = [caption for caption in sample_captions().values() if not {*nouns} & {*_nouns(caption)}]
    texts = encode(model.text, captions).float()
    return captions[int(model.similarity.to_each(image, texts)[0].argmin())]


def _with_limit(notes: Sequence[Note], checks: Sequence[Check]) -> Iterator[Note]:
    """Yield the notes of an explanation, and after the gravest, what passing checks do not show of such a pair.

    The checks compare maps, so those of an image that does not show what the caption names may pass all of them.
    """
    is_new = any(check.verdict == "pass" for check in checks)
    for note in notes:
        yield note
        is_of_map = note.code in _LIMITS and note.side in ("", "image")
        if is_new and is_of_map:
            yield Note(CHECKS_ARE_NO_MATCH, f"a check that passes compares maps of this pair: {_LIMITS[note.code]}")
            is_new = False


def _similarity(name: str, subject: str, method: MethodSpec, computed: np.ndarray, changed: np.ndarray) -> Check:
    """Return the check of the rank correlation of two maps."""
    value = spearman(computed, changed)
    result = _check(name, method, 0.0 if np.isnan(value) else value)  # fewer than three cells
    return replace(result, about=f"{subject} {_CHANGES[result.verdict]} (rank correlation {value:.2f})")


def _region(model: Model, pair: Pair, method: MethodSpec, seed: int | None, computed: np.ndarray) -> Check:
    """Compare the removal of the top cells with that of cells of the same shape, moved with wraparound."""
    side = trace_sides(resolve(model, Request(method, seed=seed)), [pair])[0]
    cells = torch.from_numpy(computed)
    count = max(1, round(_SHARE * cells.numel()))
    top = torch.zeros(cells.numel(), dtype=torch.float32)
    top[cells.flatten().argsort(descending=True, stable=True)[:count]] = 1
    places = 1 + np.random.default_rng(_SEED).choice(cells.numel() - 1, min(_REGIONS, cells.numel() - 1), replace=False)
    moves = [(0, 0), *(divmod(int(place), cells.shape[1]) for place in places)]
    removed = torch.stack([top.view(cells.shape).roll(move, (0, 1)).flatten() for move in moves])[:, None]
    embed = masker(side, Grid(*cells.shape))
    scores = torch.cat([embed(keep)[:, 0] for keep in (1 - removed).to(side.tower.example.device).split(_TOGETHER)])
    first, *drops = (side.value()[0] - scores).tolist()
    lower = sum((drop < first) + 0.5 * (drop == first) for drop in drops)
    result = _check("top_region", method, lower / len(drops))
    enough = _ENOUGH[result.verdict]
    about = (
        f"removing the top tenth of the map changes the similarity by {-first:+.3f}, removing another region of this "
        f"shape by {-np.mean(drops):+.3f} on average; {lower:g} of {len(drops)} lower it less ({enough})"
    )
    return replace(result, about=about)


def _noun_places(
    model: Model, pair: Pair, nouns: Sequence[str], method: MethodSpec, seed: int | None, computed: np.ndarray
) -> Iterator[Check]:
    """Yield the check of the places of the caption's nouns, which names each that fails; nothing without a noun.

    Of two things that a caption names, one may take all of the score: the map of the caption is then not positive where
    the other one is. On 40 photographs, 8 of 19 nouns whose objects have a sum of at most 0 fail, and 3 of 79 other
    nouns (``benchmarks/noun_places.py``).
    """
    others = {word.lower() for word in re.findall(r"\w+", pair.caption)} - {*FUNCTION_WORDS, *nouns, *_OF_PHOTOS}
    if len(nouns) == 1 and not others:  # the caption is that of the noun alone
        return

    positive = float(computed.clip(0).sum())
    if not nouns or not positive:
        return

    alone = maps(
        model, [Pair(pair.image, WORDING.format(noun)) for noun in nouns], method=method, side="image", seed=seed
    )
    count = max(1, round(_SHARE * computed.size))
    shares = {}
    for noun, of_noun in zip(nouns, alone, strict=True):
        top = np.argsort(-of_noun.scores, axis=None, kind="stable")[:count]
        shares[noun] = float(computed.ravel()[top].sum()) / positive

    result = _check("noun_places", method, min(shares.values()))
    failing = {noun: share for noun, share in shares.items() if _check("noun_places", method, share).verdict != "pass"}
    named = failing or {min(shares, key=shares.__getitem__): result.value}
    nouns_named = " and ".join(f"“{noun}”" for noun in named)
    shares_named = " and ".join(f"{share:+.0%}" for share in named.values())
    verdict = (
        "the map of the caption does not show " + ("them" if len(named) > 1 else "it") if failing else "as expected"
    )
    about = (
        f"where the map for {nouns_named} alone is highest, in a tenth of the image, the map has {shares_named} of its "
        f"positive score ({verdict})"
    )
    yield replace(result, about=about)


def _nouns(caption: str) -> list[str]:
    """Return the everyday nouns of a caption, in the singular."""
    words = dict.fromkeys(word.lower() for word in re.findall(r"\w+", caption))
    return [word if word in NOUNS else word[:-1] for word in words if word in NOUNS or word.removesuffix("s") in NOUNS]


def _check(name: str, method: MethodSpec, value: float) -> Check:
    bound = BOUNDS[name]
    return Check(
        name=name,
        question=bound.question,
        method=str(method),
        side="image",
        value=value,
        low=value,
        high=value,
        count=1,
        better=bound.better,
        passes=bound.passes,
        fails=bound.fails,
        about=bound.about,
    )
