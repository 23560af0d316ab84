"""Rankings of labels of an image, or of images for a caption: ``rank`` and ``explain_ranking``."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from nibt.data.images import ImageInput, ImageSource, NamedImage, is_batch, looks_like_image, read_image
from nibt.data.pair import Caption, Text, read_caption, repeated
from nibt.engine.encode import encode
from nibt.engine.explain import explain, marked
from nibt.errors import BadInput, BadOption
from nibt.methods.base import Method
from nibt.models._loading import ModelSource, load_model
from nibt.models.base import Model
from nibt.registry import MethodSpec
from nibt.results.explanation import Explanation, Ranked
from nibt.targets.base import ClassLogit
from nibt.torch_modes import plain_torch
from nibt.types import Modality


@plain_torch()
def rank(model: ModelSource, query: ImageSource | Text, candidates: Sequence[ImageSource | Text]) -> list[Ranked]:
    """Rank labels by their cosine with an image (zero-shot classification), or images by that with a caption.

    A classifier ranks its own classes by their logits, and their probabilities are those among all of its classes.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        query: An image or a caption; a string is read as in ``compare``.
        candidates: The labels of an image, or the images for a caption, at least two.

    Returns:
        The candidates, the best first.

    Raises:
        BadInput: There are fewer than two candidates, one cannot be read, or one occurs twice.

    Examples:
        >>> [ranked.label for ranked in rank("lite", "sample:chelsea", ["a cat", "a dog", "a car"])]
        ['a cat', 'a dog', 'a car']
        >>> rank("lite", "a cat", ["sample:coffee", "sample:chelsea"])[0].label
        'sample:chelsea'
    """
    read, items = read_ranking(query, candidates)
    return _ranked(load_model(model), read, items)


def _ranked(model: Model, query: ImageInput | Caption, items: Sequence[ImageInput] | Sequence[str]) -> list[Ranked]:
    """Return the ranked candidates, the best first."""
    tokens = [model.text.tokens(item).ids for item in items if isinstance(item, str)]
    double = repeated(tokens)
    if double is not None:
        raise BadInput(
            f"the labels {items[tokens.index(tokens[double])]!r} and {items[double]!r} are the same for the model: "
            "give one of them"
        )

    side: Modality = "text" if isinstance(query, Caption) else "image"
    of_query = encode(model.tower(side), [query.text if isinstance(query, Caption) else query])
    others = encode(model.image if side == "text" else model.text, items)

    compare = model.seen_from(side)
    cosines = compare.to_each(of_query, others)[0].float()
    shares = compare.probabilities(model.scale * cosines)
    if side == "image" and isinstance(model.similarity, ClassLogit):  # among all classes, not only the candidates
        shares = model.similarity.log_probability(of_query, cosines[None])[0].exp()

    order = cosines.argsort(descending=True, stable=True).tolist()
    labels = [item if isinstance(item, str) else item.source for item in items]
    return [Ranked(labels[index], float(cosines[index]), float(shares[index]), index) for index in order]


def read_ranking(query: ImageSource | Text, candidates: Sequence[Any]) -> tuple[ImageInput | Caption, list[Any]]:
    """Read an image with its labels, or a caption with images."""
    query = marked(query)
    of_images = isinstance(query, Caption)
    noun = "images" if of_images else "labels"
    listed = "images" if of_images else "texts, in a file one per line"
    if of_images and is_batch(candidates):
        candidates = list(candidates)
    is_list = isinstance(candidates, Sequence) and not isinstance(candidates, str | Caption)
    if not is_list or len(candidates) < 2:
        got = len(candidates) if is_list else type(candidates).__name__
        raise BadInput(f"{noun} must be a list of at least two {listed} (got {got})")

    if isinstance(query, Caption):
        images = [read_image(candidate) for candidate in candidates]
        query = Caption(read_caption(query))
        _check_once("image", [image.source for image in images], [image.digest for image in images])
        return query, _named_apart(images)

    query = read_image(query)
    for item in candidates:
        if isinstance(item, NamedImage) or (isinstance(item, str) and looks_like_image(item)):
            raise BadInput(
                f"an image is ranked with labels (got the image {item!r:.60}): to rank images, give a caption; to "
                "compare two, use compare; a label of that name is a Caption"
            )

    labels = [read_caption(candidate) for candidate in candidates]
    _check_once("label", labels, labels)
    return query, labels


def _check_once(noun: str, names: Sequence[str], keys: Sequence[Hashable]) -> None:
    """Check that no candidate occurs twice, by its key."""
    double = repeated(keys)
    if double is None:
        return

    first = names[keys.index(keys[double])]
    second = names[double]
    what = f"{noun} {first!r} occurs twice"
    if first != second:
        what = f"{noun}s {first!r} and {second!r} are equal"
    raise BadInput(f"the {what}: give each {noun} once")


def _named_apart(images: Sequence[ImageInput]) -> list[ImageInput]:
    """Return images with a number beside names that several have, as images in memory do."""
    names = [image.source for image in images]
    named = []
    for place, (image, name) in enumerate(zip(images, names, strict=True)):
        named.append(replace(image, source=f"{name} {place}") if names.count(name) > 1 else image)
    return named


@plain_torch()
def explain_ranking(
    model: ModelSource,
    query: ImageSource | Text,
    candidates: Sequence[ImageSource | Text],
    method: str | MethodSpec | Method = "nib",
    **options: Any,
) -> Explanation:
    """Rank labels of an image, or images for a caption, and explain the best one against the second best.

    The target is ``difference``, and the second best candidate is the side ``against``.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        query: An image or a caption; a string is read as in ``compare``.
        candidates: The labels of an image, or the images for a caption, at least two.
        method: The name of the method, its text with a variant and options (``"nib:paper steps=5"``), or a
            ``Method``.
        **options: Other arguments and options of ``explain``.

    Returns:
        The explanation of the best candidate, with all candidates in ``ranking``.

    Raises:
        BadInput: There are fewer than two candidates, one cannot be read, or one occurs twice.

    Examples:
        >>> answer = explain_ranking("lite", "a cat", ["sample:coffee", "sample:chelsea"])
        >>> answer.source, answer.against.source
        ('sample:chelsea', 'sample:coffee')
    """
    for name in ("target", "against", "against_images", "templates"):
        if name in options:
            raise BadOption(f"{name} cannot be set for a ranking, of which the best is explained against the second")

    read, items = read_ranking(query, candidates)
    model = load_model(model)
    ranking = _ranked(model, read, items)
    best, second = (items[ranked.position] for ranked in ranking[:2])
    if isinstance(read, Caption):
        explanation = explain(model, best, read, method, "difference", against_images=second, **options)
    else:
        explanation = explain(model, read, best, method, "difference", against=second, **options)
    return replace(explanation, ranking=tuple(ranking))
