"""Public entry points: ``explain`` and ``compare``."""

from collections.abc import Sequence
from dataclasses import replace
from typing import overload

from nibt.data.images import ImageSource, NamedImage, is_image_name, read_image
from nibt.data.pair import Caption, Item, Items, Pair, RequestedPairs, Text, Texts, as_list, make_pairs, modality
from nibt.engine.batches import explain_batches
from nibt.engine.explanations import to_explanations
from nibt.engine.spec import Request, resolve
from nibt.engine.targets import Contrast
from nibt.errors import BadInput
from nibt.methods.base import Method
from nibt.models._loading import ModelSource, load_model
from nibt.options import LayerOption
from nibt.progress import OnProgress, Progress, reporter
from nibt.registry import MethodSpec
from nibt.results.explanation import Explanation
from nibt.torch_modes import plain_torch


@overload
def explain(
    model: ModelSource,
    image: ImageSource,
    caption: Text,
    method: str | MethodSpec | Method = ...,
    target: str | None = ...,
    *,
    variant: str | None = ...,
    against: Texts = ...,
    against_images: ImageSource | Sequence[ImageSource] = ...,
    templates: Sequence[str] = ...,
    batch_size: int = ...,
    seed: int | None = ...,
    memory_mb: float | None = ...,
    on_progress: OnProgress | None = ...,
    views: int | None = ...,
    layer: LayerOption | None = ...,
    steps: int | None = ...,
    quadrature: str | None = ...,
    baseline: str | None = ...,
    tolerance: float | None = ...,
    amounts: str | None = ...,
    **options: object,
) -> Explanation: ...
@overload
def explain(
    model: ModelSource,
    image: ImageSource | Sequence[ImageSource],
    caption: Texts,
    method: str | MethodSpec | Method = ...,
    target: str | None = ...,
    *,
    variant: str | None = ...,
    against: Texts = ...,
    against_images: ImageSource | Sequence[ImageSource] = ...,
    templates: Sequence[str] = ...,
    batch_size: int = ...,
    seed: int | None = ...,
    memory_mb: float | None = ...,
    on_progress: OnProgress | None = ...,
    views: int | None = ...,
    layer: LayerOption | None = ...,
    steps: int | None = ...,
    quadrature: str | None = ...,
    baseline: str | None = ...,
    tolerance: float | None = ...,
    amounts: str | None = ...,
    **options: object,
) -> list[Explanation]: ...
@plain_torch()
def explain(
    model: ModelSource,
    image: ImageSource | Sequence[ImageSource],
    caption: Texts = (),
    method: str | MethodSpec | Method = "nib",
    target: str | None = None,
    *,
    variant: str | None = None,
    against: Texts = (),
    against_images: ImageSource | Sequence[ImageSource] = (),
    templates: Sequence[str] = (),
    batch_size: int = 8,
    seed: int | None = None,
    memory_mb: float | None = None,
    on_progress: OnProgress | None = None,
    views: int | None = None,
    layer: LayerOption | None = None,
    steps: int | None = None,
    quadrature: str | None = None,
    baseline: str | None = None,
    tolerance: float | None = None,
    amounts: str | None = None,
    **options: object,
) -> Explanation | list[Explanation]:
    """Explain which parts of an image, and which words of a caption, make the model match them.

    Args:
        model: A loaded model, or what ``load_model`` takes: a name, a folder or a module.
        image: An image (a string is a path or ``sample:NAME``), or a list of images.
        caption: A caption, or a list of captions. Two lists of one length are paired item by item; a single item, or a
            list of one, is paired with every item of the other list.
        method: The name of the method, its text with a variant and options (``"nib:paper steps=5"``), or a
            ``Method`` for both sides, which keeps its own values.
        target: The name of the target, the score that is explained. None means ``cosine``, or ``difference`` if
            there is something to compare with, or ``ensemble`` with templates.
        variant: A variant of the method: "default", or "paper" for the published setting. None means that of its text.
        against: Captions that the target compares with, on the image side.
        against_images: Images that the target compares with, on the text side.
        templates: Templates of captions with ``{}``, for the target ``ensemble``.
        batch_size: The largest number of pairs that go through the model together.
        seed: A seed for methods that draw at random.
        memory_mb: The approximate memory in MB for hidden states that go through the model together, with their
            gradients. None means little memory compared with that of the model.
        on_progress: Called after each batch with the number of pairs that are done.
        views: An option of all methods: the number of times that each image is explained, shifted by fractions of a
            patch, for a map that is finer than the patches. This option and those below are left to the method if they
            are None; methods that lack them reject them.
        layer: An option of ``nib`` and of methods of a layer: a layer, a share of the depth, or several layers, whose
            maps are averaged.
        steps: An option of ``nib`` and other methods of a path: the number of gradients along the path.
        quadrature: An option of these methods: the rule that places the steps, such as ``midpoint``.
        baseline: An option of these methods: the state at the start of the path, such as ``blank``.
        tolerance: An option of ``nib``: the largest allowed gap of the sum of the scores, such as 0.01.
        amounts: An option of all methods: what the sizes of the scores measure, ``method`` or ``removal``.
        **options: Further options of the method (its page lists them), such as ``budget=256`` for ``banzhaf``. The
            prefix ``image_`` or ``text_`` limits an option to one side: ``image_layer=6``.

    Returns:
        An ``Explanation``, or a list of them if ``image`` or ``caption`` is a list.

    Raises:
        BadInput: An image or a caption cannot be read, or lists differ in length.
        UnknownName: No method, target, variant or option has that name.
        BadOption: An option has an invalid value.
        CannotLoad: The model cannot be loaded.

    Examples:
        >>> import nibt
        >>> explanation = nibt.explain("scenes", "sample:scene", "a cat")
        >>> explanation.grid.shape  # rows x columns; positive scores raise the similarity
        torch.Size([24, 24])
        >>> [(word.text, round(word.score, 2)) for word in explanation.words]
        [('a', 0.0), ('cat', 0.13)]
        >>> explanation.save("cat.png")  # doctest: +SKIP
    """
    # without a model, the image and the caption are in the places of the model and the image
    if isinstance(caption, tuple) and not caption:
        raise BadInput(
            "explain needs a model, an image and a caption (got two of them): put the model first, as in "
            'nibt.explain("lite", "photo.jpg", "a cat")'
        )

    # editors complete these options, since they are parameters; all others are looked up by the method
    common_options = {
        "views": views,
        "layer": layer,
        "steps": steps,
        "quadrature": quadrature,
        "baseline": baseline,
        "tolerance": tolerance,
        "amounts": amounts,
    }
    options |= {name: value for name, value in common_options.items() if value is not None}

    requested = make_pairs(image, caption, "explain")
    request = Request(
        MethodSpec.of(method, variant, options, seed),
        target,
        Contrast.of(against, against_images, templates),
        seed=seed,
        batch_size=batch_size,
        memory_mb=memory_mb,
    )
    return _explain(model, requested, request, on_progress)


