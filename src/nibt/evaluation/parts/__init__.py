"""Parts of evidence: what a model looks at over a data set, whether that decides, and by how much.

``evidence`` finds the cells that carry the positive scores, ``groups`` and ``clusters`` group them, ``effects``
exchanges them between images, ``names`` compares them with texts, ``gallery`` draws them, ``measured`` puts their
descriptions together, and ``found`` does all of this for maps that are computed already. ``stored`` reads maps that
were computed before. ``space`` finds parts in other images, for the share that they decide (``used``) and for their
scores in one map (``scores``). ``words`` and ``word_effects`` do the same for the words of captions.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nibt.data.pair import Pair, as_list, read_caption
from nibt.errors import BadOption
from nibt.evaluation.finished import finished_work
from nibt.evaluation.parts.asked import asked_parts, on_steps
from nibt.evaluation.parts.found import MOST_CLUSTERS, STEPS, found_parts
from nibt.methods.base import Method
from nibt.models._loading import ModelSource
from nibt.progress import OnProgress, reporter
from nibt.registry import MethodSpec
from nibt.results.explanation import Explanation
from nibt.results.parts import Parts
from nibt.torch_modes import plain_torch


@plain_torch()
def parts(
    model: ModelSource,
    pairs: Sequence[Pair | tuple[Any, ...]],
    method: str | MethodSpec | Method = "nib:fast",
    *,
    layer: int | None = None,
    count: int | None = None,
    texts: Sequence[str] | None = None,
    explanations: Sequence[Explanation] | None = None,
    seed: int = 0,
    batch_size: int = 16,
    folder: str | Path | None = None,
    data: Mapping[str, Any] | None = None,
    on_progress: OnProgress | None = None,
) -> Parts:
    """Find what is alike among the places that carry the positive scores of many images, and whether it decides.

    The cells that hold 60 % of the positive score of each image are clustered by their hidden states. The cells of each
    cluster, a part, are then completed, and exchanged for those of an image with another caption. This shows how far
    the part is needed and sufficient. A part that is needed and beside the named objects is a shortcut. Without masks
    or boxes of the objects, there is no verdict: look at the gallery.

    With masks or boxes, cells beside the objects are clustered apart from those on them. No list of suspects is needed,
    but a part must be somewhere: a tint of the whole image, or the size of an object, cannot be found.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        pairs: Pairs of an image and its right caption, or tuples of both, perhaps with a mask of the object.
        method: A method with maps of the image side, with its variant and options.
        layer: The layer of the image tower whose hidden states describe cells; None means two thirds of its depth.
        count: The number of clusters; with masks, at least one on the objects and one beside them. A larger one splits
            parts, a smaller one mixes them. None means one per 10 pairs, but at least 2 and at most 12.
        texts: The texts that parts are named by, such as nouns; an empty list for no names. None means the everyday
            nouns that the model knows.
        explanations: Explanations of the pairs in their order, such as those of a job (``Job.explained_pairs``), whose
            maps are used in place of those of ``method``. None means that the maps are computed.
        seed: The seed of all random draws.
        batch_size: The largest number of pairs that go through the model together.
        folder: A folder that keeps finished work. If a call was stopped, the same call with this folder goes on. Delete
            the folder when you do not need it any more.
        data: The origin of the pairs, which is saved with the result.
        on_progress: Called when a step begins.

    Returns:
        The parts: shortcuts first, then those with the largest shares of the score.

    Raises:
        BadInput: All images or all captions are the same, no image has a positive score, or the explanations are of
            other pairs, of another model or of another target than the cosine.
        BadOption: An option has an invalid value, or the layer has another grid than the maps, or several.
        UnknownName: No method, variant or option has that name.

    Examples:
        >>> from nibt.datasets.scenes import Scenes
        >>> parts("scenes", list(Scenes(count=1)))
        Traceback (most recent call last):
        nibt.errors.BadInput: parts needs at least two different images (got 1 pair): cells are exchanged between them
    """
    started = time.perf_counter()
    report = reporter(on_progress)
    named_by = None if texts is None else _different(texts)
    asked = asked_parts(
        Parts.kind,
        "image",
        model,
        pairs,
        method,
        layer=layer,
        count=count,
        most=MOST_CLUSTERS,
        explanations=explanations,
        seed=seed,
        batch_size=batch_size,
        data=data,
    )
    on_step = on_steps(report, 1 + len(STEPS) + asked.count)

    with finished_work(folder, {**asked.request, "versions": asked.versions}) as finished:
        on_step("maps")
        found = found_parts(
            asked.model,
            asked.pairs,
            asked.maps(finished),
            asked.method_name,
            layer=asked.layer,
            count=asked.count,
            texts=named_by,
            seed=asked.seed,
            batch_size=asked.batch_size,
            data=asked.data,
            versions=asked.versions,
            finished=finished,
            on_step=on_step,
        )

    return replace(found, seconds=time.perf_counter() - started)


def _different(texts: Sequence[str]) -> list[str]:
    """Read the texts that parts are named by, without repetitions: of equal texts, none is nearer."""
    different = [*dict.fromkeys(read_caption(text, "text") for text in as_list(texts))]
    if len(different) == 1:
        raise BadOption(
            f"texts must have at least two different texts, of which one is nearer (got 1, {different[0]!r:.60}); an "
            "empty list for no names"
        )
    return different
