"""Building of explanations and comparisons, with their warnings, from explained batches."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F

from nibt.core.side import Side
from nibt.data.images import ImageInput, read_image, sample_captions
from nibt.data.pair import NOUNS, modality, side_title
from nibt.engine.batches import ExplainedBatch
from nibt.engine.encode import encode
from nibt.engine.reactions import NEAR_BLANK, reactions, word_notes
from nibt.engine.spec import ExplanationSpec, versions
from nibt.engine.targets import IMAGE_AND_TEXT
from nibt.errors import Unsupported
from nibt.models.base import Model
from nibt.records import JsonObject
from nibt.results import notes as codes
from nibt.results.attribution import (
    ImageAttribution,
    SideAttribution,
    TextAttribution,
    estimate_note,
    image_fields,
    percent,
)
from nibt.results.explanation import MISMATCH, NEGLIGIBLE, NO_REACTION, WEAK, Explanation
from nibt.results.notes import AGAINST, NO_MATCH, NOISE, SCORES, WEAK_MATCH, Note, note_fields, prefixed
from nibt.results.records import ExplainedTargetRecord
from nibt.targets.base import ClassLogit, Score
from nibt.torch_modes import plain_torch
from nibt.types import Embedding, OtherEmbedding

MARGIN = 0.5
"""The least difference between two logits (cosines times the model's scale), chosen by ``benchmarks/mismatch.py``.

At this difference, a softmax over both prefers the blank input by 1.65 to 1.
"""
NOISE_SHARE = 0.1
"""The share of the model's usual change of the score below which the scores of a map are noise."""
WEAK_SHARE = 0.25
"""The share of the model's usual change of the similarity below which a match is weak."""
_UNITS = {"one": 1.0, "some": 0.5}
"""By how much a score that compares with others changes at most if a similarity changes by 1: a difference of two
similarities by 1; a probability or a centered similarity, which have a smaller range, by about half.
"""
CLEAR = 10.0
"""The difference of logits to a blank image from which a match is never weak, so that nothing has to be measured."""
LARGE_GAP = 0.15  # of the change of the score
PADDING_SHARE = 0.05  # of the absolute scores of a map
_FLAT = 1e-7  # scores within a smaller range differ only by rounding


def mismatches(image: Side, text: Side) -> Iterator[Note | None]:
    """Yield a note for each pair that the model rates as a weak or no match or cannot rate; None for the others.

    The rules compare logits and embeddings of whole captions, so models without them get no warnings.
    """
    model: Model = image.model  # pyright: ignore
    if not model.has_logits:
        yield from (None for _ in image.trace.inputs.values)
        return

    compare = model.similarity
    images = image.trace.embedding.float()
    captions = text.trace.embedding.float()
    similarities = compare(images, captions)
    with_blank_caption = compare(images, text.blank().float())
    with_blank_image = compare.swapped()(captions, _reference_embeddings(model, "blank").float())

    measured = (reactions(text), similarities, with_blank_caption, with_blank_image)
    for of_pair in zip(*(values.tolist() for values in measured), strict=True):
        yield _mismatch(model, *of_pair)


def _mismatch(
    model: Model, reaction: float, similarity: float, blank_caption: float, blank_image: float
) -> Note | None:
    """Return the note on a pair whose similarity says that it is a weak or no match, or says nothing."""
    if reaction < NEAR_BLANK:
        with_blank = f"(similarity {similarity:z.4f}; with a blank caption {blank_caption:z.4f})"
        return Note(codes.NO_REACTION, f"{NO_REACTION} {with_blank}: the map is noise")

    margin = MARGIN / model.scale
    lower = []
    if similarity < blank_caption - margin:
        lower.append(f"with the blank caption {blank_caption:z.3f}")
    if similarity < blank_image - margin:
        lower.append(f"with the blank image {blank_image:z.3f}")
    if lower:
        return Note(NO_MATCH, f"{MISMATCH} (similarity {similarity:z.3f}; {', '.join(lower)})")

    change = similarity - blank_image
    return None if model.scale * change >= CLEAR else _weak(model, change)


def _weak(model: Model, change: float) -> Note | None:
    """Return the note on a similarity that is little above that of a blank image; None for others.

    A model that does not rate the samples of the package as matches, as one for X-rays may not, has no usual change.
    """
    usual = usual_change(model)
    if model.scale * usual < 2 * MARGIN or change >= WEAK_SHARE * usual:
        return None
    if change <= 0:
        return Note(WEAK_MATCH, f"{WEAK} the similarity is not above that with a blank image")

    share = f"{100 * change / usual:.2g} % of what a match usually adds with this model"
    return Note(WEAK_MATCH, f"{WEAK} the similarity is {change:.3g} above that with a blank image, {share}")


def usual_change(model: Model) -> float:
    """Return by how much the similarity of a match usually exceeds that of a blank image with the caption.

    It is the median over the samples of the package, which embedded models store.
    """
    if "usual_change" in model.defaults:
        return model.defaults["usual_change"]
    if model.is_classifier:
        return _usual_change_of_class(model)

    compare = model.similarity
    image, text, blank = (_reference_embeddings(model, name).float() for name in ("image", "text", "blank"))
    return float((compare(image, text) - compare.swapped()(text, blank)).quantile(0.5))


def _usual_change_of_class(model: Model) -> float:
    """Return by how much the logit of the class of an image usually exceeds that of a blank image."""
    logits, blank = (_reference_embeddings(model, name).float().squeeze(-2) for name in ("image", "blank"))
    top = logits.argmax(-1, keepdim=True)
    return float((logits - blank).gather(-1, top).quantile(0.5))


def negligible(
    spec: ExplanationSpec, embeddings: Sequence[OtherEmbedding], sides: Sequence[SideAttribution]
) -> Iterator[Note]:
    """Yield a note for each side whose map is noise: it explains a negligible change of the score.

    It is negligible if it is less than ``NOISE_SHARE`` of the model's usual change of the score, which is measured only
    if the change is below that share of the largest one that is possible. Scores in units of the score explain a change
    of the sum of their absolute values. Of the other scores, only a bound is known, for the difference of two inputs:
    the distance of their embeddings. ``embeddings`` are those of the two sides of the pair.
    """
    if spec.model.is_fused:  # whose usual change would take many passes of the model
        return

    for place, (name, side) in enumerate(zip(spec.side_names, sides, strict=True)):
        score = spec.scores[side.modality]
        compares = score.target.others if place < 2 else "none"  # what the pair is compared with has a cosine alone
        in_units = side.path is not None or type(spec.methods[side.modality]).linear
        if in_units:
            total = float((side.scores if isinstance(side, TextAttribution) else side.grid).abs().sum())
        elif compares == "one" and spec.model.similarity.item_ndim == 1:
            # for any unit embedding u of this side, u . v - u . w is at most the distance of v and w
            assert score.others is not None
            partner = F.normalize(embeddings[1 - place].float(), dim=-1)
            total = float((partner - F.normalize(score.others.float(), dim=-1)).norm())
        else:
            continue

        usual = _usual_if_noise(spec.model, score, compares, total, caption=embeddings[1])
        if usual is None:
            continue

        share = f"{100 * total / usual:.2g} % of what this model usually gives to a match"
        title = side_title(name, side.modality)
        if name == AGAINST:  # which usually matches less than the pair
            yield Note(NOISE, f"the scores of the {title} are noise: their absolute values add up to {share}", name)
            continue

        text = f"the absolute scores of the {title} add up to {share}"
        if not in_units:
            text = f"the difference is nowhere more than {share}"
        if compares == "one":
            text += f"; the model hardly distinguishes the two {_compared_noun(spec, side)}s"
        yield Note(NOISE, f"{NEGLIGIBLE} {text}", name)


def _usual_if_noise(model: Model, score: Score, compares: str, total: float, caption: Embedding) -> float | None:
    """Return the model's usual change of a score if a total is negligible beside it; else None."""
    if compares in _UNITS:
        unit = _UNITS[compares]
        largest = unit
    else:
        unit, largest = _changes(model, score, caption)

    if total >= NOISE_SHARE * largest:
        return None

    usual = abs(usual_change(model) * unit)
    return None if total >= NOISE_SHARE * usual else usual


def _compared_noun(spec: ExplanationSpec, side: SideAttribution) -> str:
    """Return what the target ``difference`` compares: the other side of a pair, or of two alike, this one."""
    if len(set(spec.modalities)) == 1:
        return NOUNS[side.modality]
    return NOUNS["text" if side.modality == "image" else "image"]


def _changes(model: Model, score: Score, caption: Embedding) -> tuple[float, float]:
    """Return by how much a score changes if the similarity changes by 1, and half of its largest possible change."""
    caption = caption.detach().float()
    score = replace(score, similarity=model.similarity, other=caption)  # from the image, on both sides

    # an image could match the caption at most as the caption itself, and at least as its opposite
    ends = [(score(end), model.similarity(end, caption)) for end in (caption, -caption)]
    scores, similarities = (float(high - low) for high, low in zip(*ends, strict=True))
    return abs(scores / similarities), abs(scores) / 2


def _reference_embeddings(model: Model, name: str) -> Embedding:
    """Return the embeddings of a blank image, or of the package's images or captions, computed once per model."""
    key = f"embeddings of {name}"
    if key in model.kept:
        return model.kept[key]

    samples = sample_captions()
    if name == "blank":
        embeddings = model.image.encode(model.image.empty_inputs())  # it is square, which serves all image sizes
    elif name == "text":
        embeddings = encode(model.text, list(samples.values()))
    else:
        embeddings = encode(model.image, [read_image(f"sample:{sample}") for sample in samples])

    model.kept[key] = embeddings
    return embeddings


@plain_torch()
def to_explanations(spec: ExplanationSpec, batch: ExplainedBatch) -> list[Explanation]:
    """Return the explanations of a batch whose two sides were explained."""
    with torch.no_grad():
        values = [side.score(side.trace.embedding).tolist() for side in batch.sides]
    similarities = _similarities(spec, batch)
    matches: list[Note | None] = [None] * len(similarities)
    if spec.modalities == IMAGE_AND_TEXT:
        matches = list(mismatches(*batch.sides[:2]))

    explanations = []
    for index, match in enumerate(matches):
        sides = _attributed_sides(spec, batch, index)
        box = _box(spec, batch, index)
        explanations.append(
            Explanation(
                dict(zip(spec.side_names, sides, strict=True)),
                similarity=similarities[index],
                target=_target_record(spec, sides, [of_side[index] for of_side in values], box),
                method=spec.record["method"],
                model=spec.model.record(),
                versions=dict(versions()),
                **note_fields(_notes(spec, batch, index, sides, match, box)),
            )
        )

    return explanations


def _similarities(spec: ExplanationSpec, batch: ExplainedBatch) -> list[float]:
    """Return the similarity of each pair, as seen from the first side."""
    similarity = spec.scores[spec.modalities[0]].similarity
    similarities = similarity(batch.sides[0].trace.embedding, batch.sides[1].trace.embedding).tolist()
    total = sum(similarities)
    if not math.isfinite(total):
        raise Unsupported(
            f"the model must give finite similarities (got {total}): check its weights, or load it in float32"
        )
    return similarities


def _attributed_sides(spec: ExplanationSpec, batch: ExplainedBatch, index: int) -> list[SideAttribution]:
    """Return the sides of the result of a pair: its own two, and what it is compared with, if that is explained."""
    items = [*batch.pairs[index].items]
    if spec.against is not None:
        items.append(spec.against)
    return [_side(item, batch, position, index) for position, item in enumerate(items)]


def _box(spec: ExplanationSpec, batch: ExplainedBatch, index: int) -> JsonObject:
    """Return the box of a detector whose score is explained, in pixels of the image; nothing for other models."""
    image, text = (side.trace.embedding[index] for side in batch.sides[:2])
    box = spec.model.similarity.chosen_box(image, text)
    return {} if box is None else {"box": [round(side, 1) for side in box]}


def _target_record(
    spec: ExplanationSpec, sides: Sequence[SideAttribution], values: Sequence[float], box: JsonObject
) -> ExplainedTargetRecord:
    """Return the target of a result, with the target and the value of each side, and the box of a detector."""
    request = spec.record["target"]
    request = {**request, "options": {**request["options"], **box}}
    targets = [spec.scores[side.modality].target.name for side in sides]
    of_request = values[targets.index(request["name"])]
    by_side = {
        name: {"name": target, "value": value}
        for name, target, value in zip(spec.side_names, targets, values, strict=True)
    }
    return cast(ExplainedTargetRecord, {**request, "value": of_request, **by_side})


def _notes(
    spec: ExplanationSpec,
    batch: ExplainedBatch,
    index: int,
    sides: Sequence[SideAttribution],
    match: Note | None,
    box: JsonObject,
) -> list[Note | str]:
    """Return the notes of a result, in the order in which they are shown."""
    prefixes = _prefixes(spec)

    # pairs are always rated against a blank image, which readers would take for the start of the scores
    path = sides[0].path
    if match and "blank image" in match.text and path is not None and path.baseline != "blank":
        text = f"{match.text}; the scores of the image start from another baseline, {path.baseline}"
        match = replace(match, text=text)

    notes: list[Note | str] = [] if match is None else [match]
    notes += _class_notes(spec, batch, index)
    if box:
        corners = "from ({:.0f}, {:.0f}) to ({:.0f}, {:.0f})".format(*box["box"])
        notes.append(f"the score is that of one box, {corners} in pixels of the image")
    notes += [*spec.warnings, *batch.pairs[index].notes]
    for prefix, side in zip(prefixes, batch.sides, strict=True):
        notes += prefixed(prefix, side.trace.inputs.notes[index])

    notes += [*_gaps(spec, sides), *_flat_maps(spec, sides), *_padding(spec, sides), *_opposite(spec, sides)]
    notes += _estimates(spec, sides)
    for prefix, attribution in zip(prefixes, batch.attributions, strict=True):
        if attribution is not None and attribution.notes:
            notes += prefixed(prefix, attribution.notes[index])

    if match is not None and match.code == codes.NO_REACTION:  # it says that the map is noise
        return notes

    embeddings = [side.trace.embedding[[index]].detach() for side in batch.sides[:2]]
    noise = list(negligible(spec, embeddings, sides))
    notes += noise

    for prefix, of_words in _notes_on_words(spec, batch, index, sides, is_noise=bool(noise)):
        notes += prefixed(prefix, [note for note in of_words if note not in notes])
    return notes


def _class_notes(spec: ExplanationSpec, batch: ExplainedBatch, index: int) -> Iterator[Note]:
    """Yield the notes on a class of a classifier: that it is one unit, and which class the model chooses instead."""
    compare = spec.model.similarity
    if not isinstance(compare, ClassLogit):
        return

    image, text = (side.trace.embedding[index].detach().float() for side in batch.sides[:2])
    name = batch.sides[1].inputs.words[index].tokens[0][0]  # pyright: ignore
    yield Note(codes.CLASS, f"the text is the class {name!r} of a classifier: one unit, whose score is its whole logit")

    best = int(image.argmax())
    if bool(text.flatten()[best]):
        return

    logits = torch.stack([image.flatten()[best], compare(image, text)])
    chosen, own = compare.log_probability(image, logits).exp().tolist()
    names = spec.model.text.class_names  # pyright: ignore
    yield Note(
        codes.OTHER_CLASS,
        f"the model chooses another class, {names[best]!r} (probability {chosen:.2g}; {name!r} {own:.2g})",
    )


def _notes_on_words(
    spec: ExplanationSpec, batch: ExplainedBatch, index: int, sides: Sequence[SideAttribution], is_noise: bool
) -> Iterator[tuple[str, list[Note]]]:
    """Yield the notes on the words of each caption of a result, and what their texts begin with."""
    if spec.model.is_classifier:
        return

    # the sign of a word says something only of the one score that both sides explain
    is_one_score = spec.modalities == IMAGE_AND_TEXT and len({score.target.name for score in spec.scores.values()}) == 1
    for prefix, side, scores in zip(_prefixes(spec), batch.sides, sides, strict=True):
        if not isinstance(scores, TextAttribution):
            continue

        method = type(spec.methods["text"])
        of_words = word_notes(
            side,
            index,
            scores.words,
            in_units=scores.path is not None or method.linear,
            signs=is_one_score and not is_noise and method.signed,
        )
        yield prefix, list(of_words)


def _prefixes(spec: ExplanationSpec) -> list[str]:
    """Return what tells the notes of the sides apart, where a result does not have an image and a caption."""
    prefixes = ["" if name in IMAGE_AND_TEXT else f"{name}: " for name in spec.side_names]
    if spec.against is not None:
        prefixes[-1] = f"{side_title('against', modality(spec.against))}: "
    return prefixes


def _side(item: ImageInput | str, batch: ExplainedBatch, position: int, index: int) -> SideAttribution:
    attributions = batch.attributions[position]
    assert attributions is not None
    attribution = attributions[index].to("cpu")
    if isinstance(item, str):
        return TextAttribution.of(attribution, item)
    region = batch.sides[position].trace.inputs.regions[index]
    return ImageAttribution.of(attribution, region=region, **image_fields(item))


def _gaps(spec: ExplanationSpec, sides: Sequence[SideAttribution]) -> Iterator[Note]:
    """Yield a note for each side whose scores do not add up to the change of the score, as far as they should."""
    for name, side in zip(spec.side_names, sides, strict=True):
        title = side_title(name, side.modality)
        path = side.path
        if path is None:
            continue

        change, total, special = (
            float(value) for value in (path.at_input - path.at_baseline, path.sum, path.special_tokens)
        )
        gap = change - total
        if path.tolerance is not None and path.missed:
            share = f" ({abs(gap - special) / abs(change):.2g} of the change of the score)" if change else ""
            text = (
                f"the scores of all tokens of the {title}, special tokens included, miss the change of the score "
                f"by {abs(gap - special):.2g}{share}, which is above the tolerance after {int(path.steps)} steps"
            )
            yield Note(SCORES, text, name)

        large = abs(gap) > LARGE_GAP * max(abs(change), 0.01)  # of almost no change, any gap is a large share
        if large and 2 * abs(special) > abs(gap):
            options = vars(spec.methods[side.modality])
            remedy = "compare scores with each other"
            if "distribute" in options and options["noise"] == "none":  # which divides them among the units
                remedy = f"set distribute=true{' and baseline=blank' * (options['baseline'] != 'blank')}"
            text = (
                f"the scores of the {title} show {total:+.3g} of the change of the score ({change:+.3g}), and "
                f"special tokens have {special:+.3g}: {remedy}"
            )
            yield Note(SCORES, text, name)
        elif large or (path.quadrature == "late" and path.tolerance is None):  # which adds up only by chance
            factor = f", {total / change:.2g} times the change" if change else ""
            text = (
                f"the scores of the {title} are relative: they add up to {total:+.3g}{factor} of the score "
                f"({change:+.3g}); compare them with each other{', or set a tolerance' * (path.tolerance is None)}"
            )
            yield Note(SCORES, text, name)


def _opposite(spec: ExplanationSpec, sides: Sequence[SideAttribution]) -> Iterator[Note]:
    """Yield a note for each map of a difference that has another sign than the difference, which the baseline has."""
    for name, side in zip(spec.side_names, sides, strict=True):
        title = side_title(name, side.modality)
        path = side.path
        if path is None or spec.scores[side.modality].target.name != "difference":
            continue

        score = float(path.at_input)
        baseline = float(path.at_baseline)
        change = score - baseline
        if score * change < 0 and abs(change) > abs(score):
            yield Note(
                "baseline_decides",
                f"the difference of the {title} ({score:+.4f}) comes from the baseline ({baseline:+.4f}): the "
                f"scores show what changes it by {change:+.4f}, the other way",
                name,
            )


def _padding(spec: ExplanationSpec, sides: Sequence[SideAttribution]) -> Iterator[Note]:
    """Yield a note for each image of which a part of the map is on the padding around it."""
    for name, side in zip(spec.side_names, sides, strict=True):
        title = side_title(name, side.modality)
        if not isinstance(side, ImageAttribution):
            continue

        share = side.outside_share
        if share >= PADDING_SHARE:
            text = f"{percent(share)} of the absolute scores of the {title} are on padding outside of the image"
            yield Note("padding", f"{text}, which the model sees and the map does not show")


def _estimates(spec: ExplanationSpec, sides: Sequence[SideAttribution]) -> Iterator[Note]:
    """Yield a note for each side whose scores are estimated from random draws."""
    for name, side in zip(spec.side_names, sides, strict=True):
        note = estimate_note(f"scores of the {side_title(name, side.modality)}", side)
        if note is not None:
            yield replace(note, side=name)


def _flat_maps(spec: ExplanationSpec, sides: Sequence[SideAttribution]) -> Iterator[Note]:
    """Yield a note for each map that gives every unit the same score."""
    for name, side in zip(spec.side_names, sides, strict=True):
        title = side_title(name, side.modality)
        words = isinstance(side, TextAttribution)
        scores = [word.score for word in side.words] if words else side.grid.flatten().tolist()
        if len(scores) > 1 and max(scores) - min(scores) <= _FLAT:
            method = spec.record["method"]["name"]
            score = scores[0]
            removal = spec.methods[side.modality].amounts == "removal"
            scaled = ", without a region to remove," if removal else ""
            text = f"the map of the {title} is flat: {method}{scaled} gives every unit the score {score:.3g}"
            yield Note(SCORES, text, name)