@plain_torch()
def compare(
    model: ModelSource,
    first: Items,
    second: Items,
    method: str | MethodSpec | Method = "nib",
    target: str | None = None,
    *,
    variant: str | None = None,
    against: Items = (),
    batch_size: int = 8,
    seed: int | None = None,
    memory_mb: float | None = None,
    on_progress: OnProgress | None = None,
    **options: object,
) -> Explanation | list[Explanation]:
    """Explain which parts of two images, or which words of two captions, make them similar.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        first: An image, a caption, or a list of either. A string that names a file, an address or a sample is an image,
            and any other string is a caption. To be explicit, use ``Path`` or ``Caption``.
        second: What each of ``first`` is compared with, paired as in ``explain``.
        method: The method, as in ``explain``.
        target: The name of the target, as in ``explain``.
        variant: A variant of the method; None means that of its text, or ``default``.
        against: Further images or captions that the target compares with.
        batch_size: The largest number of pairs that go through the model together.
        seed: A seed for methods that draw at random.
        memory_mb: The approximate memory in MB for hidden states, as in ``explain``.
        on_progress: Called after each batch with the number of pairs that are done.
        **options: Options of the method.

    Returns:
        An ``Explanation`` with the sides ``first`` and ``second``, or a list of them if ``first`` or ``second`` is a
        list.

    Raises:
        BadInput: An input cannot be read, lists differ in length, or an image is given with a caption.
        UnknownName: No method, target, variant or option has that name.
        BadOption: An option has an invalid value.
        CannotLoad: The model cannot be loaded.

    Examples:
        >>> explanation = compare("lite", "a cat", "a red car")
        >>> [word.text for word in explanation.second.words]
        ['a', 'red', 'car']
    """
    requested = make_pairs(_all_marked(first), _all_marked(second))
    for pair in requested.pairs:
        if isinstance(pair, Pair):
            raise BadInput(
                f"compare takes two images or two captions (got an image and the caption {pair.caption!r}): use explain"
            )

    others = [marked(item) for item in as_list(against)]
    captions = [item for item in others if isinstance(item, Caption)]
    images = [item for item in others if not isinstance(item, Caption)]
    request = Request(
        MethodSpec.of(method, variant, options, seed),
        target,
        Contrast.of(captions, images, ()),
        seed=seed,
        batch_size=batch_size,
        memory_mb=memory_mb,
    )
    return _explain(model, requested, request, on_progress)


def marked(item: Item) -> NamedImage | Caption:
    """Return an input in which a string is marked as an image or a caption."""
    if not isinstance(item, str):
        return item
    return read_image(item) if is_image_name(item) else Caption(item)


def _all_marked(items: Items) -> Items:
    """Return an input, or a list of them, in which each string is marked."""
    if isinstance(items, list | tuple):
        return list(map(marked, items))
    return marked(items) if isinstance(items, str) else items


def _explain(
    model: ModelSource, requested: RequestedPairs, request: Request, on_progress: OnProgress | None
) -> Explanation | list[Explanation]:
    """Explain pairs with a model, which is loaded after everything else was read."""
    report = reporter(on_progress)
    model = load_model(model)
    pairs = requested.pairs
    modalities = modality(pairs[0].items[0]), modality(pairs[0].items[1])

    # a result also shows the map of what the pair is compared with, which metrics do not need
    request = replace(request, contrast=replace(request.contrast, explained=True))
    spec = resolve(model, request, modalities)

    # batches are in an order of their own, so explanations are collected by the positions of their pairs
    explanations: dict[int, Explanation] = {}
    for batch in explain_batches(spec, pairs, request.batch_size):
        explanations |= dict(zip(batch.indices, to_explanations(spec, batch), strict=True))
        report(Progress(len(explanations), len(pairs)))

    return requested.as_requested([explanations[index] for index in range(len(pairs))])
