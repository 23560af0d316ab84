"""The maps of explanations that were computed before, such as those of a job."""

from collections.abc import Sequence

import numpy as np

from nibt.data.pair import Pair
from nibt.errors import BadInput
from nibt.evaluation.explained import check_explained
from nibt.evaluation.maps import Map
from nibt.models.base import Model
from nibt.results.base import require_result
from nibt.results.explanation import Explanation, method_text
from nibt.types import Modality


def stored_maps(
    model: Model, pairs: Sequence[Pair], explanations: Sequence[Explanation], side: Modality = "image"
) -> tuple[list[Map], str]:
    """Return the maps of one side of pairs, and the name of their method.

    Raises:
        BadInput: The explanations are of other pairs, of another model or of another target than the cosine, or their
            methods differ, or one has no map of this side.
    """
    if len(explanations) != len(pairs):
        raise BadInput(
            f"explanations must have one explanation for each of the {len(pairs)} pairs (got {len(explanations)})"
        )

    maps = []
    for place, (pair, explanation) in enumerate(zip(pairs, explanations, strict=True)):
        require_result(explanation, "parts", Explanation)
        check_explained(explanation, model, "parts")
        _check_target(explanation)
        if explanation.image.image_hash != pair.image.digest or explanation.caption != pair.caption:
            raise BadInput(
                f"explanations[{place}] is of another image or caption than pairs[{place}], {pair.image.source} with "
                f"{pair.caption!r:.60}: explain the pairs again if they were changed"
            )
        if explanation.method != explanations[0].method:
            raise BadInput(
                f"explanations must be of one method with the same options (explanations[{place}] is of another one "
                "than the first)"
            )

        maps.append(_map_of(explanation, side))

    return maps, method_text(explanations[0].method)


def _map_of(explanation: Explanation, side: Modality) -> Map:
    """Return the map of one side of an explanation."""
    if side == "image":
        return Map(explanation.grid.double().numpy(), region=explanation.region)
    words = explanation.words
    return Map(np.array([word.score for word in words]), tuple(word.text for word in words))


def _check_target(explanation: Explanation) -> None:
    """Check that a map explains the similarity that exchanges of cells change."""
    name = explanation.target["name"]
    is_classifier = explanation.model.get("similarity") == "logit"
    if name != ("logit" if is_classifier else "cosine"):
        raise BadInput(
            f"parts takes maps of the cosine (got the target {name}), since exchanges change the cosine: explain the "
            "pairs without a target, and without what they are compared with"
        )
