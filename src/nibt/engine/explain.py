"""Where the parts first meet: from a model and pairs to explanations.

``explain`` resolves what is left open (layers, fallbacks) and has every pair answered. The rest of the house is called
from here and knows nothing of it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, overload

import torch.nn.functional as F
from torch import nn

from nibt.data.images import ImageSource, NamedImage, read_image
from nibt.data.pair import Caption, Pair, make_pairs, modality, read_caption
from nibt.engine.answers import explain_pairs
from nibt.engine.encode import encode
from nibt.engine.spec import resolve
from nibt.engine.targets import Contrast
from nibt.errors import BadInput, BadOption
from nibt.methods.base import MethodSpec
from nibt.models._loading import load_model
from nibt.models.base import Model
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
    second: _Text | NamedImage | Sequence[_Text | NamedImage],
    method: str = "nib",
    target: str = "cosine",
    *,
    variant: str = "default",
    against: _Texts = (),
    against_images: ImageSource | Sequence[ImageSource] = (),
    templates: Sequence[str] = (),
    batch_size: int = 8,
    seed: int | None = None,
    sample: Sequence[Pair] | None = None,
    memory: float | None = None,
    on_progress: OnProgress = no_progress,
    **options: Any,
) -> Explanation | Comparison | list[Explanation] | list[Comparison]:
    """Explain which parts of an image, and which words of a caption, make the model think that they belong together;
    or which parts of two images, or which words of two captions.

    A string is an image's path in first place, and a caption in second. An image in second place that is no string
    (``Path``, PIL image, array, tensor) is compared with the first, and so are two captions of which the first is a
    ``Caption``: that gives a ``Comparison``, whose maps tell why both are alike. Two lists of the same length are
    pairs; a list in one place goes with the single thing in the other. A list gives a list. All pairs of one call are
    of one kind.

    Options of the method hold for both sides (``steps=8``) or one (``image_layer=6``, ``text_layer=0``);
    ``layer="auto"`` chooses by deletion on ``sample``, or on the images that ship with the package, for images
    with captions only. ``along_path=True`` averages a method of one gradient (``grad_cam``) along NIB's path, and
    gives it the path's options; ``shifts=2`` explains 2 x 2 shifts of each image by parts of a patch, which makes a
    map of any method twice as fine in both directions. Captions in ``against`` serve the image side of a target that
    contrasts, images in ``against_images`` the text side; two images are contrasted with images, two captions
    with captions.

    ``memory``: about how many MB the states that go through a tower together may take, with what is kept of them for a
    gradient; one state of a batch goes through in any case. Without it, that is little beside the model itself.

    Raises:
        BadInput: An image or a caption cannot be read, or lists differ in length or hold both kinds.
        UnknownName: No method, target, variant or option has that name.
        BadOption: An option cannot have that value.
        CannotLoad: The model cannot be loaded.

    Examples:
        >>> answer = explain("lite", "sample:chelsea", "a cat")
        >>> round(answer.similarity, 1) > 0.1, answer.image.grid.tolist() == answer.to_json()["image"]["grid"]
        (True, True)
        >>> answer = explain("lite", Caption("a cat"), "a red car")
        >>> [word.text for word in answer.second.words]
        ['a', 'red', 'car']
    """
    if batch_size < 1:
        raise BadOption(f"batch_size must be at least 1 (got {batch_size})")
    if memory is not None and not memory > 0:
        raise BadOption(f"memory must be above 0 MB (got {memory})")
    for kind, name in (("methods", method), ("targets", target)):
        find(kind, name)  # names are checked before a model is loaded
    model = load_model(model)
    pairs, many = make_pairs(first, second)
    contrast = Contrast.of(against, against_images, templates)
    modalities = modality(pairs[0].items[0]), modality(pairs[0].items[1])
    method_spec = MethodSpec(method, variant, options)
    spec = resolve(model, method_spec, target, contrast, modalities=modalities, sample=sample, seed=seed)
    answers: Any = explain_pairs(replace(spec, memory=memory), pairs, batch_size, on_progress)
    return answers if many else answers[0]


@plain_torch()
def rank(model: _Model, image: ImageSource, labels: Sequence[_Text]) -> list[Ranked]:
    """Labels from best to worst: zero-shot classification.

    Raises:
        BadInput: There are fewer than two labels, one is blank, or one is given twice.

    """
    read = read_labels(labels)
    model = load_model(model)
    texts = F.normalize(encode(model.text, read), dim=-1)
    image = F.normalize(encode(model.image, [read_image(image)]), dim=-1)
    cosines = (texts @ image[0]).float()
    shares = (model.scale * cosines).softmax(0)
    order = cosines.argsort(descending=True, stable=True).tolist()
    return [Ranked(read[index], float(cosines[index]), float(shares[index])) for index in order]


def read_labels(labels: Sequence[_Text]) -> list[str]:
    """The labels as texts, checked before a model is loaded.

    Raises:
        BadInput: There are fewer than two labels, one is blank, or one is given twice.

    """
    if isinstance(labels, str | Caption):
        raise BadInput("labels must be a list of texts (got one text)")
    if len(labels) < 2:
        raise BadInput(f"give at least two labels to rank (got {len(labels)})")
    texts = [read_caption(label) for label in labels]
    double = next((text for text in texts if texts.count(text) > 1), None)
    if double is not None:
        raise BadInput(f"the label {double!r} is given {texts.count(double)} times: give each label once")
    return texts


def explain_labels(
    model: _Model,
    image: ImageSource,
    labels: Sequence[_Text],
    method: str = "nib",
    **options: Any,
) -> Explanation:
    """The zero-shot view: labels are ranked, and the first is explained against the second.

    Raises:
        BadInput: There are fewer than two labels, one is blank, or one is given twice.

    """
    labels, image = read_labels(labels), read_image(image)
    model = load_model(model)
    ranking = rank(model, image, labels)
    answer = explain(model, image, ranking[0].label, method, "difference", against=ranking[1].label, **options)
    return replace(answer, ranking=tuple(ranking))
