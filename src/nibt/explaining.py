"""Where the parts first meet: from a model and pairs to explanations.

``explain`` resolves what is left open (layers, fallbacks), groups pairs that may share a batch, and asks the method
for both sides of each. The rest of the house is called from here and knows nothing of it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import nn

from nibt.attribution import Attribution
from nibt.errors import BadInput, BadOption
from nibt.explanation import Explanation, Ranked
from nibt.loading import load_model
from nibt.models.base import Model
from nibt.pair import Pair, PictureSource, paired, read_caption, read_picture
from nibt.question import Contrast, Question, ask, batches, encode
from nibt.registry import find
from nibt.sides import sides


def explain(
    model: Model | str | Path | nn.Module,
    image: PictureSource | Sequence[PictureSource],
    caption: str | Sequence[str],
    method: str = "nib",
    target: str = "cosine",
    *,
    variant: str = "default",
    against: str | Sequence[str] = (),
    against_images: PictureSource | Sequence[PictureSource] = (),
    templates: Sequence[str] = (),
    batch_size: int = 8,
    seed: int | None = None,
    sample: Sequence[Pair] | None = None,
    on_done: Callable[[], None] = lambda: None,
    **options: Any,
) -> Explanation | list[Explanation]:
    """Explain which parts of an image, and which words of a caption, make the model think that they belong together.

    A list of images with a list of captions of the same length are pairs; a list of one kind goes with the single
    one of the other. A list gives a list. Options of the method hold for both sides (``steps=8``) or one
    (``image_layer=6``, ``text_layer=0``); ``layer="auto"`` chooses by deletion on ``sample``, or on the pictures
    that ship with the package. ``along_path=True`` averages a method of one gradient (``grad_cam``) along NIB's path,
    and gives it the path's options. Captions in ``against`` serve the image side of a target that contrasts, pictures
    in ``against_images`` the text side.

    Raises:
        BadInput: a picture or a caption cannot be read, or lists differ in length.
        UnknownName: no method, target, variant or option has that name.
        BadOption: an option cannot have that value.
        CannotLoad: the model cannot be loaded.

    >>> answer = explain("lite", "sample:chelsea", "a cat")
    >>> round(answer.similarity, 1) > 0.1, answer.image.grid.shape == tuple(answer.to_json()["image"]["grid"])
    (True, True)
    """
    if batch_size < 1:
        raise BadOption(f"batch_size must be at least 1 (got {batch_size})")
    for kind, name in (("methods", method), ("targets", target)):
        find(kind, name)  # names are checked before a model is loaded
    model = load_model(model)
    pairs, many = paired(image, caption)
    question = ask(
        model, method, target, variant, Contrast.read(against, against_images, templates), sample, seed, options
    )
    answers = _answers(question, pairs, batch_size, on_done)
    return answers if many else answers[0]


def rank(model: Model | str | Path | nn.Module, image: PictureSource, labels: Sequence[str]) -> list[Ranked]:
    """Labels from best to worst: zero-shot classification.

    Raises:
        BadInput: there are fewer than two labels, or one is blank.

    """
    if len(labels) < 2:
        raise BadInput(f"give at least two labels to rank (got {len(labels)})")
    model = load_model(model)
    texts = F.normalize(encode(model.text, [read_caption(label) for label in labels]), dim=-1)
    picture = F.normalize(encode(model.image, [read_picture(image)]), dim=-1)
    cosines = (texts @ picture[0]).float()
    shares = (model.scale * cosines).softmax(0)
    order = cosines.argsort(descending=True, stable=True).tolist()
    return [Ranked(str(labels[index]), float(cosines[index]), float(shares[index])) for index in order]


def explain_labels(
    model: Model | str | Path | nn.Module,
    image: PictureSource,
    labels: Sequence[str],
    method: str = "nib",
    **options: Any,
) -> Explanation:
    """The zero-shot view: labels are ranked, and the first is explained against the second.

    Raises:
        BadInput: there are fewer than two labels, or one is blank.

    """
    if isinstance(labels, str):
        raise BadInput("labels must be a list of texts (got one text)")
    model, picture = load_model(model), read_picture(image)
    ranking = rank(model, picture, labels)
    answer = explain(model, picture, ranking[0].label, method, "difference", against=ranking[1].label, **options)
    assert isinstance(answer, Explanation)
    return replace(answer, ranking=tuple(ranking))


def _answers(question: Question, pairs: list[Pair], size: int, on_done: Callable[[], None]) -> list[Explanation]:
    found: dict[int, Explanation] = {}
    for indices in batches([question.model.image.group(pair.picture) for pair in pairs], size):
        found |= dict(zip(indices, _batch(question, [pairs[index] for index in indices]), strict=True))
        for _ in indices:
            on_done()
    return [found[index] for index in range(len(pairs))]


def _batch(question: Question, pairs: list[Pair]) -> Iterator[Explanation]:
    """The explanations of one batch: both towers run once, and each side is held against the other."""
    found = sides(question, pairs)
    image, text = found["image"].trace, found["text"].trace
    answers = {side: question.methods[side](found[side]) for side in found}
    values = {side: found[side].value().tolist() for side in found}
    cosines = F.cosine_similarity(image.embedding, text.embedding, dim=-1).tolist()
    for index, pair in enumerate(pairs):
        yield Explanation(
            pair.caption, answers["image"][index].to("cpu"), answers["text"][index].to("cpu"),
            image.inputs.regions[index], pair.picture.size, cosines[index],
            _score_record(question, {side: values[side][index] for side in values}), question.record["method"],
            **question.facts, source=pair.picture.source, picture=pair.picture,
            warnings=(*question.warnings, *image.inputs.notes[index], *text.inputs.notes[index],
                      *_unmet(answers, index)),
        )  # fmt: skip


def _unmet(answers: dict[str, Attribution], index: int) -> Iterator[str]:
    """What is to be said of sums that a tolerance asked for and that did not come to hold."""
    for side, answer in answers.items():
        told = answer[index].narrowing
        if told is not None and told.missed:
            yield (f"the gap of the {side} side, {float(told.gap):.2g}, is above the tolerance after "
                   f"{int(told.steps)} nodes: the sum of its scores is not complete")  # fmt: skip


def _score_record(question: Question, values: dict[str, float]) -> dict[str, Any]:
    """What was explained, with its value on the image side, and on the text side where that differs in kind."""
    names = {side: type(target).__name__.lower() for side, target in question.targets.items()}
    sides = {side: {"target": name, "value": values[side]} for side, name in names.items()}
    return {**question.record["target"], "value": values["image"], **sides}
