"""Public entry points: ``explain``, ``rank`` and ``explain_labels``."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, overload

from torch import nn

from nibt.data.images import ImageSource, NamedImage, read_image
from nibt.data.pair import Caption, Pair, make_pairs, modality, read_caption
from nibt.engine.answers import explain_pairs
from nibt.engine.encode import encode
from nibt.engine.spec import resolve
from nibt.engine.targets import Contrast
from nibt.errors import BadInput
from nibt.methods.base import Method, MethodSpec
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.options import BatchSize, Megabytes, parsed
from nibt.progress import OnProgress, no_progress
from nibt.registry import find
from nibt.results.explanation import Comparison, Explanation, Ranked
from nibt.torch_modes import plain_torch

_Model: TypeAlias = Model | str | Path | nn.Module
_Text: TypeAlias = str | Caption
_Texts: TypeAlias = _Text | Sequence[_Text]


@overload
def explain(model: _Model, first: ImageSource, second: _Text, *rest: Any, **options: Any) -> Explanation: ...
@overload
def explain(model: _Model, first: Caption, second: _Text, *rest: Any, **options: Any) -> Comparison: ...
@overload
def explain(model: _Model, first: ImageSource, second: NamedImage, *rest: Any, **options: Any) -> Comparison: ...
@overload
def explain(
    model: _Model, first: ImageSource | Sequence[ImageSource], second: _Texts, *rest: Any, **options: Any
) -> list[Explanation]: ...
@overload
def explain(
    model: _Model, first: Caption | Sequence[Caption], second: _Texts, *rest: Any, **options: Any
) -> list[Comparison]: ...
@overload
def explain(
    model: _Model,
    first: ImageSource | Sequence[ImageSource],
    second: NamedImage | Sequence[NamedImage],
    *rest: Any,
    **options: Any,
) -> list[Comparison]: ...
@plain_torch()
def explain(
    model: _Model,
    first: ImageSource | Caption | Sequence[ImageSource | Caption],
    second: _Text | NamedImage | Sequence[_Text | NamedImage] = (),
    method: str | MethodSpec | Method = "nib",
    target: str = "cosine",
    *,
    variant: str = "default",
    against: _Texts = (),
    against_images: ImageSource | Sequence[ImageSource] = (),
    templates: Sequence[str] = (),
    batch_size: int = 8,
    seed: int | None = None,
    sample: Sequence[Pair] | None = None,
    memory_mb: float | None = None,
    on_progress: OnProgress = no_progress,
    **options: Any,
) -> Explanation | Comparison | list[Explanation] | list[Comparison]:
    """Explain which parts of an image, and which words of a caption, make the model match them.

    Two images, or two captions, are compared in the same way: the maps then show what makes them similar.

    Args:
        model: A loaded model, or what ``load_model`` takes: a name, a folder or a module.
        first: An image (a string is a path or ``sample:NAME``), a ``Caption``, or a list of either.
        second: A caption (a string), an image that is not a string (``Path``, PIL image, array, tensor), or a list of
            either. Two lists must have the same length and are paired item by item. A list and a single item pair
            every item of the list with the single one.
        method: The name of the method, its text with a variant and options (``"nib:paper steps=5"``), or a
            ``Method``.
        target: The name of the target, the score that is explained.
        variant: A variant of the method: "default", or "paper" for the published setting.
        against: Captions that the target compares with, on the image side or for two captions.
        against_images: Images that the target compares with, on the text side or for two images.
        templates: Templates of captions with ``{}``, for the target ``ensemble``.
        batch_size: The largest number of pairs that go through the model together.
        seed: A seed for methods that draw at random.
        sample: The pairs on which ``layer="auto"`` is chosen; None means the samples of the package.
        memory_mb: The approximate memory in MB for hidden states that go through the model together, with their
            gradients. None uses little memory compared with the model.
        on_progress: Called after each batch with the number of pairs that are done.
        **options: Options of the method, for both sides (``steps=8``) or one side (``image_layer=6``,
            ``text_layer=0``). ``layer="auto"`` chooses the layer with the smallest deletion area on ``sample``.
            ``along_path=True`` averages a gradient method (``grad_cam``) along NIB's path. ``views=5`` explains five
            windows on each image, shifted by parts of a patch, for a map finer than the patches.

    Returns:
        An ``Explanation`` of an image with a caption, or a ``Comparison`` of two images or two captions. A list of them
        if ``first`` or ``second`` is a list.

    Raises:
        BadInput: An image or a caption cannot be read, or lists differ in length or mix images and captions.
        UnknownName: No method, target, variant or option has that name.
        BadOption: An option has an invalid value.
        CannotLoad: The model cannot be loaded.

    Examples:
        >>> answer = explain("lite", "sample:chelsea", "a cat")
        >>> round(answer.similarity, 1) > 0.1, answer.image.grid.tolist() == answer.to_json()["image"]["grid"]
        (True, True)
        >>> answer = explain("lite", Caption("a cat"), "a red car")
        >>> [word.text for word in answer.second.words]
        ['a', 'red', 'car']
    """
    if isinstance(second, tuple) and not second:
        raise BadInput(
            "explain needs a model, an image and a caption (got two of them): put the model first, as in "
            'nibt.explain("lite", "photo.jpg", "a cat")'
        )
    batch_size = parsed("batch_size", batch_size, BatchSize)
    memory_mb = parsed("memory_mb", memory_mb, Megabytes | None)
    method_spec = MethodSpec.of(method, variant, options)  # names are checked before a model is loaded
    find("targets", target)
    model = load_model(model)
    pairs, many = make_pairs(first, second)
    contrast = Contrast.of(against, against_images, templates)
    modalities = modality(pairs[0].items[0]), modality(pairs[0].items[1])
    spec = resolve(model, method_spec, target, contrast, modalities=modalities, sample=sample, seed=seed)
    answers: Any = explain_pairs(replace(spec, memory=memory_mb), pairs, batch_size, on_progress)
    return answers if many else answers[0]


@plain_torch()
def rank(model: _Model, image: ImageSource, labels: Sequence[_Text]) -> list[Ranked]:
    """Rank labels by their cosine with an image (zero-shot classification), the best first.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        image: The image.
        labels: The labels, at least two.

    Raises:
        BadInput: There are fewer than two labels, one is blank, or one occurs twice.

    """
    names = read_labels(labels)
    model = load_model(model)
    image = encode(model.image, [read_image(image)])
    cosines = model.similarity.to_each(image, encode(model.text, names))[0].float()
    shares = (model.scale * cosines).softmax(0)
    order = cosines.argsort(descending=True, stable=True).tolist()
    return [Ranked(names[index], float(cosines[index]), float(shares[index])) for index in order]


def read_labels(labels: Sequence[_Text]) -> list[str]:
    """Check labels and return their texts."""
    if isinstance(labels, str | Caption):
        raise BadInput("labels must be a list of texts (got a single text)")
    if len(labels) < 2:
        raise BadInput(f"give at least two labels to rank (got {len(labels)})")
    texts = [read_caption(label) for label in labels]
    double = next((text for text in texts if texts.count(text) > 1), None)
    if double is not None:
        raise BadInput(f"the label {double!r} occurs {texts.count(double)} times: give each label once")
    return texts


def explain_labels(
    model: _Model,
    image: ImageSource,
    labels: Sequence[_Text],
    method: str | MethodSpec | Method = "nib",
    **options: Any,
) -> Explanation:
    """Rank labels, and explain the best label against the second best, with the target ``difference``.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        image: The image.
        labels: The labels, at least two.
        method: The name of the method, its text with a variant and options (``"nib:paper steps=5"``), or a
            ``Method``.
        **options: Other arguments and options of ``explain``.

    Returns:
        The explanation of the best label, with all labels in ``ranking``.

    Raises:
        BadInput: There are fewer than two labels, one is blank, or one occurs twice.

    """
    labels, image = read_labels(labels), read_image(image)
    model = load_model(model)
    ranking = rank(model, image, labels)
    answer = explain(model, image, ranking[0].label, method, "difference", against=ranking[1].label, **options)
    return replace(answer, ranking=tuple(ranking))
