"""Explanations as samples of FiftyOne, with the map as a heat map."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from nibt.errors import BadInput, Unsupported
from nibt.results.explanation import Explanation, method_text


def heatmap(explanation: Explanation) -> Any:
    """Return the map of an image as a heat map.

    Args:
        explanation: An explanation of an image.

    Returns:
        A ``fiftyone.Heatmap`` with the signed scores in the pixels of the image, float32, 0 where the model did not
        look. Its range is from minus to plus the largest absolute score.

    Raises:
        BadInput: The explanation has no map of an image.
        Unsupported: FiftyOne is not installed.
    """
    scores = np.nan_to_num(_image(explanation).heatmap())
    reach = float(np.abs(scores).max()) or 1.0
    return _package().Heatmap(map=scores, range=[-reach, reach])


def sample(explanation: Explanation, field: str = "nibt") -> Any:
    """Return the image of an explanation as a sample, for ``fiftyone.Dataset.add_samples``.

    Args:
        explanation: An explanation of an image in a file.
        field: The name of the field of the heat map. ``FIELD_caption``, ``FIELD_similarity``, ``FIELD_method`` and
            ``FIELD_notes``, such as that the map is noise, are further fields.

    Returns:
        A ``fiftyone.Sample`` that is in no data set yet.

    Raises:
        BadInput: The explanation has no map of an image, or its image is not in a file.
        Unsupported: FiftyOne is not installed.
    """
    image = _image(explanation)
    if not Path(image.source).is_file():
        raise BadInput(f"FiftyOne shows images in files: explain the path of an image (got {image.source!r:.100})")

    record = _package().Sample(filepath=image.source)
    record[field] = heatmap(explanation)
    record[f"{field}_caption"] = explanation.caption
    record[f"{field}_similarity"] = float(explanation.similarity)
    record[f"{field}_method"] = method_text(explanation.method)
    record[f"{field}_notes"] = list(explanation.warnings)
    return record


def _image(explanation: Explanation) -> Any:
    if not isinstance(explanation, Explanation):
        raise BadInput(f"explanation must be an Explanation of nibt (got {type(explanation).__name__})")
    return explanation.image


def _package() -> Any:
    try:
        return import_module("fiftyone")
    except ImportError as error:
        raise Unsupported("heat maps of FiftyOne need the package fiftyone: pip install fiftyone") from error
